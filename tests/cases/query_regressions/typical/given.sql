-- Releases 1 (4 March) and 2 (6 March). By hand: query 1 goes from 1 to 10 ms at 1,000 calls each: 9 more seconds a
-- month, 2.1 a week. Query 2 stays, query 3 goes from 1 to 1.2 ms: below min_ratio. Query 4 has too few calls. Query
-- 5 became faster. Query 6 is new.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns,
    max_ns, buckets, instance, service, release) VALUES
    (1, 1, '2026-03-04', '2026-03-04 10:00:00', '2026-03-04 10:00:00', 0, 'sdk', 'delta', 'sqlite', 1000, 1000000000, 1000000, map(-638, 1000), 7, 'shop', '1'),
    (1, 1, '2026-03-06', '2026-03-06 10:00:00', '2026-03-06 10:00:00', 1, 'sdk', 'delta', 'sqlite', 1000, 10000000000, 10000000, map(-426, 1000), 7, 'shop', '2'),
    (1, 2, '2026-03-04', '2026-03-04 10:00:00', '2026-03-04 10:00:00', 2, 'sdk', 'delta', 'sqlite', 1000, 2000000000, 2000000, map(-574, 1000), 7, 'shop', '1'),
    (1, 2, '2026-03-06', '2026-03-06 10:00:00', '2026-03-06 10:00:00', 3, 'sdk', 'delta', 'sqlite', 1000, 2000000000, 2000000, map(-574, 1000), 7, 'shop', '2'),
    (1, 3, '2026-03-04', '2026-03-04 10:00:00', '2026-03-04 10:00:00', 4, 'sdk', 'delta', 'sqlite', 1000, 1000000000, 1000000, map(-638, 1000), 7, 'shop', '1'),
    (1, 3, '2026-03-06', '2026-03-06 10:00:00', '2026-03-06 10:00:00', 5, 'sdk', 'delta', 'sqlite', 1000, 1200000000, 1200000, map(-621, 1000), 7, 'shop', '2'),
    (1, 4, '2026-03-04', '2026-03-04 10:00:00', '2026-03-04 10:00:00', 6, 'sdk', 'delta', 'sqlite', 19, 19000000, 1000000, map(-638, 19), 7, 'shop', '1'),
    (1, 4, '2026-03-06', '2026-03-06 10:00:00', '2026-03-06 10:00:00', 7, 'sdk', 'delta', 'sqlite', 1000, 10000000000, 10000000, map(-426, 1000), 7, 'shop', '2'),
    (1, 5, '2026-03-04', '2026-03-04 10:00:00', '2026-03-04 10:00:00', 8, 'sdk', 'delta', 'sqlite', 1000, 4000000000, 4000000, map(-510, 1000), 7, 'shop', '1'),
    (1, 5, '2026-03-06', '2026-03-06 10:00:00', '2026-03-06 10:00:00', 9, 'sdk', 'delta', 'sqlite', 1000, 1000000000, 1000000, map(-638, 1000), 7, 'shop', '2'),
    (1, 6, '2026-03-06', '2026-03-06 10:00:00', '2026-03-06 10:00:00', 10, 'sdk', 'delta', 'sqlite', 1000, 10000000000, 10000000, map(-426, 1000), 7, 'shop', '2');
INSERT INTO query_texts (project, fingerprint, name, summary, text, time) VALUES
    (1, 1, 'orders', 'SELECT orders', 'SELECT * FROM orders', '2026-01-01 00:00:00');
