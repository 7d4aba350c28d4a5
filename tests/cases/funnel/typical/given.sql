-- By hand: 1 (de) and 2 (fr) go from a to b, 3 (de) does b first and is lost, 4 has no country and is lost. The window is
-- an hour: 2 needs exactly that, which is inside. 9 belongs to another project.
INSERT INTO events (project, name, kind, day, unit, time, strings) VALUES
    (1, 'a', 'used', '2026-03-02', 1, '2026-03-02 10:00:00', {'country': 'de'}),
    (1, 'b', 'event', '2026-03-02', 1, '2026-03-02 10:00:10', {}),
    (1, 'a', 'used', '2026-03-02', 2, '2026-03-02 10:00:00', {'country': 'fr'}),
    (1, 'b', 'event', '2026-03-02', 2, '2026-03-02 11:00:00', {}),
    (1, 'b', 'event', '2026-03-02', 3, '2026-03-02 09:00:00', {}),
    (1, 'a', 'used', '2026-03-02', 3, '2026-03-02 10:00:00', {'country': 'de'}),
    (1, 'a', 'started', '2026-03-02', 4, '2026-03-02 10:00:00', {}),
    (2, 'a', 'used', '2026-03-02', 9, '2026-03-02 10:00:00', {'country': 'de'});
