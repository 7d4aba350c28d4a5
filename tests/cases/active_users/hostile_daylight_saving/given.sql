-- Berlin puts its clock forward on 29 March: that day has 23 hours, from 23:00 to 22:00 UTC. By hand: units 1 and 2
-- are on the 29th, 3 on the 30th; project 2 is not seen.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-03-28', 1, '2026-03-28 23:00:00.000'),
    (1, 'a', 'used', '2026-03-29', 2, '2026-03-29 21:59:59.999'),
    (1, 'a', 'used', '2026-03-29', 3, '2026-03-29 22:00:00.000'),
    (2, 'a', 'used', '2026-03-29', 4, '2026-03-29 12:00:00.000');
