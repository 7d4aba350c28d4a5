-- By hand: on 5 March 1 is active twice (once as 9, linked), in the week also 2 (27 February is the first of the seven days),
-- in the month also 3 (4 February is the first of the thirty) but not 4 (3 February). On the 6th nobody is active, 2 and 3
-- have fallen out.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-03-05', 1, '2026-03-05 00:00:00.000'),
    (1, 'a', 'used', '2026-03-05', 9, '2026-03-05 23:59:59.999'),
    (1, 'a', 'used', '2026-02-27', 2, '2026-02-27 12:00:00.000'),
    (1, 'a', 'step', '2026-02-04', 3, '2026-02-04 12:00:00.000'),
    (1, 'a', 'used', '2026-02-03', 4, '2026-02-03 12:00:00.000'),
    (1, 'a', 'ended', '2026-03-06', 5, '2026-03-06 12:00:00.000'),
    (1, 'a', 'used', '2026-03-06', 0, '2026-03-06 12:00:00.000');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 9, 1, '2026-03-06 00:00:00.000');
