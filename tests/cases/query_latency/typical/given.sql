-- By hand, at scale 3: bucket k of scale 6 lies in bucket floor(k / 8). -638 (0.998 to 1.009 ms) and -640 are in -80: above 2^-10 s =
-- 0.976563 ms up to 2^(-79/8) s = 1.064945 ms, the middle give or take 4.33 %; 100 + 5 calls, and 2 of a span of 1 ms with weight 2.
-- 148 is in 18: 2^2.25 to 2^2.375 s = 4756.8 to 5187.4 ms; 1 call. A span of no time: 1 call. A metric with bounds of its own, 5 and
-- 10 ms and at most 20: 1 call up to 5 ms, 2 above 10 ms, as it sent them. 112 calls in all. Another query, another project and what
-- the SDK only samples are left out.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns, max_ns, buckets, bounds, bound_counts, instance, service, release) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'sdk', 'delta', 'sqlite', 105, 1e8, 1e6, map(-638, 100, -640, 5), [], [], 1, 'shop', '2'),
    (1, 7, '2026-03-03', '2026-03-03 10:00:00', '2026-03-03 09:59:00', 1, 'sdk', 'delta', 'sqlite', 1, 5e9, 5e9, map(148, 1), [], [], 1, 'shop', '1'),
    (1, 7, '2026-03-03', '2026-03-03 10:00:00', '2026-03-03 09:59:00', 2, 'metric', 'delta', 'mysql', 3, 4e7, 2e7, map(), [0.005, 0.01], [1, 0, 2], 3, 'shop', '2'),
    (1, 8, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 3, 'sdk', 'delta', 'sqlite', 5, 2e7, 2e7, map(-500, 5), [], [], 1, 'shop', '1'),
    (2, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 3, 'sdk', 'delta', 'sqlite', 5, 2e7, 2e7, map(-500, 5), [], [], 1, 'shop', '1');
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, system, instance, service, release) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', 1000000, 'span', 2, 'mysql', 2, 'shop', '2'),
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', 0, 'span', 1, 'mysql', 2, 'shop', '2'),
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', 9000000, 'sdk', 1, 'sqlite', 1, 'shop', '2');
