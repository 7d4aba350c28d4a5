-- By hand: attempt 1 begins at the last millisecond of the range and ends after it: completed. Attempt 2 ends twice,
-- the first end holds: failed. Attempt 3 begins after the range. Attempt 1 of another feature and of another project
-- are other attempts. The quoted feature has only an open attempt, 23 hours old. Of c the
-- guard was dropped at once by mistake: that is no one who gave up.
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, duration_ns) VALUES
    (1, 'a', 'started', '2026-03-06', 1, '2026-03-06 23:59:59.999', 1, '', 0),
    (1, 'a', 'ended', '2026-03-07', 1, '2026-03-07 10:00:00.000', 1, 'completed', 36000001000000),
    (1, 'a', 'started', '2026-03-05', 1, '2026-03-05 10:00:00.000', 2, '', 0),
    (1, 'a', 'ended', '2026-03-05', 1, '2026-03-05 10:00:01.000', 2, 'failed', 1000000000),
    (1, 'a', 'ended', '2026-03-05', 1, '2026-03-05 10:00:02.000', 2, 'completed', 2000000000),
    (1, 'a', 'started', '2026-03-07', 1, '2026-03-07 00:00:00.000', 3, '', 0),
    (1, 'b\'\\"ü', 'started', '2026-03-05', 1, '2026-03-05 01:00:00.000', 1, '', 0),
    (2, 'a', 'started', '2026-03-05', 1, '2026-03-05 10:00:00.000', 1, '', 0),
    (2, 'a', 'ended', '2026-03-05', 1, '2026-03-05 10:00:00.000', 1, 'failed', 0);
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, outcome_reason) VALUES
    (1, 'c', 'started', '2026-03-05', 1, '2026-03-05 10:00:00.000', 9, '', ''),
    (1, 'c', 'ended', '2026-03-05', 1, '2026-03-05 10:00:00.000', 9, 'abandoned', 'ignored');
