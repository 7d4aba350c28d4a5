-- By hand: used at 18:00 and at 18:30 UTC, which is 23:45 and a quarter past midnight in Kathmandu: on two days there. The first
-- activity since the declaration is the first use, so it took no time.
INSERT INTO catalog (project, kind, name, service, release, time) VALUES (1, 'feature', 'new', 'shop', '2', '2026-03-02 10:00:00');
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'new', 'used', '2026-03-02', 1, '2026-03-02 18:00:00'),
    (1, 'new', 'used', '2026-03-02', 1, '2026-03-02 18:30:00');
