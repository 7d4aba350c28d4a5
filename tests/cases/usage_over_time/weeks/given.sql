-- Weeks begin on Monday: 2 March 2026 is one. By hand: 1 in the week of 23 February, 2 in that of 2 March.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-03-01', 1, '2026-03-01 23:59:59.999'),
    (1, 'b', 'step', '2026-03-02', 1, '2026-03-02 00:00:00.000'),
    (1, 'c', 'event', '2026-03-07', 0, '2026-03-07 23:59:59.999');
