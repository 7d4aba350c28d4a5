-- By hand: search is used at the first and the last millisecond of the range (unit 5), twice by 1, once by 2, once by
-- nobody: 6 uses. Unit 5 is linked to 2 first and to 9 later, so the people are 1 and 2. Sessions 11, 12, 13. signup
-- is a foreign event of 3 and 4; checkout counts when it begins. One millisecond outside counts nothing.
INSERT INTO events (project, name, kind, day, unit, session, time) VALUES
    (1, 'search', 'used', '2026-03-01', 5, 13, '2026-03-01 00:00:00.000'),
    (1, 'search', 'used', '2026-03-02', 1, 11, '2026-03-02 10:00:00.000'),
    (1, 'search', 'used', '2026-03-02', 1, 11, '2026-03-02 10:05:00.000'),
    (1, 'search', 'used', '2026-03-03', 2, 12, '2026-03-03 10:00:00.000'),
    (1, 'search', 'used', '2026-03-03', 0, 0, '2026-03-03 11:00:00.000'),
    (1, 'search', 'used', '2026-03-07', 5, 13, '2026-03-07 23:59:59.999'),
    (1, 'search', 'used', '2026-02-28', 6, 14, '2026-02-28 23:59:59.999'),
    (1, 'search', 'used', '2026-03-08', 6, 14, '2026-03-08 00:00:00.000'),
    (1, 'checkout', 'started', '2026-03-02', 1, 11, '2026-03-02 10:06:00.000'),
    (1, 'checkout', 'ended', '2026-03-02', 1, 11, '2026-03-02 10:07:00.000'),
    (1, 'signup', 'event', '2026-03-04', 3, 0, '2026-03-04 10:00:00.000'),
    (1, 'signup', 'event', '2026-03-04', 4, 0, '2026-03-04 10:00:00.000'),
    (1, 'checkout.cart', 'step', '2026-03-04', 4, 0, '2026-03-04 10:00:00.000');
INSERT INTO identity_links (project, anonymous, person, time) VALUES
    (1, 5, 9, '2026-03-06 00:00:00.000'),
    (1, 5, 2, '2026-03-05 00:00:00.000');
