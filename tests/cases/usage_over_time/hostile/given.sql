-- The hour that Berlin has twice (25 October 2026, 02:00 to 03:00) is two periods of the same local name. By hand: 1
-- and 2 uses; another project's and another name's are not seen.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'ü\'', 'used', '2026-10-25', 1, '2026-10-25 00:30:00'),
    (1, 'ü\'', 'used', '2026-10-25', 1, '2026-10-25 01:00:00'),
    (1, 'ü\'', 'used', '2026-10-25', 1, '2026-10-25 01:59:59'),
    (1, 'ü', 'used', '2026-10-25', 1, '2026-10-25 01:59:59'),
    (2, 'ü\'', 'used', '2026-10-25', 1, '2026-10-25 01:59:59');
