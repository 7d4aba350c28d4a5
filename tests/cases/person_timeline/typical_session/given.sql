-- By hand: session 9 was linked to ada (unit 1). Asked for the session, it is all of ada's, and what bob (2) did while he was signed
-- in in the same session; not what he did elsewhere. Another session of the same id belongs to another project.
INSERT INTO units (project, unit, kind, id) VALUES (1, 1, 'user', 'ada'), (1, 2, 'user', 'bob'), (1, 9, 'session', 's-9'), (2, 3, 'session', 's-9');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 9, 1, '2026-03-05 00:00:00');
INSERT INTO events (project, name, kind, day, unit, seq, session, time) VALUES
    (1, 'home', 'event', '2026-03-04', 9, 0, 9, '2026-03-04 10:00:00.000'),
    (1, 'pay', 'used', '2026-03-05', 1, 3, 0, '2026-03-05 10:00:01.000'),
    (1, 'look', 'used', '2026-03-05', 2, 4, 9, '2026-03-05 10:00:02.000'),
    (1, 'pay', 'used', '2026-03-05', 2, 5, 0, '2026-03-05 10:00:03.000'),
    (2, 'pay', 'used', '2026-03-05', 3, 3, 3, '2026-03-05 10:00:01.000');
