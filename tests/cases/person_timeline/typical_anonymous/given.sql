-- By hand: nobody knows who visitor 9 is, so all there is of them is their own; the user of the same id is somebody else.
INSERT INTO units (project, unit, kind, id) VALUES (1, 1, 'user', 'v'), (1, 9, 'anonymous', 'v');
INSERT INTO events (project, name, kind, day, unit, seq, session, time) VALUES
    (1, 'home', 'event', '2026-03-04', 9, 0, 0, '2026-03-04 10:00:00.000'),
    (1, 'pay', 'used', '2026-03-05', 1, 3, 0, '2026-03-05 10:00:01.000');
