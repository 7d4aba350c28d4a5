-- By hand: of ten attempts at export nine complete after 1 to 9 seconds (median 5, 90th percentile 9), one by one person
-- fails with Timeout after 30 s. review is begun by 2 and has no end; one of nobody is abandoned.
INSERT INTO events (project, name, kind, day, unit, attempt, time)
    SELECT 1, 'export', 'started', '2026-03-02', 1, number, '2026-03-02 10:00:00' FROM numbers(1, 10);
INSERT INTO events (project, name, kind, day, unit, attempt, time, outcome, duration_ns)
    SELECT 1, 'export', 'ended', '2026-03-02', 1, number, '2026-03-02 10:00:30', 'completed', number * 1000000000 FROM numbers(1, 9);
INSERT INTO events (project, name, kind, day, unit, attempt, time, outcome, duration_ns, error_type) VALUES
    (1, 'export', 'ended', '2026-03-02', 1, 10, '2026-03-02 10:00:30', 'failed', 30000000000, 'Timeout');
INSERT INTO events (project, name, kind, day, unit, attempt, time) VALUES
    (1, 'review', 'started', '2026-03-02', 2, 20, '2026-03-02 10:00:00'),
    (1, 'review', 'started', '2026-03-02', 0, 21, '2026-03-02 10:00:00');
INSERT INTO events (project, name, kind, day, unit, attempt, time, outcome, duration_ns, outcome_reason) VALUES
    (1, 'review', 'ended', '2026-03-02', 0, 21, '2026-03-02 10:00:01', 'abandoned', 1000000000, 'dropped');
