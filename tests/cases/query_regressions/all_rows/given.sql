-- The same two releases, every row with its verdict; release 2 is the one before and 1 the one judged, by parameters:
-- what became faster is slower the other way round. By hand: query 5 from 1 to 4 ms.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns,
    max_ns, buckets, instance, service, release) VALUES
    (1, 1, '2026-03-04', '2026-03-04 10:00:00', '2026-03-04 10:00:00', 0, 'sdk', 'delta', 'sqlite', 1000, 1000000000, 1000000, map(-638, 1000), 7, 'shop', '1'),
    (1, 1, '2026-03-06', '2026-03-06 10:00:00', '2026-03-06 10:00:00', 1, 'sdk', 'delta', 'sqlite', 1000, 10000000000, 10000000, map(-426, 1000), 7, 'shop', '2'),
    (1, 2, '2026-03-04', '2026-03-04 10:00:00', '2026-03-04 10:00:00', 2, 'sdk', 'delta', 'sqlite', 1000, 2000000000, 2000000, map(-574, 1000), 7, 'shop', '1'),
    (1, 2, '2026-03-06', '2026-03-06 10:00:00', '2026-03-06 10:00:00', 3, 'sdk', 'delta', 'sqlite', 1000, 2000000000, 2000000, map(-574, 1000), 7, 'shop', '2'),
    (1, 5, '2026-03-04', '2026-03-04 10:00:00', '2026-03-04 10:00:00', 4, 'sdk', 'delta', 'sqlite', 1000, 4000000000, 4000000, map(-510, 1000), 7, 'shop', '1'),
    (1, 5, '2026-03-06', '2026-03-06 10:00:00', '2026-03-06 10:00:00', 5, 'sdk', 'delta', 'sqlite', 1000, 1000000000, 1000000, map(-638, 1000), 7, 'shop', '2');
