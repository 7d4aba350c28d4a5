-- Thirty queries of 0.1 to 3 ms that run once or twice a use, in two releases of the same speed, with a usual tail:
-- the list is empty.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns,
    max_ns, buckets, instance, service, release)
SELECT
    1, f, if(r = 1, '2026-03-04', '2026-03-06'), if(r = 1, '2026-03-04 10:00:00', '2026-03-06 10:00:00'), '2026-03-04 00:00:00', f, 'sdk',
    'delta', 'sqlite', 1000, f * 1e8, f * 1e6,
    map(toInt32(-850 + f * 10), 900, toInt32(-780 + f * 10), 90, toInt32(-650 + f * 10), 10), 7, 'shop', toString(r)
FROM (SELECT number + 1 AS f FROM numbers(30))
ARRAY JOIN [1, 2] AS r;
INSERT INTO query_usage (project, fingerprint, day, unit, time, calls, total_ns, service, release)
SELECT 1, number % 30 + 1, '2026-03-05', number % 100 + 1, '2026-03-05 10:00:00', 1 + number % 2, 1000000, 'shop', '1'
FROM numbers(3000);
