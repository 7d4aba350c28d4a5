-- By hand, as slow_queries counts. Process 1 sends metrics that name query 8: its span of query 7 is a sample. Process 2 sends metrics
-- that name operations only (series 9, no text): its span counts, 10 ms. Two instrumentations saw the query of trace a: of the
-- two spans the outer one counts, 20 ms. 2 calls of 30 ms in all; p50 (rank 1) in bucket -426 (9.92 to 10.03 ms, middle 9.97).
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns, max_ns, buckets, instance, service) VALUES
    (1, 8, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'metric', 'delta', 'mysql', 4, 4e6, 1e6, map(-638, 4), 1, 'shop'),
    (1, 9, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 2, 'metric', 'delta', 'mysql', 4, 4e6, 1e6, map(-638, 4), 2, 'shop');
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, sample, system, instance, service, trace_id) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', 50000000, 'span', 1, 'driver', 'mysql', 1, 'shop', 'b'),
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', 10000000, 'span', 1, 'driver', 'mysql', 2, 'shop', 'c'),
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', 20000000, 'span', 1, 'library', 'mysql', 2, 'shop', 'a'),
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', 19000000, 'span', 1, 'driver', 'mysql', 2, 'shop', 'a');
INSERT INTO query_texts (project, fingerprint, summary, text, time) VALUES
    (1, 7, 'SELECT a', 'SELECT 1 FROM a', '2026-03-01 00:00:00'), (1, 8, 'SELECT b', 'SELECT 1 FROM b', '2026-03-01 00:00:00'),
    (1, 9, 'SELECT', '', '2026-03-01 00:00:00');
