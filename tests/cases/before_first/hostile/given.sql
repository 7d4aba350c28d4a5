-- By hand: names with quotes and a backslash; nobody (unit 0) is left out; another project has the same person.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'it''s "x"', 'event', '2026-03-02', 1, '2026-03-02 08:00:00'),
    (1, 'sign\\up', 'event', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (1, 'it''s "x"', 'event', '2026-03-02', 0, '2026-03-02 08:00:00'),
    (1, 'sign\\up', 'event', '2026-03-02', 0, '2026-03-02 10:00:00'),
    (2, 'theirs', 'event', '2026-03-02', 1, '2026-03-02 08:00:00');
