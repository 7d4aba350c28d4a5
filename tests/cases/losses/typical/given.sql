-- By hand: received 113 (60 and 48 in the ledger, 5 pending) = stored 80 + pending 5 + rejected 3 + 2, set aside 4,
-- ignored 5, deduplicated 1, forgotten 9, expired 4. Stored are
-- 60 events, 15 of usage (with 2 rows each, one of which counts), 5 reports. SDKs dropped 7 and 2 of 112 in all, and
-- do not know of 3. A row of the ledger written twice counts once. Of 113 received 9 were removed for a person and 4 by
-- retention; what was only intended or came to nothing does not count. 6 were set aside and 2 of them taken in again, by a
-- cut of their own: they are 2 of the 60 events, and count once.
INSERT INTO retries (project, log, cut, signal, reason, records, received) VALUES
    (1, 1, 3, 'logs', 'invalid_utf8', 2, '2026-03-05 00:00:00'),
    (2, 1, 3, 'logs', 'invalid_utf8', 90, '2026-03-05 00:00:00');
INSERT INTO retries (project, log, cut, signal, reason, records, received) VALUES
    (1, 1, 3, 'logs', 'invalid_utf8', 2, '2026-03-05 00:00:00');
INSERT INTO ledger (project, log, cut, fate, signal, reason, records, received) VALUES
    (1, 1, 1, 'received', 'logs', '', 60, '2026-03-05 00:00:00'),
    (1, 1, 1, 'received', 'logs', '', 60, '2026-03-05 00:00:00'),
    (1, 1, 2, 'received', 'logs', '', 48, '2026-03-05 00:00:00'),
    (1, 1, 2, 'rejected', 'logs', 'missing_event_name', 3, '2026-03-05 00:00:00'),
    (1, 1, 2, 'rejected', 'logs', 'too_large', 2, '2026-03-05 00:00:00'),
    (1, 1, 2, 'set_aside', 'logs', 'invalid_utf8', 6, '2026-03-05 00:00:00'),
    (1, 1, 3, 'received', 'logs', '', 2, '2026-03-05 00:00:00'),
    (1, 1, 2, 'ignored', 'logs', 'span_not_kept', 5, '2026-03-05 00:00:00'),
    (1, 1, 2, 'deduplicated', 'logs', 'repeat', 1, '2026-03-05 00:00:00');
INSERT INTO ledger (project, log, cut, fate, signal, reason, records, received) VALUES
    (1, 1, 1, 'received', 'logs', '', 60, '2026-03-05 00:00:00');
INSERT INTO events (project, name, kind, day, unit, time, received, record)
SELECT 1, 'a', 'used', '2026-03-05', 1, '2026-03-05 00:00:00', '2026-03-05 00:00:00', 1 FROM numbers(60);
INSERT INTO query_usage (project, fingerprint, day, unit, time, received, record)
SELECT 1, 1, '2026-03-05', 1, '2026-03-05 00:00:00', '2026-03-05 00:00:00', number % 2 FROM numbers(30);
INSERT INTO sdk_reports (project, time, kind, reason, callsite, records, unconfirmed, received, record) VALUES
    (1, '2026-03-05 00:00:00', 'dropped', 'ring_full', 'a.rs:1 search', 4, 0, '2026-03-05 00:00:00', 1),
    (1, '2026-03-05 00:01:00', 'dropped', 'ring_full', 'a.rs:1 search', 3, 0, '2026-03-05 00:00:00', 1),
    (1, '2026-03-05 00:00:00', 'dropped', 'refused', '', 2, 0, '2026-03-05 00:00:00', 1),
    (1, '2026-03-05 00:00:00', 'stopped', '', '', 500, 3, '2026-03-05 00:00:00', 1),
    (1, '2026-03-05 00:00:00', 'stopped', '', '', 500, 0, '2026-03-05 00:00:00', 1);
INSERT INTO removals (project, reason, pass, table_name, partition, received, records, rows, state) VALUES
    (1, 'forgotten', 1, 'events', '', '2026-03-05 00:00:00', 9, 9, 'intended'),
    (1, 'forgotten', 2, 'events', '', '2026-03-05 00:00:00', 100, 100, 'intended'),
    (1, 'forgotten', 3, 'events', '', '2026-03-05 00:00:00', 7, 7, 'intended'),
    (1, 'expired', 4, 'events', '0-2026-03-02', '2026-03-05 00:00:00', 4, 4, 'done'),
    (2, 'expired', 4, 'events', '0-2026-03-02', '2026-03-05 00:00:00', 50, 50, 'done');
INSERT INTO removals (project, reason, pass, table_name, partition, received, records, rows, state) VALUES
    (1, 'forgotten', 1, 'events', '', '2026-03-05 00:00:00', 9, 9, 'done'),
    (1, 'forgotten', 3, 'events', '', '2026-03-05 00:00:00', 0, 0, 'void');
