-- The rate of feature3 comes from two people who fail 60 times each, the other 198 fail never: one person's attempts
-- are alike, and two are too few, so nothing is named. Another project has the same feature with half of all failing.
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, duration_ns, error_type)
SELECT
    1, concat('feature', toString(f)), k, '2026-03-05', person,
    toDateTime64('2026-03-05 10:00:00', 3, 'UTC') + if(k = 'ended', 2, 0),
    person * 100 + f, if(k = 'started', '', if(person <= if(f = 3, 2, 10), 'failed', 'completed')), 2000000000,
    if(k = 'ended' AND person <= if(f = 3, 2, 10), 'Timeout', '')
FROM (SELECT number + 1 AS person FROM numbers(200))
ARRAY JOIN range(6) AS f
ARRAY JOIN ['started', 'ended'] AS k;
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, duration_ns)
SELECT 1, 'feature3', 'ended', '2026-03-05', number % 2 + 1, '2026-03-05 12:00:00', 1000000 + number, 'failed', 1
FROM numbers(120);
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, duration_ns, error_type)
SELECT
    2, concat('feature', toString(f)), k, '2026-03-05', person,
    toDateTime64('2026-03-05 10:00:00', 3, 'UTC') + if(k = 'ended', 2, 0),
    person * 100 + f, if(k = 'started', '', if(person <= if(f = 3, 100, 10), 'failed', 'completed')), 2000000000,
    if(k = 'ended' AND person <= if(f = 3, 100, 10), 'Timeout', '')
FROM (SELECT number + 1 AS person FROM numbers(200))
ARRAY JOIN range(6) AS f
ARRAY JOIN ['started', 'ended'] AS k;
