-- By hand, in Kathmandu (+5:45), where a day begins at 18:15 UTC. On the 2nd: ann (pro) looks twice, bob (free) once, ann pays
-- 30; on the 3rd (from 18:15 UTC of the 2nd) bob looks; cid, of whom nothing is known, looks. A: looks, B: people who look,
-- C: sum of the amounts. 100 * C / A is 1500 for pro on the 2nd and has no value on the 3rd, when no pro looks.
INSERT INTO events (project, name, kind, day, unit, time, numbers) VALUES
    (1, 'look', 'used', '2026-03-02', 1, '2026-03-02 10:00:00', {}),
    (1, 'look', 'used', '2026-03-02', 11, '2026-03-02 11:00:00', {}),
    (1, 'look', 'used', '2026-03-02', 2, '2026-03-02 18:14:59.999', {}),
    (1, 'pay', 'event', '2026-03-02', 1, '2026-03-02 12:00:00', {'amount': 30}),
    (1, 'pay', 'event', '2026-03-02', 1, '2026-03-02 12:00:00', {}),
    (1, 'look', 'used', '2026-03-02', 2, '2026-03-02 18:15:00', {}),
    (1, 'look', 'ended', '2026-03-02', 2, '2026-03-02 18:16:00', {}),
    (1, 'look', 'used', '2026-03-03', 3, '2026-03-03 10:00:00', {});
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 11, 1, '2026-03-02 10:00:00');
INSERT INTO properties (project, subject, unit, time, strings) VALUES
    (1, 'user', 1, '2026-01-01 00:00:00', {'plan': 'free'}),
    (1, 'user', 1, '2026-02-01 00:00:00', {'plan': 'pro'}),
    (1, 'user', 2, '2026-02-01 00:00:00', {'plan': 'free'}),
    (2, 'user', 3, '2026-02-01 00:00:00', {'plan': 'pro'});
