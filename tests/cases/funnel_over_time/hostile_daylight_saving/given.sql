-- By hand: in Berlin the 26th of October 2025 has 25 hours, from 22:00 UTC of the 25th to 23:00 UTC. 1 begins in its first half
-- hour, 2 in its last minute and finishes a minute later; 3 begins with the 27th.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2025-10-25', 1, '2025-10-25 22:30:00'),
    (1, 'a', 'used', '2025-10-26', 2, '2025-10-26 22:59:00'),
    (1, 'b', 'used', '2025-10-26', 2, '2025-10-26 23:00:00'),
    (1, 'a', 'used', '2025-10-26', 3, '2025-10-26 23:00:00');
