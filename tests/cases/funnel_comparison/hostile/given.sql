-- By hand: two releases whose names hold quotes and backslashes, ten people each; 3 and 9 convert (second example of
-- Newcombe's article: 0.1705 to 0.8090). The later step of some happens under the other release: who began where counts.
INSERT INTO events (project, name, kind, day, unit, time, release)
    SELECT 1, 'a', 'event', toDate('2026-03-03'), number, toDateTime64('2026-03-03 10:00:00', 3, 'UTC'), if(number <= 10, '1\\''; --', '2"')
    FROM numbers(1, 20);
INSERT INTO events (project, name, kind, day, unit, time, release)
    SELECT 1, 'b\\', 'event', toDate('2026-03-03'), number, toDateTime64('2026-03-03 10:01:00', 3, 'UTC'), '2"'
    FROM numbers(1, 20) WHERE number <= 3 OR number BETWEEN 11 AND 19;
