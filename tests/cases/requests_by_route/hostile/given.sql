-- A duration of 0, a route with quotes, another service and another project with the same route. By hand: one row.
INSERT INTO requests (project, route, method, day, time, duration_ns, failed, weight, unit, service) VALUES
    (1, '/a''b"ü', 'GET', '2026-03-05', '2026-03-05 10:00:00', 0, 0, 1, 1, 'it''s'),
    (1, '/a''b"ü', 'GET', '2026-03-05', '2026-03-05 10:00:00', 5000000, 0, 1, 1, 'other'),
    (2, '/a''b"ü', 'GET', '2026-03-05', '2026-03-05 10:00:00', 5000000, 1, 1, 2, 'it''s');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (2, 1, 2, '2026-03-05 00:00:00');
