-- By hand, in Kathmandu (+5:45): 18:14:59.999 UTC is 23:59:59.999 of the same day, 18:15 the next one's midnight. So 1 acts on
-- the 2nd, 2 on the 3rd (once before midnight of UTC, once after), and the 4th is empty.
INSERT INTO events (project, name, kind, day, unit, session, time) VALUES
    (1, 'a', 'used', '2026-03-02', 1, 11, '2026-03-02 18:14:59.999'),
    (1, 'a', 'used', '2026-03-02', 2, 12, '2026-03-02 18:15:00'),
    (1, 'a', 'used', '2026-03-03', 2, 12, '2026-03-03 01:00:00');
