-- Weeks begin on Monday: 2, 9, 16 and 23 February; now is Wednesday the 25th. By hand: cohort of the 2nd are 1, 2 and 3
-- (3 as 9, linked). 1 comes back in its own week and in each later one; 2 in the week after next; 3 never again. Cohort
-- of the 9th is 4, who comes back the day after. 5 began in January, before the time looked at, though it is active now.
-- The end of an attempt is neither a start nor a return.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-02-02', 1, '2026-02-02 00:00:00.000'),
    (1, 'a', 'used', '2026-02-08', 1, '2026-02-08 23:59:59.999'),
    (1, 'b', 'used', '2026-02-09', 1, '2026-02-09 00:00:00.000'),
    (1, 'b', 'used', '2026-02-16', 1, '2026-02-16 10:00:00.000'),
    (1, 'b', 'used', '2026-02-24', 1, '2026-02-24 10:00:00.000'),
    (1, 'a', 'used', '2026-02-03', 2, '2026-02-03 10:00:00.000'),
    (1, 'a', 'ended', '2026-02-03', 2, '2026-02-03 10:00:05.000'),
    (1, 'a', 'used', '2026-02-17', 2, '2026-02-17 10:00:00.000'),
    (1, 'a', 'used', '2026-02-04', 9, '2026-02-04 10:00:00.000'),
    (1, 'a', 'used', '2026-02-10', 4, '2026-02-10 10:00:00.000'),
    (1, 'a', 'used', '2026-02-11', 4, '2026-02-11 10:00:00.000'),
    (1, 'a', 'used', '2026-01-20', 5, '2026-01-20 10:00:00.000'),
    (1, 'a', 'used', '2026-02-10', 5, '2026-02-10 10:00:00.000'),
    (2, 'a', 'used', '2026-02-10', 6, '2026-02-10 10:00:00.000');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 9, 3, '2026-02-20 00:00:00.000');
