-- A foreign SDK sends cumulative points with explicit bounds 10 and 100 ms. By hand: stream 1 grew from (4, 3, 1)
-- before the range to (8, 6, 2) = 4 + 3 + 1 = 8 calls, of 4.0 - 2.0 = 2 s. Stream 2 began within the hour before the
-- range and counts whole: (2, 0, 0). Stream 3 began long before and has no point before the range: only what came
-- since its first point counts, (1, 0, 0). Together 7, 3, 1 = 11 calls; p50 (rank 6) in 0 to 10 ms: 5 ms; p95 (rank
-- 11) above 100 ms, up to the longest, 900 ms. Total 2 + 0.1 + 0.05 = 2.15 s. A repeated point (same time) counts
-- once.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns,
    max_ns, bounds, bound_counts, instance, service, received) VALUES
    (1, 0xc, '2026-02-28', '2026-02-28 23:59:00', '2026-02-01 00:00:00', 1, 'metric', 'cumulative', 'postgresql', 8, 2e9,
        9e8, [0.01, 0.1], [4, 3, 1], 9, 's', '2026-02-28 23:59:01'),
    (1, 0xc, '2026-03-02', '2026-03-02 00:00:00', '2026-02-01 00:00:00', 1, 'metric', 'cumulative', 'postgresql', 12, 3e9,
        9e8, [0.01, 0.1], [6, 4, 2], 9, 's', '2026-03-02 00:00:01'),
    (1, 0xc, '2026-03-03', '2026-03-03 00:00:00', '2026-02-01 00:00:00', 1, 'metric', 'cumulative', 'postgresql', 16, 4e9,
        9e8, [0.01, 0.1], [8, 6, 2], 9, 's', '2026-03-03 00:00:01'),
    (1, 0xc, '2026-03-03', '2026-03-03 00:00:00', '2026-02-01 00:00:00', 1, 'metric', 'cumulative', 'postgresql', 16, 4e9,
        9e8, [0.01, 0.1], [8, 6, 2], 9, 's', '2026-03-03 00:00:02'),
    (1, 0xc, '2026-03-01', '2026-03-01 00:10:00', '2026-02-28 23:30:00', 2, 'metric', 'cumulative', 'postgresql', 2, 1e8,
        9e8, [0.01, 0.1], [2, 0, 0], 9, 's', '2026-03-01 00:10:00'),
    (1, 0xc, '2026-03-01', '2026-03-01 00:10:00', '2026-01-01 00:00:00', 3, 'metric', 'cumulative', 'postgresql', 50, 7e9,
        9e8, [0.01, 0.1], [50, 0, 0], 9, 's', '2026-03-01 00:10:00'),
    (1, 0xc, '2026-03-01', '2026-03-01 00:11:00', '2026-01-01 00:00:00', 3, 'metric', 'cumulative', 'postgresql', 51, 7.05e9,
        9e8, [0.01, 0.1], [51, 0, 0], 9, 's', '2026-03-01 00:11:00');
