-- Kathmandu is 5:45 ahead, so its 2 March begins at 18:15 UTC. By hand: on the 1st unit 1 (18:14:59.999), on the 2nd
-- 1 and 2 (18:15), nothing on the 3rd, on the 4th nobody. Unit 7 is linked to 1. An end is no activity of its own.
INSERT INTO events (project, name, kind, day, unit, session, time) VALUES
    (1, 'a', 'used', '2026-03-01', 1, 11, '2026-03-01 18:14:59.999'),
    (1, 'a', 'used', '2026-03-01', 7, 17, '2026-03-01 18:15:00.000'),
    (1, 'b', 'step', '2026-03-01', 1, 11, '2026-03-01 18:15:00.000'),
    (1, 'c', 'event', '2026-03-02', 2, 12, '2026-03-02 18:14:59.999'),
    (1, 'd', 'ended', '2026-03-02', 3, 13, '2026-03-02 18:14:59.999'),
    (1, 'a', 'started', '2026-03-03', 0, 0, '2026-03-03 20:00:00.000');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 7, 1, '2026-03-05 00:00:00.000');
