-- By hand, before "it's", at most 2 steps, pauses of a minute: 1 does d, c, b, and in one millisecond a and it's, ordered by
-- name: b, a, it's. 2 begins with it's, and does it again later in the visit: the first counts. Nobody (unit 0), the other
-- project and what lies outside the time looked at do not count.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'd', 'event', '2026-03-05', 1, '2026-03-05 10:00:00.000'),
    (1, 'c', 'event', '2026-03-05', 1, '2026-03-05 10:00:01.000'),
    (1, 'b', 'event', '2026-03-05', 1, '2026-03-05 10:00:02.000'),
    (1, 'it\'s', 'event', '2026-03-05', 1, '2026-03-05 10:00:03.000'),
    (1, 'a', 'event', '2026-03-05', 1, '2026-03-05 10:00:03.000'),
    (1, 'b', 'event', '2026-03-05', 2, '2026-03-05 09:59:59.998'),
    (1, 'it\'s', 'event', '2026-03-05', 2, '2026-03-05 10:00:59.999'),
    (1, 'b', 'event', '2026-03-05', 2, '2026-03-05 10:01:00.000'),
    (1, 'it\'s', 'event', '2026-03-05', 2, '2026-03-05 10:01:01.000'),
    (1, 'it\'s', 'event', '2026-03-05', 0, '2026-03-05 10:01:01.000'),
    (1, 'it\'s', 'event', '2026-02-05', 3, '2026-02-05 10:01:01.000'),
    (2, 'it\'s', 'event', '2026-03-05', 4, '2026-03-05 10:01:01.000');
