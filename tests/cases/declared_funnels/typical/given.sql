-- Release 1.0 declares checkout as cart, address, pay; 1.1 as cart, pay, done. An old process declares 1.0 again later,
-- which makes it no newer. signup is declared by 1.0 only. Features and queries are no steps. By hand: checkout from 1.1 in
-- its order, signup from 1.0.
INSERT INTO catalog (project, kind, name, funnel, position, service, release, time) VALUES
    (1, 'step', 'checkout.cart', 'checkout', 0, 'shop', '1.0', '2026-01-01 00:00:00'),
    (1, 'step', 'checkout.address', 'checkout', 1, 'shop', '1.0', '2026-01-01 00:00:00'),
    (1, 'step', 'checkout.pay', 'checkout', 2, 'shop', '1.0', '2026-01-01 00:00:00'),
    (1, 'step', 'checkout.done', 'checkout', 2, 'shop', '1.1', '2026-02-01 00:00:00'),
    (1, 'step', 'checkout.cart', 'checkout', 0, 'shop', '1.1', '2026-02-01 00:00:00'),
    (1, 'step', 'checkout.pay', 'checkout', 1, 'shop', '1.1', '2026-02-01 00:00:00'),
    (1, 'step', 'checkout.address', 'checkout', 1, 'shop', '1.0', '2026-02-20 00:00:00'),
    (1, 'step', 'signup.form', 'signup', 0, 'shop', '1.0', '2026-01-01 00:00:00'),
    (1, 'step', 'signup.done', 'signup', 1, 'shop', '1.0', '2026-01-01 00:00:00'),
    (1, 'feature', 'search', '', 0, 'shop', '1.1', '2026-02-01 00:00:00'),
    (1, 'query', 'orders.by_user', '', 0, 'shop', '1.1', '2026-02-01 00:00:00');
