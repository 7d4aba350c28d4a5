-- By hand, in Berlin: Sunday the 29th of March has 23 hours, from 23:00 UTC of the 28th to 22:00 UTC. 1 before, 2 in it
-- (first and last quarter of an hour), 1 after.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-03-28', 1, '2026-03-28 22:59:59'),
    (1, 'a', 'used', '2026-03-28', 1, '2026-03-28 23:00:00'),
    (1, 'a', 'used', '2026-03-29', 1, '2026-03-29 21:59:59'),
    (1, 'a', 'used', '2026-03-29', 1, '2026-03-29 22:00:00');
