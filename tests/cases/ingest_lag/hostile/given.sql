-- An import of events from 1970 and another project's fresh rows. By hand: one row, 56 years of lag.
INSERT INTO events (project, name, kind, day, unit, time, received, record) VALUES
    (1, 'a', 'used', '1970-01-01', 1, '1970-01-01 00:00:00', '2026-03-07 00:00:00', 1),
    (2, 'a', 'used', '2026-03-07', 1, '2026-03-07 23:59:59', '2026-03-07 23:59:59', 1);
