-- By hand: two services declare the same name and do not touch each other; a feature that claims it was renamed from
-- something that is still declared, or from something never declared, is new; a release seen again later keeps its place;
-- releases with quotes and backslashes; another project.
INSERT INTO catalog (project, kind, name, was, service, release, time) VALUES
    (1, 'feature', 'a', '', 'one', '1''"', '2026-02-01 00:00:00'),
    (1, 'feature', 'a', '', 'one', '2\\', '2026-02-02 00:00:00'),
    (1, 'feature', 'b', 'a', 'one', '2\\', '2026-02-02 00:00:00'),
    (1, 'feature', 'c', 'nothing', 'one', '2\\', '2026-02-02 00:00:00'),
    (1, 'feature', 'a', '', 'one', '1''"', '2026-02-03 00:00:00'),
    (1, 'feature', 'a', '', 'two', '9', '2026-02-05 00:00:00'),
    (2, 'feature', 'z', '', 'one', '1''"', '2026-02-01 00:00:00');
