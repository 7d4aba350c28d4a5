-- By hand, /a: 100, 200, 600 ms and one of weight 2 that failed after 50 ms: 5 requests, availability 3/5, in a week
-- of 604,800 s; fast up to 500 ms: 4/5; total 100 + 200 + 600 + 2 x 50 = 1,000 ms; ranks 3, 5, 5 of 50 50 100 200
-- 600. Unit 3 is person 1.
INSERT INTO requests (project, route, method, day, time, duration_ns, status_code, failed, weight, unit, service) VALUES
    (1, '/a', 'GET', '2026-03-05', '2026-03-05 10:00:00', 100000000, 200, 0, 1, 1, 's'),
    (1, '/a', 'GET', '2026-03-05', '2026-03-05 10:00:00', 200000000, 200, 0, 1, 3, 's'),
    (1, '/a', 'GET', '2026-03-05', '2026-03-05 10:00:00', 600000000, 404, 0, 1, 2, 's'),
    (1, '/a', 'GET', '2026-03-05', '2026-03-05 10:00:00', 50000000, 500, 1, 2, 0, 's'),
    (1, '/a', 'POST', '2026-03-05', '2026-03-05 10:00:00', 1234567, 200, 0, 1, 0, 's'),
    (1, '/a', 'GET', '2026-02-05', '2026-02-05 10:00:00', 1234567, 200, 0, 1, 0, 's');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 3, 1, '2026-03-05 00:00:00');
