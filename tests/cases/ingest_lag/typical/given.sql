-- By hand: events with lags of 1, 2, 3 and 1,000 s: p50 (rank 2) 2 s, p95 and p99 (rank 4) 1,000 s; the newest
-- happened at 10:00:02 on the 7th, 13:59:58 before now, the last was received at 10:00:05. One sample is 2 ms ahead
-- of its receipt. Further rows of a record (record = 0) do not count.
INSERT INTO events (project, name, kind, day, unit, time, received, record) VALUES
    (1, 'a', 'used', '2026-03-07', 1, '2026-03-07 10:00:00', '2026-03-07 10:00:01', 1),
    (1, 'a', 'used', '2026-03-07', 1, '2026-03-07 10:00:00', '2026-03-07 10:00:02', 1),
    (1, 'a', 'used', '2026-03-07', 1, '2026-03-07 10:00:02', '2026-03-07 10:00:05', 1),
    (1, 'a', 'used', '2026-03-07', 1, '2026-03-07 09:00:00', '2026-03-07 09:16:40', 1),
    (1, 'a', 'used', '2026-03-07', 1, '2026-03-07 09:00:00', '2026-03-07 09:59:59', 0);
INSERT INTO query_samples (project, fingerprint, day, time, received, record) VALUES
    (1, 1, '2026-03-07', '2026-03-07 10:00:00.123456789', '2026-03-07 10:00:00.121', 1);
