-- Query 1 runs 40 times of 1 ms in each of 50 attempts of 50 people. By hand: 2,000 calls, 2 s; as one call each, 50
-- of 2,000 remain: 2 x (1 - 50/2000) = 1.95 s a week, x 2000/2006.76, since the middle of the bucket is 1.0034 ms.
-- Queries 2 to 5 run once a use. Of the 50 attempts 20 were abandoned (0.4); 10 of the others were stopped with their
-- process and do not count: 20 of 40 = 0.5.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns,
    max_ns, buckets, instance, service, release) VALUES
    (1, 1, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 10:00:00', 0, 'sdk', 'delta', 'sqlite', 2000, 2000000000, 1000000, map(-638, 2000), 7, 'shop', '1'),
    (1, 2, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 10:00:00', 1, 'sdk', 'delta', 'sqlite', 1000, 1000000000, 1000000, map(-638, 1000), 7, 'shop', '1'),
    (1, 3, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 10:00:00', 2, 'sdk', 'delta', 'sqlite', 1000, 1000000000, 1000000, map(-638, 1000), 7, 'shop', '1'),
    (1, 4, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 10:00:00', 3, 'sdk', 'delta', 'sqlite', 1000, 1000000000, 1000000, map(-638, 1000), 7, 'shop', '1'),
    (1, 5, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 10:00:00', 4, 'sdk', 'delta', 'sqlite', 1000, 1000000000, 1000000, map(-638, 1000), 7, 'shop', '1');
INSERT INTO query_usage (project, fingerprint, day, unit, time, attempt, feature, code, calls, total_ns, service, release)
SELECT 1, 1, '2026-03-05', number + 1, '2026-03-05 10:00:00', number + 1, 'order.list', 'o.rs:7', 40, 40000000, 'shop', '1'
FROM numbers(50);
INSERT INTO query_usage (project, fingerprint, day, unit, time, attempt, feature, code, calls, total_ns, service, release)
SELECT 1, 2 + number % 4, '2026-03-05', number + 1, '2026-03-05 10:00:00', 0, 'order.show', 'o.rs:9', 1, 1000000, 'shop', '1'
FROM numbers(4000);
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, outcome_reason, duration_ns)
SELECT 1, 'order.list', 'ended', '2026-03-05', number + 1, '2026-03-05 10:00:00', number + 1,
    multiIf(number < 20, 'abandoned', number < 30, 'cancelled', 'completed'),
    if(number >= 20 AND number < 30, 'shutdown', ''), 1000000
FROM numbers(50);
INSERT INTO query_texts (project, fingerprint, name, summary, text, time) VALUES
    (1, 1, 'lines', 'SELECT lines', 'SELECT * FROM lines WHERE id = ?', '2026-01-01 00:00:00');
