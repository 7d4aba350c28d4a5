-- By hand, at scale 6 and in release 2 only: bucket -638 as it is stored, 2^(-638/64) to 2^(-637/64) s = 0.997946 to 1.008813 ms,
-- the middle give or take 0.54 %; a span of exactly 2^-7 s = 7.8125 ms is in the bucket it closes, -449: 7.728344 to 7.8125 ms.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns, max_ns, buckets, instance, service, release) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'sdk', 'delta', 'sqlite', 3, 3e6, 1e6, map(-638, 3), 1, 'shop', '2'),
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 2, 'sdk', 'delta', 'sqlite', 9, 9e6, 1e6, map(-638, 9), 1, 'shop', '1');
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, system, instance, service, release) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', 7812500, 'span', 1, 'mysql', 2, 'shop', '2');
