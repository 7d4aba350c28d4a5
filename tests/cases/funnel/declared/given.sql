-- By hand, with a window of a day: 1 gets through (6 was anonymous and is 1; cart and address share a millisecond without
-- an order). 2 is lost after cart. 3 pays a second after the day is over: lost after address. 4 enters six hours before
-- now: open. 5 pays before the address: lost after address. 7 never enters. The steps are those the catalogue declares.
-- From cart to address: 0 s (1), one hour (3), two minutes (5). From address to pay: five minutes (1).
INSERT INTO catalog (project, kind, name, funnel, position, service, release, time) VALUES
    (1, 'step', 'checkout.cart', 'checkout', 0, 'shop', '1', '2026-02-01 00:00:00'),
    (1, 'step', 'checkout.address', 'checkout', 1, 'shop', '1', '2026-02-01 00:00:00'),
    (1, 'step', 'checkout.pay', 'checkout', 2, 'shop', '1', '2026-02-01 00:00:00');
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'checkout.cart', 'step', '2026-03-02', 6, '2026-03-02 10:00:00'),
    (1, 'checkout.address', 'step', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (1, 'checkout.pay', 'step', '2026-03-02', 1, '2026-03-02 10:05:00'),
    (1, 'checkout.cart', 'step', '2026-03-02', 2, '2026-03-02 10:00:00'),
    (1, 'checkout.cart', 'step', '2026-03-03', 2, '2026-03-03 10:00:00'),
    (1, 'checkout.cart', 'step', '2026-03-02', 3, '2026-03-02 10:00:00'),
    (1, 'checkout.address', 'step', '2026-03-02', 3, '2026-03-02 11:00:00'),
    (1, 'checkout.pay', 'step', '2026-03-03', 3, '2026-03-03 10:00:01'),
    (1, 'checkout.cart', 'step', '2026-03-07', 4, '2026-03-07 18:00:00'),
    (1, 'checkout.cart', 'step', '2026-03-04', 5, '2026-03-04 10:00:00'),
    (1, 'checkout.pay', 'step', '2026-03-04', 5, '2026-03-04 10:01:00'),
    (1, 'checkout.address', 'step', '2026-03-04', 5, '2026-03-04 10:02:00'),
    (1, 'checkout.pay', 'step', '2026-03-04', 7, '2026-03-04 10:02:00');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 6, 1, '2026-03-02 10:00:00');
INSERT INTO units (project, unit, kind, id) VALUES
    (1, 1, 'user', 'ann'), (1, 2, 'user', 'bob'), (1, 3, 'session', 's-3'), (1, 5, 'user', 'eve'), (1, 6, 'session', 's-6');
