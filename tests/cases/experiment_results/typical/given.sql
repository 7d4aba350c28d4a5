-- By hand: 48 of 80 with off and 56 of 70 with on reach the goal two hours later: Newcombe's first example (1998, table
-- II, method 10), 0.0524 to 0.3339, but for two more of off who do not: 500 paid before the exposure and 501 a second
-- after the window, both known by the old name of the attribute (so 48 of 82). 502 saw both. 503 and 505 were
-- exposed an hour before now: 503 is open, 505 was quick, and neither is in the rate. 504 saw another flag.
INSERT INTO events (project, name, kind, day, unit, time, strings)
    SELECT 1, 'feature_flag.evaluation', 'event', '2026-02-10', number, '2026-02-10 10:00:00',
        map('feature_flag.key', 'new-checkout', 'feature_flag.result.variant', 'off') FROM numbers(1, 80);
INSERT INTO events (project, name, kind, day, unit, time)
    SELECT 1, 'pay', 'event', '2026-02-10', number, '2026-02-10 12:00:00' FROM numbers(1, 48);
INSERT INTO events (project, name, kind, day, unit, time, strings)
    SELECT 1, 'feature_flag.evaluation', 'event', '2026-02-10', number, '2026-02-10 10:00:00',
        map('feature_flag.key', 'new-checkout', 'feature_flag.result.variant', 'on') FROM numbers(101, 70);
INSERT INTO events (project, name, kind, day, unit, time)
    SELECT 1, 'pay', 'event', '2026-02-10', number, '2026-02-10 12:00:00' FROM numbers(101, 56);
INSERT INTO events (project, name, kind, day, unit, time, strings) VALUES
    (1, 'pay', 'event', '2026-02-10', 500, '2026-02-10 09:59:59.999', {}),
    (1, 'feature_flag.evaluation', 'event', '2026-02-10', 500, '2026-02-10 10:00:00', {'feature_flag.key': 'new-checkout', 'feature_flag.variant': 'off'}),
    (1, 'feature_flag.evaluation', 'event', '2026-02-10', 501, '2026-02-10 10:00:00', {'feature_flag.key': 'new-checkout', 'feature_flag.variant': 'off'}),
    (1, 'pay', 'event', '2026-02-24', 501, '2026-02-24 10:00:01', {}),
    (1, 'feature_flag.evaluation', 'event', '2026-02-10', 502, '2026-02-10 10:00:00', {'feature_flag.key': 'new-checkout', 'feature_flag.result.variant': 'off'}),
    (1, 'feature_flag.evaluation', 'event', '2026-02-10', 502, '2026-02-10 11:00:00', {'feature_flag.key': 'new-checkout', 'feature_flag.result.variant': 'on'}),
    (1, 'feature_flag.evaluation', 'event', '2026-03-07', 503, '2026-03-07 23:00:00', {'feature_flag.key': 'new-checkout', 'feature_flag.result.variant': 'on'}),
    (1, 'feature_flag.evaluation', 'event', '2026-03-07', 505, '2026-03-07 23:00:00', {'feature_flag.key': 'new-checkout', 'feature_flag.result.variant': 'on'}),
    (1, 'pay', 'event', '2026-03-07', 505, '2026-03-07 23:00:30', {}),
    (1, 'feature_flag.evaluation', 'event', '2026-03-07', 504, '2026-03-07 23:00:00', {'feature_flag.key': 'another', 'feature_flag.result.variant': 'on'});
