-- By hand: names with quotes and backslashes, any event as the last step, an attribute whose key has a quote. Unit 0 is
-- nobody. Of 1 the three steps lie a minute apart.
INSERT INTO events (project, name, kind, day, unit, time, strings) VALUES
    (1, 'a\'); DROP TABLE events; --', 'event', '2026-03-02', 1, '2026-03-02 10:00:00', {'pl\'an': 'x\'y'}),
    (1, 'c\\d "`', 'event', '2026-03-02', 1, '2026-03-02 10:01:00', {}),
    (1, 'z', 'event', '2026-03-02', 1, '2026-03-02 10:02:00', {}),
    (1, 'a\'); DROP TABLE events; --', 'event', '2026-03-02', 0, '2026-03-02 10:00:00', {});
