-- By hand: a fingerprint with the highest bit set, at scale 0: a bucket is a doubling. The last bucket below 1 s (-1 of scale 6) ends at
-- 1000 ms and the first above begins there; the shortest and the longest a double can tell are rows like others.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns, buckets, instance, service, release) VALUES
    (1, 0xfedcba9876543210, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'sdk', 'delta', 'sqlite', 6, 6e7, map(-1, 2, 0, 1, -2147483648, 1, -2000, 1, 2000, 1), 1, 'o''shop', '2'),
    (1, 0, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'sdk', 'delta', 'sqlite', 3, 6e7, map(-400, 3), 1, 'shop', '2');
