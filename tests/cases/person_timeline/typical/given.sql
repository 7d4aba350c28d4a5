-- By hand: "ada" is unit 1; what session 9 did before it was linked to her is hers, what 2 did is not. The order is that of
-- time, and of seq where times are equal.
INSERT INTO units (project, unit, kind, id) VALUES (1, 1, 'user', 'ada'), (1, 2, 'user', 'bob'), (1, 9, 'session', 's-9'), (2, 3, 'user', 'ada');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 9, 1, '2026-03-05 00:00:00');
INSERT INTO events (project, name, kind, day, unit, seq, session, time, feature, outcome, duration_ns, release, strings, numbers, bools) VALUES
    (1, 'shop.cart', 'step', '2026-03-05', 1, 2, 9, '2026-03-05 10:00:00.005', '', '', 0, '2', {}, {}, {}),
    (1, 'cart.view', 'used', '2026-03-05', 1, 1, 9, '2026-03-05 10:00:00.005', 'cart.view', '', 0, '2', {'kind': 'price'}, {'hits': 3.5}, {'pro': true}),
    (1, 'home', 'event', '2026-03-04', 9, 0, 9, '2026-03-04 10:00:00.000', '', '', 0, '1', {}, {}, {}),
    (1, 'pay', 'ended', '2026-03-05', 1, 3, 0, '2026-03-05 10:00:01.000', 'pay', 'failed', 1500000, '2', {}, {}, {}),
    (1, 'pay', 'used', '2026-03-05', 2, 3, 0, '2026-03-05 10:00:01.000', 'pay', '', 0, '2', {}, {}, {}),
    (2, 'pay', 'used', '2026-03-05', 3, 3, 0, '2026-03-05 10:00:01.000', 'pay', '', 0, '2', {}, {}, {});
