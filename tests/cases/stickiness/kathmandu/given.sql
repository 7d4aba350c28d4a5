-- By hand, in Kathmandu (+5:45): 1 is active on the 2nd, 2 on the 3rd, though both acts lie within a second of one UTC day.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-03-02', 1, '2026-03-02 18:14:59.999'),
    (1, 'a', 'used', '2026-03-02', 2, '2026-03-02 18:15:00');
