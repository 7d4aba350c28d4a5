-- By hand: a span of no time at all, one of a process that sends metrics (left out), and running totals (left out).
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns, max_ns, buckets, instance) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'sdk', 'delta', 'sqlite', 1, 10000000, 10000000, {-426: 1}, 1),
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 2, 'metric', 'cumulative', 'mysql', 9, 10000000, 10000000, {-426: 9}, 3);
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, system, instance) VALUES
    (1, 7, '2026-03-03', '2026-03-03 10:00:00', 0, 'span', 1, 'mysql', 2),
    (1, 7, '2026-03-03', '2026-03-03 10:00:00', 5000000, 'span', 1, 'sqlite', 1);
