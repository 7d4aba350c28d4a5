-- Five steps; of 1,000 people 900 reach the second, 810 the third, 300 the fourth, 270 the last. By hand: lost after
-- step2 are 510 of 810 (0.63), after the others 0.1: comparable 0.1. Of the 300 who entered in the last day none
-- counts: they are open.
INSERT INTO catalog (project, kind, name, funnel, position, service, release, time)
SELECT 1, 'step', concat('buy.step', toString(number)), 'buy', number, 'shop', '1', '2026-02-01 00:00:00' FROM numbers(5);
INSERT INTO events (project, name, kind, day, unit, time)
SELECT 1, concat('buy.step', toString(place)), 'step', '2026-03-05', person,
    toDateTime64('2026-03-05 10:00:00', 3, 'UTC') + place
FROM (SELECT number + 1 AS person FROM numbers(1000))
ARRAY JOIN range(5) AS place
WHERE person <= [1000, 900, 810, 300, 270][place + 1];
INSERT INTO events (project, name, kind, day, unit, time)
SELECT 1, 'buy.step0', 'step', '2026-03-07', 2000 + number, '2026-03-07 12:00:00' FROM numbers(300);
