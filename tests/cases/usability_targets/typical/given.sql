-- Six features, each begun once by 200 people; 10 of them fail at each (rate 0.05), and at feature3 100 of them
-- (0.5). By hand: 6 candidates, z = 2.394 (1 - 0.05/6). Wilson at 100 of 200: 0.417 and up; the other five give 1,000
-- attempts, 637 after 1.57: Wilson at 0.05 up to 0.0749. Newcombe: 0.45 - sqrt(0.0834^2 + 0.0249^2) = 0.363. Score
-- 200 a week x 0.363 = 72.6. Time to give up 2 s.
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, duration_ns, error_type)
SELECT
    1, concat('feature', toString(f)), k, '2026-03-05', person,
    toDateTime64('2026-03-05 10:00:00', 3, 'UTC') + if(k = 'ended', 2, 0),
    person * 100 + f, if(k = 'started', '', if(person <= if(f = 3, 100, 10), 'failed', 'completed')), 2000000000,
    if(k = 'ended' AND person <= if(f = 3, 100, 10), 'Timeout', '')
FROM (SELECT number + 1 AS person FROM numbers(200))
ARRAY JOIN range(6) AS f
ARRAY JOIN ['started', 'ended'] AS k;
