-- By hand: of four spans of one service three take at most 10 ms (10.0 itself is within, 10.1 is not): 0.75 both ways. A
-- sample beside exact histograms (source sdk) is counted by these and not again.
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, system, instance, service, release) VALUES
    (1, 8, '2026-03-02', '2026-03-02 10:00:00', 1000000, 'span', 1, 'mysql', 2, 'shop', '1'),
    (1, 8, '2026-03-02', '2026-03-02 10:00:01', 5000000, 'span', 1, 'mysql', 2, 'shop', '1'),
    (1, 9, '2026-03-02', '2026-03-02 10:00:02', 10000000, 'span', 1, 'mysql', 2, 'shop', '1'),
    (1, 9, '2026-03-02', '2026-03-02 10:00:03', 10100000, 'span', 1, 'mysql', 2, 'shop', '1'),
    (1, 9, '2026-03-02', '2026-03-02 10:00:03', 90000000, 'sdk', 1, 'sqlite', 3, 'shop', '1');
