-- By hand: what is no fingerprint finds nothing, not even the query whose fingerprint is 0.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns, buckets, instance, service, release) VALUES
    (1, 7, '2026-03-02', '2026-03-02 10:00:00', '2026-03-02 09:59:00', 1, 'sdk', 'delta', 'sqlite', 3, 6e7, map(-400, 3), 1, 'shop', '2');
