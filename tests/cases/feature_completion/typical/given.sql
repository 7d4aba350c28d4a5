-- checkout, by hand: attempts 1 to 9, of which 1, 2 completed (2 s, 4 s: the median by nearest rank is 2 s), 3
-- failed, 4 abandoned, 5 cancelled, 6 cancelled by shutdown, 7 panicked, 8 open since two days, 9 open since ten
-- minutes. begun 9 = 2 + 1 + 1 + 2 + 1 + 2; unfinished = 1 + 1 + 2 + 1 + 1 - 1 = 5; rates 2/7 and 5/7. People: unit 2
-- is linked to 1; 1 to 8 without 2 began one: 1, 3, 4, 5, 6, 7, 8, 9 = 8; unfinished 3, 4, 5, 7, 8 = 5. export: one
-- end without its beginning, 3 s long, begun one second inside the range; one begun before the range.
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, outcome_reason, duration_ns) VALUES
    (1, 'checkout', 'started', '2026-03-02', 1, '2026-03-02 10:00:00', 1, '', '', 0),
    (1, 'checkout', 'ended', '2026-03-02', 1, '2026-03-02 10:00:02', 1, 'completed', '', 2000000000),
    (1, 'checkout', 'started', '2026-03-02', 2, '2026-03-02 10:00:00', 2, '', '', 0),
    (1, 'checkout', 'ended', '2026-03-02', 2, '2026-03-02 10:00:04', 2, 'completed', '', 4000000000),
    (1, 'checkout', 'started', '2026-03-02', 3, '2026-03-02 10:00:00', 3, '', '', 0),
    (1, 'checkout', 'ended', '2026-03-02', 3, '2026-03-02 10:00:09', 3, 'failed', '', 9000000000),
    (1, 'checkout', 'started', '2026-03-02', 4, '2026-03-02 10:00:00', 4, '', '', 0),
    (1, 'checkout', 'ended', '2026-03-02', 4, '2026-03-02 10:00:09', 4, 'abandoned', '', 9000000000),
    (1, 'checkout', 'started', '2026-03-02', 5, '2026-03-02 10:00:00', 5, '', '', 0),
    (1, 'checkout', 'ended', '2026-03-02', 5, '2026-03-02 10:00:09', 5, 'cancelled', '', 9000000000),
    (1, 'checkout', 'started', '2026-03-02', 6, '2026-03-02 10:00:00', 6, '', '', 0),
    (1, 'checkout', 'ended', '2026-03-02', 6, '2026-03-02 10:00:09', 6, 'cancelled', 'shutdown', 9000000000),
    (1, 'checkout', 'started', '2026-03-02', 7, '2026-03-02 10:00:00', 7, '', '', 0),
    (1, 'checkout', 'ended', '2026-03-02', 7, '2026-03-02 10:00:09', 7, 'panicked', '', 9000000000),
    (1, 'checkout', 'started', '2026-03-06', 8, '2026-03-06 00:00:00', 8, '', '', 0),
    (1, 'checkout', 'started', '2026-03-07', 9, '2026-03-07 23:50:00', 9, '', '', 0),
    (1, 'export', 'ended', '2026-03-01', 1, '2026-03-01 00:00:04', 20, 'completed', '', 3000000000),
    (1, 'export', 'ended', '2026-03-01', 1, '2026-03-01 00:00:02', 21, 'completed', '', 3000000000);
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 2, 1, '2026-03-05 00:00:00.000');
