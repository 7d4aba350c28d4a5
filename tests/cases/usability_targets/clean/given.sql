-- Six features with different luck (5 to 10 of 200 fail) and a funnel that loses 10 % at each step: nothing stands
-- out, the list is empty.
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, duration_ns, error_type)
SELECT
    1, concat('feature', toString(f)), k, '2026-03-05', person,
    toDateTime64('2026-03-05 10:00:00', 3, 'UTC') + if(k = 'ended', 2, 0),
    person * 100 + f, if(k = 'started', '', if(person <= 5 + f, 'abandoned', 'completed')), 2000000000,
    if(k = 'ended' AND person <= 5 + f, 'Timeout', '')
FROM (SELECT number + 1 AS person FROM numbers(200))
ARRAY JOIN range(6) AS f
ARRAY JOIN ['started', 'ended'] AS k;
INSERT INTO catalog (project, kind, name, funnel, position, service, release, time)
SELECT 1, 'step', concat('buy.step', toString(number)), 'buy', number, 'shop', '1', '2026-02-01 00:00:00' FROM numbers(6);
INSERT INTO events (project, name, kind, day, unit, time)
SELECT 1, concat('buy.step', toString(place)), 'step', '2026-03-05', person,
    toDateTime64('2026-03-05 10:00:00', 3, 'UTC') + place
FROM (SELECT number + 1 AS person FROM numbers(1000))
ARRAY JOIN range(6) AS place
WHERE person <= 1000 * pow(0.9, place);
