-- By hand, in Berlin, where the week of Monday the 23rd of March has 167 hours: summer time begins on Sunday the 29th, and the
-- week ends at 22:00 UTC. 1 acts in its last hour and an hour later, in the next week: new, then returning. 2 acts at 22:00
-- UTC on the 22nd, still Sunday in Berlin (23:00, winter time): the week before, then an hour later.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'a', 'used', '2026-03-29', 1, '2026-03-29 21:59:59'),
    (1, 'a', 'used', '2026-03-29', 1, '2026-03-29 22:00:00'),
    (1, 'a', 'used', '2026-03-22', 2, '2026-03-22 22:00:00'),
    (1, 'a', 'used', '2026-03-22', 2, '2026-03-22 23:00:00');
