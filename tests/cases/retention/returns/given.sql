-- By hand: ann and bob begin (signup) in the week of Monday the 16th of February, cid in the next. Returns are three events.
-- ann asks that week and answers a week later; bob only reads (no return) and answers two weeks later; the name of the
-- third event holds a comma: cid does it a week later.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'signup', 'event', '2026-02-16', 1, '2026-02-16 10:00:00'),
    (1, 'question', 'event', '2026-02-17', 1, '2026-02-17 10:00:00'),
    (1, 'answer', 'event', '2026-02-24', 1, '2026-02-24 10:00:00'),
    (1, 'signup', 'event', '2026-02-18', 2, '2026-02-18 10:00:00'),
    (1, 'read', 'event', '2026-02-25', 2, '2026-02-25 10:00:00'),
    (1, 'answer', 'event', '2026-03-03', 2, '2026-03-03 10:00:00'),
    (1, 'signup', 'event', '2026-02-23', 3, '2026-02-23 10:00:00'),
    (1, 'up, down', 'event', '2026-03-02', 3, '2026-03-02 10:00:00');
