-- By hand: 8 calls of 80 ms in all, 3 of them (60 ms) in release 2 and feature search, 5 (20 ms) in release 1 and no feature. Two
-- foreign spans of a process without metrics: 10 ms with weight 2, failed, release 2: 20 ms more, 100 in all. Another query
-- is left out.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns, buckets, instance, service, release, feature, code) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'sdk', 'delta', 'sqlite', 3, 60000000, {-400: 3}, 1, 'shop', '2', 'search', 'src/a.rs:1'),
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 2, 'sdk', 'delta', 'sqlite', 5, 20000000, {-500: 5}, 1, 'shop', '1', '', 'src/a.rs:1'),
    (1, 8, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 3, 'sdk', 'delta', 'sqlite', 5, 20000000, {-500: 5}, 1, 'shop', '1', '', 'src/b.rs:1');
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, system, instance, service, release, failed) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', 10000000, 'span', 2, 'mysql', 2, 'shop', '2', true);
