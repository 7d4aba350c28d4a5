-- Six pages, each shown to 300 people within 5 ms and never given up, and four forms that take a minute: 36 of 300 give up
-- three of them (0.12, usual for a form), 150 the fourth (0.5). A form is compared with forms. By hand: 10 candidates,
-- z = 2.576 (1 - 0.05/10). Wilson at 150 of 300: 0.4265 and up; the other three give 900 attempts, 573.2 after 1.57:
-- Wilson at 0.12 up to 0.1594. Newcombe: 0.38 - sqrt(0.0735^2 + 0.0394^2) = 0.2966. Score 300 a week x 0.2966 = 88.98.
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, duration_ns)
SELECT
    1, concat('page', toString(f)), 'ended', '2026-03-05', person, '2026-03-05 10:00:00', person * 100 + f, 'completed', 5000000
FROM (SELECT number + 1 AS person FROM numbers(300))
ARRAY JOIN range(6) AS f;
INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, duration_ns)
SELECT
    1, concat('form', toString(f)), 'ended', '2026-03-05', person, '2026-03-05 10:00:00', person * 100 + 10 + f,
    if(person <= if(f = 3, 150, 36), 'abandoned', 'completed'), 60000000000
FROM (SELECT number + 1 AS person FROM numbers(300))
ARRAY JOIN range(4) AS f;
