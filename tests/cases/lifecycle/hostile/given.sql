-- Months of New York: October ends at 04:00 UTC, November, after the clock went back, at 05:00 UTC. By hand: 1 is active in
-- October (03:59:59.999) and in November: new, then returning, dormant in December. 2 is new in November (04:59:59.999
-- on 1 December is still November). 3 is active in the future only and not seen, and nobody (unit 0) is no person.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2025-11-01', 1, '2025-11-01 03:59:59.999'),
    (1, 'a', 'used', '2025-11-01', 1, '2025-11-01 04:00:00.000'),
    (1, 'a', 'used', '2025-12-01', 2, '2025-12-01 04:59:59.999'),
    (1, 'a', 'used', '2025-12-01', 0, '2025-12-01 12:00:00.000'),
    (1, 'a', 'used', '2025-12-20', 3, '2025-12-20 12:00:00.000'),
    (2, 'a', 'used', '2025-12-02', 4, '2025-12-02 12:00:00.000');
