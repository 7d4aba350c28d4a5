-- By hand: a histogram of 4 calls at 1 ms, 3 in the bucket that holds 10 ms and 1 at 100 ms: 4 are within, 1 is over, and
-- the 3 may be either. Index of a bucket of scale 6: floor(64 * log2(seconds)); 0.001 s is -638, 0.01 s is -426, 0.1 s is
-- -213. A foreign span of exactly 10 ms with weight 5 is within. The service has a quote in its name.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns, buckets, instance, service, release) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'sdk', 'delta', 'sqlite', 8, 1, {-638: 4, -426: 3, -213: 1}, 1, 'sh"op', '1'),
    (2, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'sdk', 'delta', 'sqlite', 8, 1, {-638: 8}, 1, 'sh"op', '1');
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, system, instance, service, release) VALUES
    (1, 8, '2026-03-02', '2026-03-02 10:00:00', 10000000, 'span', 5, 'mysql', 2, 'other', '1');
