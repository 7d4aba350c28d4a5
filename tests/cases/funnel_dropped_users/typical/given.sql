-- By hand: 1 gets through. 2 is lost after cart (two entries). 3 reaches address, then pay a second more than a day
-- after the entry: lost after address. 4 enters six hours before now: still open. 5 reaches pay and address in the
-- wrong order: lost after address, having looked at help before the end and again a day later. 6 was anonymous and is 1. 7 never enters.
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
    (1, 'checkout.pay', 'step', '2026-03-04', 7, '2026-03-04 10:02:00'),
    (1, 'help', 'event', '2026-03-04', 5, '2026-03-04 10:03:00'),
    (1, 'help', 'ended', '2026-03-04', 5, '2026-03-04 10:02:30'),
    (1, 'home', 'used', '2026-03-05', 5, '2026-03-05 10:00:00');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 6, 1, '2026-03-02 10:00:00');
INSERT INTO units (project, unit, kind, id) VALUES
    (1, 1, 'user', 'ann'), (1, 2, 'user', 'bob'), (1, 3, 'session', 's-3'), (1, 5, 'user', 'eve'), (1, 6, 'session', 's-6');
