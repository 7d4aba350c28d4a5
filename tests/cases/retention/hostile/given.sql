-- Days of Kathmandu begin at 18:15 UTC. Start "it's", return "back\slash". By hand, recurring, on or after: 1 starts on the
-- 2nd (18:15) and on the 4th, and returns on the 3rd and, in the same millisecond as its start, on the 4th; the start
-- itself is no return. 5 returns on the 4th before the start of that day, which counts for the day. 2 starts on the 4th,
-- twice in one millisecond, and never returns. The 5th is not over; a start at the end of the time looked at is none, an
-- event from the future is not seen.
INSERT INTO events (project, name, kind, day, unit, seq, time) VALUES
    (1, 'back\\slash', 'event', '2026-03-01', 1, 0, '2026-03-01 18:15:00.000'),
    (1, 'it\'s', 'event', '2026-03-01', 1, 0, '2026-03-01 19:00:00.000'),
    (1, 'back\\slash', 'event', '2026-03-02', 1, 0, '2026-03-02 19:00:00.000'),
    (1, 'it\'s', 'event', '2026-03-03', 1, 5, '2026-03-03 19:00:00.000'),
    (1, 'back\\slash', 'event', '2026-03-03', 1, 4, '2026-03-03 19:00:00.000'),
    (1, 'it\'s', 'event', '2026-03-03', 2, 0, '2026-03-03 20:00:00.000'),
    (1, 'it\'s', 'event', '2026-03-03', 2, 0, '2026-03-03 20:00:00.000'),
    (1, 'back\\slash', 'event', '2026-03-03', 5, 0, '2026-03-03 18:30:00.000'),
    (1, 'it\'s', 'event', '2026-03-03', 5, 0, '2026-03-03 19:00:00.000'),
    (1, 'its', 'event', '2026-03-03', 3, 0, '2026-03-03 20:00:00.000'),
    (1, 'it\'s', 'event', '2026-03-04', 4, 0, '2026-03-04 18:15:00.000'),
    (1, 'back\\slash', 'event', '2026-03-06', 2, 0, '2026-03-06 20:00:00.000');
