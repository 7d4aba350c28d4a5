-- By hand: ann reads twice (two hours and one hour) before she signs up, and once after. bob was an anonymous session that
-- read four hours before; its end of an attempt counts for nothing. cid reads in the same millisecond: not before. dan
-- never signs up. eve signs up twice: only the first counts.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'read', 'used', '2026-03-02', 1, '2026-03-02 08:00:00'),
    (1, 'read', 'used', '2026-03-02', 1, '2026-03-02 09:00:00'),
    (1, 'signup', 'event', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (1, 'read', 'used', '2026-03-02', 1, '2026-03-02 11:00:00'),
    (1, 'read', 'used', '2026-03-02', 12, '2026-03-02 06:00:00'),
    (1, 'search', 'ended', '2026-03-02', 12, '2026-03-02 05:00:00'),
    (1, 'signup', 'event', '2026-03-02', 2, '2026-03-02 10:00:00'),
    (1, 'read', 'used', '2026-03-02', 3, '2026-03-02 10:00:00'),
    (1, 'signup', 'event', '2026-03-02', 3, '2026-03-02 10:00:00'),
    (1, 'read', 'used', '2026-03-02', 4, '2026-03-02 10:00:00'),
    (1, 'signup', 'event', '2026-03-03', 5, '2026-03-03 10:00:00'),
    (1, 'read', 'used', '2026-03-04', 5, '2026-03-04 10:00:00'),
    (1, 'signup', 'event', '2026-03-05', 5, '2026-03-05 10:00:00');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 12, 2, '2026-03-02 10:00:00');
