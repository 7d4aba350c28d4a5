-- By hand, in Kathmandu (+5:45) a week begins on Sunday at 18:15 UTC: 1 begins a millisecond before, in the week of the 23rd of
-- February, and returns at that instant, a week later; 2 begins at that instant, in the week of the 2nd of March.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-03-01', 1, '2026-03-01 18:14:59.999'),
    (1, 'a', 'used', '2026-03-01', 1, '2026-03-01 18:15:00'),
    (1, 'a', 'used', '2026-03-01', 2, '2026-03-01 18:15:00');
