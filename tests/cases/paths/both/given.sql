-- By hand: ann goes home, search, item, cart, pay: with item in the middle and depth 1 the path is search, item, cart. bob
-- begins with item and goes home; cid's item comes twice in a row, which counts once.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'home', 'used', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (1, 'search', 'used', '2026-03-02', 1, '2026-03-02 10:01:00'),
    (1, 'item', 'used', '2026-03-02', 1, '2026-03-02 10:02:00'),
    (1, 'cart', 'used', '2026-03-02', 1, '2026-03-02 10:03:00'),
    (1, 'pay', 'used', '2026-03-02', 1, '2026-03-02 10:04:00'),
    (1, 'item', 'used', '2026-03-02', 2, '2026-03-02 10:00:00'),
    (1, 'home', 'used', '2026-03-02', 2, '2026-03-02 10:01:00'),
    (1, 'search', 'used', '2026-03-02', 3, '2026-03-02 10:00:00'),
    (1, 'item', 'used', '2026-03-02', 3, '2026-03-02 10:01:00'),
    (1, 'item', 'used', '2026-03-02', 3, '2026-03-02 10:02:00'),
    (1, 'cart', 'used', '2026-03-02', 3, '2026-03-02 10:03:00');
