-- The latest release puts a step between: only its order holds. By hand: 1 went through the old three steps without
-- review and is lost after address. Ids with quotes; a person without an id shows as hexadecimal; another project has
-- the same funnel, units and ids.
INSERT INTO catalog (project, kind, name, funnel, position, service, release, time) VALUES
    (1, 'step', 'checkout.cart', 'checkout', 0, 'shop', '1', '2026-02-01 00:00:00'),
    (1, 'step', 'checkout.address', 'checkout', 1, 'shop', '1', '2026-02-01 00:00:00'),
    (1, 'step', 'checkout.pay', 'checkout', 2, 'shop', '1', '2026-02-01 00:00:00');
INSERT INTO catalog (project, kind, name, funnel, position, service, release, time) VALUES
    (1, 'step', 'checkout.cart', 'checkout', 0, 'shop', '2', '2026-02-02 00:00:00'),
    (1, 'step', 'checkout.address', 'checkout', 1, 'shop', '2', '2026-02-02 00:00:00'),
    (1, 'step', 'checkout.review', 'checkout', 2, 'shop', '2', '2026-02-02 00:00:00'),
    (1, 'step', 'checkout.pay', 'checkout', 3, 'shop', '2', '2026-02-02 00:00:00'),
    (2, 'step', 'checkout.cart', 'checkout', 0, 'shop', '3', '2026-02-03 00:00:00'),
    (2, 'step', 'checkout.pay', 'checkout', 1, 'shop', '3', '2026-02-03 00:00:00');
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'checkout.cart', 'step', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (1, 'checkout.address', 'step', '2026-03-02', 1, '2026-03-02 10:01:00'),
    (1, 'checkout.pay', 'step', '2026-03-02', 1, '2026-03-02 10:02:00'),
    (1, 'checkout.cart', 'step', '2026-03-02', 255, '2026-03-02 10:00:00'),
    (1, 'checkout.cart', 'step', '2026-03-02', 0, '2026-03-02 10:00:00'),
    (2, 'checkout.cart', 'step', '2026-03-02', 3, '2026-03-02 10:00:00'),
    (2, 'checkout.cart', 'step', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (2, 'checkout.review', 'step', '2026-03-02', 1, '2026-03-02 10:01:30');
INSERT INTO units (project, unit, kind, id) VALUES
    (1, 1, 'user', 'o''neil\t"ü" 🙂'), (2, 1, 'user', 'theirs'), (2, 255, 'user', 'theirs');
