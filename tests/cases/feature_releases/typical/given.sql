-- By hand: release 1 declares search, wrap and step checkout.cart: all new. Release 2 renames wrap to gift, keeps search
-- (used in it twice by one person, once as a session), drops the step, adds rate: renamed, new, gone, nothing unused.
-- Release 3 declares what 2 did, and only rate is used in it: gift and search are unused.
INSERT INTO catalog (project, kind, name, was, service, release, time) VALUES
    (1, 'feature', 'search', '', 'shop', '1', '2026-02-01 00:00:00'),
    (1, 'feature', 'wrap', '', 'shop', '1', '2026-02-01 00:00:00'),
    (1, 'step', 'checkout.cart', '', 'shop', '1', '2026-02-01 00:00:00'),
    (1, 'feature', 'search', '', 'shop', '2', '2026-02-10 00:00:00'),
    (1, 'feature', 'gift', 'wrap', 'shop', '2', '2026-02-10 00:00:00'),
    (1, 'feature', 'rate', '', 'shop', '2', '2026-02-10 00:00:01'),
    (1, 'feature', 'search', '', 'shop', '3', '2026-02-20 00:00:00'),
    (1, 'feature', 'gift', 'wrap', 'shop', '3', '2026-02-20 00:00:00'),
    (1, 'feature', 'rate', '', 'shop', '3', '2026-02-20 00:00:01');
INSERT INTO events (project, name, kind, day, unit, time, service, release) VALUES
    (1, 'search', 'used', '2026-02-11', 1, '2026-02-11 10:00:00', 'shop', '2'),
    (1, 'search', 'used', '2026-02-11', 2, '2026-02-11 11:00:00', 'shop', '2'),
    (1, 'rate', 'started', '2026-02-21', 1, '2026-02-21 11:00:00', 'shop', '3'),
    (1, 'rate', 'ended', '2026-02-21', 1, '2026-02-21 11:00:00', 'shop', '3');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 2, 1, '2026-02-11 11:00:00');
