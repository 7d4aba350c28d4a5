-- By hand: the id is data, whatever is in it; the two latest of three rows are shown, in order; quotes within attributes stay
-- JSON. A session that has the same text as its id is another person.
INSERT INTO units (project, unit, kind, id) VALUES (1, 1, 'user', 'O\'Hara" OR 1 --'), (1, 2, 'session', 'O\'Hara" OR 1 --');
INSERT INTO events (project, name, kind, day, unit, time, strings) VALUES
    (1, 'a', 'event', '2026-03-05', 1, '2026-03-05 10:00:00', {}),
    (1, 'it\'s', 'event', '2026-03-05', 1, '2026-03-05 10:00:01', {'q"': 'say "hi"\\'}),
    (1, 'c', 'event', '2026-03-05', 1, '2026-03-05 10:00:02', {}),
    (1, 'd', 'event', '2026-03-05', 2, '2026-03-05 10:00:03', {});
