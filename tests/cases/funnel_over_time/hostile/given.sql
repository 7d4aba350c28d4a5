-- By hand: in Kathmandu (UTC+5:45) the hours from 10:00 and 11:00 begin at 04:15 and 05:15 UTC. 1 begins in the last millisecond of
-- the first and finishes in the second, which is its first hour's; 2 begins with the second. The names are data; what nobody
-- did and what began before is in no hour.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'it''s', 'used', '2026-03-02', 1, '2026-03-02 05:14:59.999'),
    (1, '\\"); --', 'event', '2026-03-02', 1, '2026-03-02 05:15:00'),
    (1, 'it''s', 'used', '2026-03-02', 2, '2026-03-02 05:15:00'),
    (1, 'it''s', 'used', '2026-03-02', 0, '2026-03-02 05:15:00'),
    (1, 'it''s', 'used', '2026-03-02', 3, '2026-03-02 04:14:59.999');
