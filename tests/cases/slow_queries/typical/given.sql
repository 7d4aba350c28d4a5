-- Query a, from the SDK, by hand: 100 calls of about 1 ms (bucket -638: 2^(-638/64) s = 0.998 to 1.009 ms, middle
-- 1.0034; 0.1 s in all) and 1 of 5 s that failed: 5,100 ms, mean 50.495; p50, p95 and p99 (rank 51, 96, 100) are in
-- the 1 ms bucket, whose middle is 1.0035. Used in 2 scopes, 101 calls: 50.5 a use; people 1 and 2, of whom 3 is the
-- same. Query b, foreign spans of another process: 1.234567 ms and, with weight 2, 35.708 ms: 3 calls, 72.651 ms, p50
-- = 35.708 (rank 2 of 3). The span of instance 7 on a sqlite database is a sample: its process sends metrics.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, feature, code, system,
    namespace, error_type, count, sum_ns, min_ns, max_ns, buckets, instance, service, release) VALUES
    (1, 0xa, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 09:59:00', 1, 'sdk', 'delta', 'search', 'a.rs:1', 'sqlite',
        'db', '', 100, 1e8, 1e6, 1e6, map(-638, 100), 7, 'shop', '1.0'),
    (1, 0xa, '2026-03-05', '2026-03-05 10:01:00', '2026-03-05 10:00:00', 2, 'sdk', 'delta', 'cart', 'a.rs:2', 'sqlite',
        'db', 'timeout', 1, 5e9, 5e9, 5e9, map(148, 1), 7, 'shop', '1.0');
INSERT INTO query_usage (project, fingerprint, day, unit, time, session, calls, total_ns, service, release) VALUES
    (1, 0xa, '2026-03-05', 1, '2026-03-05 10:00:00', 11, 60, 60000000, 'shop', '1.0'),
    (1, 0xa, '2026-03-05', 3, '2026-03-05 10:00:00', 13, 41, 41000000, 'shop', '1.0');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 3, 2, '2026-03-05 00:00:00');
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, unit, session, route, code,
    system, namespace, instance, service, release) VALUES
    (1, 0xb, '2026-03-05', '2026-03-05 10:00:00', 1234567, 'span', 1, 5, 6, '/a', 'b.py:1', 'postgresql', 'p', 8, 'old', '1'),
    (1, 0xb, '2026-03-05', '2026-03-05 10:00:00', 35708000, 'span', 2, 5, 6, '/b', 'b.py:2', 'postgresql', 'p', 8, 'old', '1'),
    (1, 0xa, '2026-03-05', '2026-03-05 10:00:00', 99000000, 'span', 1, 5, 6, '', '', 'sqlite', 'db', 7, 'shop', '1.0'),
    (1, 0xa, '2026-03-05', '2026-03-05 10:00:00', 99000000, 'sdk', 1, 5, 6, '', '', 'sqlite', 'db', 7, 'shop', '1.0');
INSERT INTO query_texts (project, fingerprint, system, name, summary, text, time) VALUES
    (1, 0xa, 'sqlite', 'orders.by_user', 'SELECT orders', 'SELECT * FROM orders WHERE user = ?', '2026-01-01 00:00:00');
