-- By hand: the shop records a quarter of its people. Four of them did six things: they stand for 16, give or take
-- 1.96 * sqrt(0.75 / 4) = 84.87 %. The desk records everybody, so it is not listed. Nobody's event (unit 0) is in no sample,
-- and who somebody is (kind 'event') is never left out.
INSERT INTO resources (project, resource, service, release, attributes, last_seen) VALUES
    (1, 7, 'shop', '2', {'gemba.sample_rate': '0.25', 'region': 'eu'}, '2026-03-07'),
    (1, 8, 'desk', '1', {'region': 'eu'}, '2026-03-07');
INSERT INTO events (project, resource, service, release, name, kind, day, unit, time) VALUES
    (1, 7, 'shop', '2', 'search', 'used', '2026-03-07', 1, '2026-03-07 10:00:00'),
    (1, 7, 'shop', '2', 'search', 'used', '2026-03-07', 1, '2026-03-07 10:00:01'),
    (1, 7, 'shop', '2', 'checkout', 'started', '2026-03-07', 2, '2026-03-07 10:00:00'),
    (1, 7, 'shop', '2', 'checkout', 'ended', '2026-03-07', 2, '2026-03-07 10:00:09'),
    (1, 7, 'shop', '2', 'checkout.pay', 'step', '2026-03-07', 3, '2026-03-07 10:00:00'),
    (1, 7, 'shop', '2', 'search', 'used', '2026-03-07', 4, '2026-03-07 10:00:00'),
    (1, 7, 'shop', '2', 'search', 'used', '2026-03-07', 0, '2026-03-07 10:00:00'),
    (1, 7, 'shop', '2', 'signed.up', 'event', '2026-03-07', 5, '2026-03-07 10:00:00'),
    (1, 8, 'desk', '1', 'search', 'used', '2026-03-07', 6, '2026-03-07 10:00:00');
