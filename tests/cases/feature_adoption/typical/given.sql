-- "new" was declared on 2 March at 10:00, "old" in January, "unloved" on 4 March. By hand, of "new": active since then are 1,
-- 2 and 3 (as 9, linked); 4 was active before only. 1 came at 09:00 and again at 11:00 that day, so is active since 10:00,
-- and used it at 12:00 and on the 3rd: 2 h, again. 3 came on the 3rd at 08:00 and used it at 09:30, begun as an attempt:
-- 1.5 h. The nearest rank of (1.5, 2) is 1.5. A use before the declaration counts for nobody. "unloved": 2 is active.
INSERT INTO catalog (project, kind, name, service, release, time) VALUES
    (1, 'feature', 'new', 'shop', '2', '2026-03-02 10:00:00'),
    (1, 'feature', 'new', 'shop', '3', '2026-03-05 10:00:00'),
    (1, 'feature', 'old', 'shop', '1', '2025-10-01 10:00:00'),
    (1, 'feature', 'unloved', 'shop', '2', '2026-03-04 00:00:00'),
    (1, 'step', 'buy.cart', 'shop', '2', '2026-03-04 00:00:00');
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'old', 'used', '2026-03-02', 1, '2026-03-02 09:00:00'),
    (1, 'old', 'used', '2026-03-02', 1, '2026-03-02 11:00:00'),
    (1, 'new', 'used', '2026-03-02', 1, '2026-03-02 12:00:00'),
    (1, 'new', 'used', '2026-03-03', 1, '2026-03-03 12:00:00'),
    (1, 'old', 'used', '2026-03-04', 2, '2026-03-04 12:00:00'),
    (1, 'old', 'used', '2026-03-03', 9, '2026-03-03 08:00:00'),
    (1, 'new', 'started', '2026-03-03', 3, '2026-03-03 09:30:00'),
    (1, 'new', 'ended', '2026-03-05', 3, '2026-03-05 09:30:00'),
    (1, 'new', 'used', '2026-03-02', 4, '2026-03-02 09:00:00');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 9, 3, '2026-03-04 00:00:00');
