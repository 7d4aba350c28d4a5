-- By hand, in Berlin (UTC+1), asked on the 8th at 00:00 UTC, within a day: 1 goes through on the 2nd. 2 begins on the 2nd and too
-- late on the 3rd finishes; that day's own beginning leads there in time, so it is lost on the 2nd and through on the 3rd. 4
-- begins on the 7th, and 3 at 23:30 UTC, which is the 8th in Berlin: both still have time. 9 belongs to another project.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (1, 'b', 'event', '2026-03-02', 1, '2026-03-02 11:00:00'),
    (1, 'a', 'used', '2026-03-02', 2, '2026-03-02 12:00:00'),
    (1, 'a', 'used', '2026-03-03', 2, '2026-03-03 12:00:00'),
    (1, 'b', 'event', '2026-03-03', 2, '2026-03-03 13:00:00'),
    (1, 'a', 'used', '2026-03-07', 3, '2026-03-07 23:30:00'),
    (1, 'a', 'used', '2026-03-07', 4, '2026-03-07 10:00:00'),
    (2, 'a', 'used', '2026-03-07', 9, '2026-03-07 10:00:00');
