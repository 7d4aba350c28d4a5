-- Weeks of 2, 9, 16 and 23 February, the last not over (now is the 25th). By hand: 1 is active in the weeks of the 2nd, 9th
-- and 23rd: new, returning, dormant, resurrected. 2 is active in January and in the week of the 9th: resurrected, then
-- dormant. 3 is new in the week of the 16th as 9, who is linked to it, and returning in that of the 23rd. An end of an
-- attempt is no activity.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-02-02', 1, '2026-02-02 00:00:00.000'),
    (1, 'a', 'used', '2026-02-09', 1, '2026-02-09 00:00:00.000'),
    (1, 'a', 'ended', '2026-02-16', 1, '2026-02-16 00:00:00.000'),
    (1, 'a', 'step', '2026-02-23', 1, '2026-02-23 00:00:00.000'),
    (1, 'a', 'used', '2026-01-05', 2, '2026-01-05 00:00:00.000'),
    (1, 'a', 'event', '2026-02-15', 2, '2026-02-15 23:59:59.999'),
    (1, 'a', 'used', '2026-02-17', 9, '2026-02-17 00:00:00.000'),
    (1, 'a', 'started', '2026-02-24', 3, '2026-02-24 00:00:00.000');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 9, 3, '2026-02-20 00:00:00.000');
