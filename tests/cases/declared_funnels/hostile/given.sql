-- Two services declare funnels of one name at one moment, names hold quotes, a backslash and more than ASCII, one step is
-- declared twice with two positions (the later holds), and another project has the same funnel. By hand: at one moment
-- the greater release wins.
INSERT INTO catalog (project, kind, name, funnel, position, service, release, time) VALUES
    (1, 'step', 'o''f.a"b', 'o''f', 1, 'sh\\op', '1', '2026-02-01 00:00:00'),
    (1, 'step', 'o''f.a"b', 'o''f', 0, 'sh\\op', '1', '2026-02-02 00:00:00'),
    (1, 'step', 'o''f.ü', 'o''f', 1, 'sh\\op', '1', '2026-02-01 00:00:00'),
    (1, 'step', 'o''f.x', 'o''f', 0, 'other', '0', '2026-02-01 00:00:00'),
    (2, 'step', 'o''f.z', 'o''f', 0, 'shop', '9', '2026-03-01 00:00:00');
