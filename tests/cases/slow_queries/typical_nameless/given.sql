-- Metrics that name operations only, as instrumentations of databases send them. By hand: process 9 says so of 7 calls (series
-- e), and its spans say which: 2 calls of query f, 3 and 1 ms; the spans count. Process 10 sends no spans: its 5 calls of
-- series e count, 5 ms, all in the bucket of 1 ms (see the case `typical`). Process 11 sends series c, whose text is known,
-- and a span of the same database: the metric's 4 calls of 1 ms count.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, count, sum_ns,
    max_ns, buckets, instance, service) VALUES
    (1, 0xe, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 09:59:00', 1, 'metric', 'delta', 'postgresql', 7, 7e6, 1e6,
        map(-638, 7), 9, 'shop'),
    (1, 0xe, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 09:59:00', 2, 'metric', 'delta', 'postgresql', 5, 5e6, 1e6,
        map(-638, 5), 10, 'shop'),
    (1, 0xc, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 09:59:00', 3, 'metric', 'delta', 'postgresql', 4, 4e6, 1e6,
        map(-638, 4), 11, 'shop');
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, system, instance, service) VALUES
    (1, 0xf, '2026-03-05', '2026-03-05 09:59:30', 3000000, 'span', 1, 'postgresql', 9, 'shop'),
    (1, 0xf, '2026-03-05', '2026-03-05 09:59:31', 1000000, 'span', 1, 'postgresql', 9, 'shop'),
    (1, 0xf, '2026-03-05', '2026-03-05 09:59:31', 1000000, 'span', 1, 'postgresql', 11, 'shop');
INSERT INTO query_texts (project, fingerprint, summary, text, time) VALUES
    (1, 0xe, 'SELECT', '', '2026-03-01 00:00:00'),
    (1, 0xc, 'SELECT c', 'SELECT * FROM c', '2026-03-01 00:00:00'),
    (1, 0xf, 'SELECT f', 'SELECT * FROM f', '2026-03-01 00:00:00');
