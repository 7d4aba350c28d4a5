-- By hand: in Berlin the 26th of October 2025 has 25 hours, from 22:00 UTC of the 25th to 23:00 UTC: 3 looks, of two people. One look
-- lies in the last millisecond before it, one at the first instant after it.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'look', 'used', '2025-10-25', 1, '2025-10-25 21:59:59.999'),
    (1, 'look', 'used', '2025-10-25', 1, '2025-10-25 22:00:00'),
    (1, 'look', 'used', '2025-10-26', 1, '2025-10-26 12:00:00'),
    (1, 'look', 'used', '2025-10-26', 2, '2025-10-26 22:59:59.999'),
    (1, 'look', 'used', '2025-10-26', 2, '2025-10-26 23:00:00');
