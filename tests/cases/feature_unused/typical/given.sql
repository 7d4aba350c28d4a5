-- Release 1.0 declares search, export and old; 1.1 declares search, export, find (was: search.box, which was: box),
-- share and the step checkout.pay. By hand, unused in the last 30 days: share (never), checkout.pay (never), export
-- (last in January). find counts as used, since box was. old is no longer declared.
INSERT INTO catalog (project, kind, name, was, code, service, release, time) VALUES
    (1, 'feature', 'search', '', 's.rs:1', 'shop', '1.0', '2026-01-01 00:00:00'),
    (1, 'feature', 'export', '', 'e.rs:1', 'shop', '1.0', '2026-01-01 00:00:00'),
    (1, 'feature', 'old', '', 'o.rs:1', 'shop', '1.0', '2026-01-01 00:00:00'),
    (1, 'feature', 'search.box', 'box', 'b.rs:1', 'shop', '1.0', '2026-01-01 00:00:00'),
    (1, 'feature', 'search', '', 's.rs:2', 'shop', '1.1', '2026-02-20 00:00:00'),
    (1, 'feature', 'export', '', 'e.rs:2', 'shop', '1.1', '2026-02-20 00:00:00'),
    (1, 'feature', 'export', '', 'e.rs:3', 'shop', '1.1', '2026-02-21 00:00:00'),
    (1, 'feature', 'find', 'search.box', 'f.rs:1', 'shop', '1.1', '2026-02-20 00:00:00'),
    (1, 'feature', 'share', '', 'h.rs:1', 'shop', '1.1', '2026-02-20 00:00:00'),
    (1, 'step', 'checkout.pay', '', 'c.rs:1', 'shop', '1.1', '2026-02-20 00:00:00'),
    -- An old process declares its release again: that makes it no newer.
    (1, 'feature', 'old', '', 'o.rs:1', 'shop', '1.0', '2026-03-01 00:00:00');
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'search', 'used', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (1, 'box', 'used', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (1, 'export', 'used', '2026-01-10', 1, '2026-01-10 10:00:00');
