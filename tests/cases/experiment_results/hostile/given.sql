-- By hand: key, variants and goal with quotes; the control asked for is the one without success; an anonymous session was
-- exposed and the person it turned out to be pays: one of one against none of one, which could be chance. Nobody (unit 0)
-- and another project are left out.
INSERT INTO events (project, name, kind, day, unit, time, strings) VALUES
    (1, 'feature_flag.evaluation', 'event', '2026-02-10', 9, '2026-02-10 10:00:00', {'feature_flag.key': 'k''"', 'feature_flag.result.variant': 'b\\'}),
    (1, 'p"ay', 'used', '2026-02-10', 1, '2026-02-10 10:00:00', {}),
    (1, 'feature_flag.evaluation', 'event', '2026-02-10', 2, '2026-02-10 10:00:00', {'feature_flag.key': 'k''"', 'feature_flag.result.variant': 'a'''}),
    (1, 'feature_flag.evaluation', 'event', '2026-02-10', 0, '2026-02-10 10:00:00', {'feature_flag.key': 'k''"', 'feature_flag.result.variant': 'a'''}),
    (2, 'feature_flag.evaluation', 'event', '2026-02-10', 3, '2026-02-10 10:00:00', {'feature_flag.key': 'k''"', 'feature_flag.result.variant': 'a'''});
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 9, 1, '2026-02-10 10:00:00');
