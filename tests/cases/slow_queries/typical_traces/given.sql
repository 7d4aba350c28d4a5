-- Foreign spans find their route and person by trace, and a query that two instrumentations saw is counted once. By hand:
-- query a was seen by a library (4 ms in the first request of trace 1, 2 ms in the second) and by the driver below it (3
-- and 1 ms): equally often, so the one that took longer is counted: 2 calls, 6 ms, routes '/orders/{id}' 4 ms and
-- '/orders' 2 ms; person 5 in session 6. It also ran without a trace: 1 call of 8 ms, no route, since a request without a
-- trace is not its. Query b in trace 1, but in another service, which serves no requests: 1 call of 1 ms. Query c before
-- any request of the trace: 1 call of 1 ms. Query d was seen by the driver 3 times (1 ms each), by the library once (9
-- ms), which did not see the others: 3 calls, 3 ms, '/orders'.
INSERT INTO requests (project, route, method, day, time, duration_ns, unit, session, trace_id, span_id, service) VALUES
    (1, '/orders/{id}', 'GET', '2026-03-05', '2026-03-05 10:00:00', 9000000, 5, 6, unhex(repeat('01', 16)), 1, 'shop'),
    (1, '/orders', 'GET', '2026-03-05', '2026-03-05 10:00:01', 9000000, 5, 6, unhex(repeat('01', 16)), 2, 'shop'),
    (1, '/none', 'GET', '2026-03-05', '2026-03-05 10:00:00', 9000000, 7, 8, '', 3, 'shop');
INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, sample, system, trace_id, service)
VALUES
    (1, 0xa, '2026-03-05', '2026-03-05 10:00:00.001', 4000000, 'span', 1, 'library', 'postgresql', unhex(repeat('01', 16)), 'shop'),
    (1, 0xa, '2026-03-05', '2026-03-05 10:00:00.002', 3000000, 'span', 1, 'driver', 'postgresql', unhex(repeat('01', 16)), 'shop'),
    (1, 0xa, '2026-03-05', '2026-03-05 10:00:01.001', 2000000, 'span', 1, 'library', 'postgresql', unhex(repeat('01', 16)), 'shop'),
    (1, 0xa, '2026-03-05', '2026-03-05 10:00:01.002', 1000000, 'span', 1, 'driver', 'postgresql', unhex(repeat('01', 16)), 'shop'),
    (1, 0xa, '2026-03-05', '2026-03-05 10:00:02', 8000000, 'span', 1, 'driver', 'postgresql', '', 'shop'),
    (1, 0xb, '2026-03-05', '2026-03-05 10:00:00.001', 1000000, 'span', 1, 'driver', 'postgresql', unhex(repeat('01', 16)), 'other'),
    (1, 0xc, '2026-03-05', '2026-03-05 09:59:59', 1000000, 'span', 1, '', 'postgresql', unhex(repeat('01', 16)), 'shop'),
    (1, 0xd, '2026-03-05', '2026-03-05 10:00:03', 9000000, 'span', 1, 'library', 'postgresql', unhex(repeat('01', 16)), 'shop'),
    (1, 0xd, '2026-03-05', '2026-03-05 10:00:03', 1000000, 'span', 1, 'driver', 'postgresql', unhex(repeat('01', 16)), 'shop'),
    (1, 0xd, '2026-03-05', '2026-03-05 10:00:04', 1000000, 'span', 1, 'driver', 'postgresql', unhex(repeat('01', 16)), 'shop'),
    (1, 0xd, '2026-03-05', '2026-03-05 10:00:05', 1000000, 'span', 1, 'driver', 'postgresql', unhex(repeat('01', 16)), 'shop');
