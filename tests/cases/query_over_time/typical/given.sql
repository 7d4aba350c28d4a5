-- By hand, in Kathmandu (+5:45), where a day begins at 18:15 UTC: on the 2nd 4 calls in bucket -426 (9.92 to 10.03 ms, middle
-- 9.97) and one at 100 ms (bucket -213: 99.6 to 100.7, middle 100.1), the longest known exactly; on the 3rd one span of 10 ms
-- of a process without metrics, in bucket -426 as well.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns, max_ns, buckets, instance) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'sdk', 'delta', 'sqlite', 3, 30000000, 10000000, {-426: 3}, 1),
    (1, 7, '2026-03-02', '2026-03-02 18:14:59.999', '2026-03-02 18:14:00', 1, 'sdk', 'delta', 'sqlite', 2, 110000000, 100000000, {-426: 1, -213: 1}, 1);
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, system, instance) VALUES
    (1, 7, '2026-03-02', '2026-03-02 18:15:00', 10000000, 'span', 1, 'mysql', 2),
    (1, 7, '2026-03-02', '2026-03-02 18:15:00', 10000000, 'sdk', 1, 'sqlite', 1),
    (2, 7, '2026-03-02', '2026-03-02 18:15:00', 10000000, 'span', 1, 'mysql', 2);
