-- Days of Kathmandu begin at 18:15 UTC the day before. By hand: 1 is active on 3 March (18:15 on the 2nd), 2 on the 2nd
-- (a millisecond earlier); another project's person is not seen, nor an event from the future.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-03-02', 1, '2026-03-02 18:15:00.000'),
    (1, 'a', 'used', '2026-03-02', 2, '2026-03-02 18:14:59.999'),
    (2, 'a', 'used', '2026-03-02', 3, '2026-03-02 18:14:59.999'),
    (1, 'a', 'used', '2026-03-02', 4, '2026-03-02 20:00:00.001');
