-- By hand, after "cart": 1 goes home, cart, cart (once), half an hour later to the millisecond pay, done; a millisecond more than
-- half an hour later is another visit: cart, home. 2 goes cart, pay, done, as 9 (linked) at first. 3 never has a cart. Of 3 visits two go cart, pay, done.
INSERT INTO events (project, name, kind, day, unit, time) VALUES
    (1, 'home', 'used', '2026-03-05', 1, '2026-03-05 10:00:00.000'),
    (1, 'cart', 'used', '2026-03-05', 1, '2026-03-05 10:01:00.000'),
    (1, 'cart', 'step', '2026-03-05', 1, '2026-03-05 10:02:00.000'),
    (1, 'pay', 'started', '2026-03-05', 1, '2026-03-05 10:32:00.000'),
    (1, 'pay', 'ended', '2026-03-05', 1, '2026-03-05 10:32:00.001'),
    (1, 'done', 'event', '2026-03-05', 1, '2026-03-05 10:32:00.001'),
    (1, 'cart', 'used', '2026-03-05', 1, '2026-03-05 11:02:00.002'),
    (1, 'home', 'used', '2026-03-05', 1, '2026-03-05 11:02:01.000'),
    (1, 'cart', 'used', '2026-03-05', 9, '2026-03-05 10:00:00.000'),
    (1, 'pay', 'used', '2026-03-05', 2, '2026-03-05 10:00:01.000'),
    (1, 'done', 'used', '2026-03-05', 2, '2026-03-05 10:00:02.000'),
    (1, 'home', 'used', '2026-03-05', 3, '2026-03-05 10:00:02.000');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (1, 9, 2, '2026-03-05 00:00:00');
