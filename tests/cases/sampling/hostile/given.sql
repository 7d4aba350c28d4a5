-- Rates that are none are no sample; another project's rate is not ours; a resource stored twice counts once.
INSERT INTO resources (project, resource, service, release, attributes, last_seen) VALUES
    (1, 1, 'a', '', {'gemba.sample_rate': '0'}, '2026-03-07'),
    (1, 2, 'b', '', {'gemba.sample_rate': '1'}, '2026-03-07'),
    (1, 3, 'c', '', {'gemba.sample_rate': '2'}, '2026-03-07'),
    (1, 4, 'd', '', {'gemba.sample_rate': '-0.5'}, '2026-03-07'),
    (1, 5, 'e', '', {'gemba.sample_rate': 'NaN'}, '2026-03-07'),
    (1, 6, 'f', '', {'gemba.sample_rate': 'half'}, '2026-03-07'),
    (1, 7, 'g', '', {'gemba.sample_rate': ''}, '2026-03-07'),
    (2, 8, 'h', '', {'gemba.sample_rate': '0.5'}, '2026-03-07'),
    (1, 9, 'i', '', {'gemba.sample_rate': '0.1'}, '2026-03-06');
INSERT INTO resources (project, resource, service, release, attributes, last_seen) VALUES
    (1, 9, 'i', '', {'gemba.sample_rate': '0.1'}, '2026-03-07');
INSERT INTO events (project, resource, service, release, name, kind, day, unit, time)
SELECT 1, number, char(96 + number), '', 'search', 'used', '2026-03-07', 1, '2026-03-07 10:00:00'
FROM numbers(1, 9);
