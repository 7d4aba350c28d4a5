-- Texts that would break pasted SQL; fingerprint 0 collects what was beyond the limits; a fingerprint with the
-- highest bit set; another project with the same fingerprint and text; a release filter. By hand: two rows, 3 and 1
-- calls.
INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, feature, code, system,
    count, sum_ns, max_ns, buckets, instance, service, release) VALUES
    (1, 0xfedcba9876543210, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 09:59:00', 1, 'sdk', 'delta', 'it''s',
        'ü.rs:1', 'sqlite', 3, 3e6, 1e6, map(-638, 3), 7, 'o''shop', '1'';--'),
    (1, 0, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 09:59:00', 1, 'sdk', 'delta', '', '', 'sqlite', 1, 0, 0,
        map(-2147483648, 1), 7, 'o''shop', '1'';--'),
    (1, 0xfedcba9876543210, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 09:59:00', 1, 'sdk', 'delta', '', '', 'sqlite',
        7, 7e6, 1e6, map(-638, 7), 7, 'o''shop', '2'),
    (2, 0xfedcba9876543210, '2026-03-05', '2026-03-05 10:00:00', '2026-03-05 09:59:00', 1, 'sdk', 'delta', 'theirs', '',
        'sqlite', 9, 9e9, 9e9, map(100, 9), 7, 'o''shop', '1'';--');
INSERT INTO query_texts (project, fingerprint, summary, text, time) VALUES
    (1, 0xfedcba9876543210, 'SELECT "a''b"', 'SELECT "a''b" FROM `c` WHERE d = ? \t -- \\ 漢字', '2026-03-01 00:00:00'),
    (1, 0xfedcba9876543210, '', '', '2026-03-02 00:00:00'),
    (2, 0xfedcba9876543210, 'theirs', 'theirs', '2026-03-03 00:00:00');
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, system, instance, service, release)
VALUES (2, 0xb, '2026-03-05', '2026-03-05 10:00:00', 1234567, 'span', 1, 'postgresql', 8, 'o''shop', '1'';--');
