-- Rows that the ledger does not know of, a call site with quotes, another project's books. By hand: received 1,
-- stored 3 events and 1 report: unexplained is -3, and says so.
INSERT INTO ledger (project, log, cut, fate, signal, reason, records, received) VALUES
    (1, 1, 1, 'received', 'logs', '', 1, '2026-03-05 00:00:00'),
    (2, 1, 1, 'received', 'logs', '', 1000, '2026-03-05 00:00:00'),
    (2, 1, 1, 'rejected', 'logs', 'theirs', 10, '2026-03-05 00:00:00');
INSERT INTO events (project, name, kind, day, unit, time, received, record)
SELECT 1, 'a', 'used', '2026-03-05', 1, '2026-03-05 00:00:00', '2026-03-05 00:00:00', 1 FROM numbers(3);
INSERT INTO sdk_reports (project, time, kind, reason, callsite, records, received, record) VALUES
    (1, '2026-03-05 00:00:00', 'dropped', 'ring_full', 'ü''s.rs:1 "x"\t', 0, '2026-03-05 00:00:00', 1),
    (2, '2026-03-05 00:00:00', 'dropped', 'ring_full', 'theirs', 9, '2026-03-05 00:00:00', 1);
