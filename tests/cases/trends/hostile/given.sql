-- By hand: names, keys and values with quotes, backslashes and more; the second value falls into other, nobody (unit 0) counts
-- as an event and as no person; a name of two series counts in both.
INSERT INTO events (project, name, kind, day, unit, time, strings) VALUES
    (1, 'a\'); DROP TABLE events; --', 'event', '2026-03-02', 1, '2026-03-02 10:00:00', {'k\'"': 'v\\'}),
    (1, 'a\'); DROP TABLE events; --', 'event', '2026-03-02', 2, '2026-03-02 10:00:00', {'k\'"': 'v\\'}),
    (1, 'a\'); DROP TABLE events; --', 'event', '2026-03-02', 2, '2026-03-02 10:00:00', {'k\'"': '中'}),
    (1, 'a\'); DROP TABLE events; --', 'event', '2026-03-02', 0, '2026-03-02 10:00:00', {});
