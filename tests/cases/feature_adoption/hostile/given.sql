-- By hand: two services declare "both", the first one, b, counts. A declaration at the end of the time looked at is left out,
-- one at its beginning is not, nor is one of another project seen. Nobody (unit 0) is no person; an event from the future
-- is not seen. So "both" and "edge" have nobody active: rates are unknown, not 0.
INSERT INTO catalog (project, kind, name, service, release, time) VALUES
    (1, 'feature', 'both', 'a', '9', '2026-03-06 00:00:00'),
    (1, 'feature', 'both', 'b', '1', '2026-03-05 00:00:00'),
    (1, 'feature', 'edge', 'a', '9', '2026-03-01 00:00:00'),
    (1, 'feature', 'late', 'a', '9', '2026-03-07 00:00:00'),
    (2, 'feature', 'other', 'a', '9', '2026-03-05 00:00:00');
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'both', 'used', '2026-03-06', 0, '2026-03-06 12:00:00'),
    (1, 'both', 'used', '2026-03-08', 1, '2026-03-08 00:00:00'),
    (2, 'both', 'used', '2026-03-06', 2, '2026-03-06 12:00:00');
