-- A rename in a circle (a was b, b was a) must not run for ever; both count as used through a. The same name as a
-- feature and as a step are two things: c was used as a feature only. Another project's use of never is no use here.
INSERT INTO catalog (project, kind, name, was, service, release, time) VALUES
    (1, 'feature', 'a', 'b', 's', '1', '2026-03-01 00:00:00'),
    (1, 'feature', 'b', 'a', 's', '1', '2026-03-01 00:00:00'),
    (1, 'feature', 'c', 'c', 's', '1', '2026-03-01 00:00:00'),
    (1, 'step', 'c', '', 's', '1', '2026-03-01 00:00:00'),
    (1, 'feature', 'never''ü', '', 's', '1', '2026-03-01 00:00:00'),
    (2, 'feature', 'theirs', '', 's', '2', '2026-03-02 00:00:00');
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (1, 'c', 'started', '2026-03-02', 1, '2026-03-02 10:00:00'),
    (2, 'never''ü', 'used', '2026-03-02', 1, '2026-03-02 10:00:00');
