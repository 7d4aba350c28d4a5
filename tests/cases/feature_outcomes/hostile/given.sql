-- By hand: only the feature asked for, whose name has a quote; a type of error with quotes is a group of its own; an end
-- that comes twice counts once, by its first time; another project has the same attempt.
INSERT INTO events (project, name, kind, day, unit, attempt, time) VALUES
    (1, 'a''b', 'started', '2026-03-02', 1, 1, '2026-03-02 10:00:00'),
    (1, 'other', 'started', '2026-03-02', 1, 2, '2026-03-02 10:00:00'),
    (2, 'a''b', 'started', '2026-03-02', 1, 1, '2026-03-02 10:00:00');
INSERT INTO events (project, name, kind, day, unit, attempt, time, outcome, duration_ns, error_type) VALUES
    (1, 'a''b', 'ended', '2026-03-02', 1, 1, '2026-03-02 10:00:02', 'failed', 2000000000, 'E"x\\y'),
    (1, 'a''b', 'ended', '2026-03-02', 1, 1, '2026-03-02 10:00:03', 'completed', 3000000000, '');
