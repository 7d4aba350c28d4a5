-- title: Before the first
-- question: Who did something before they first did this, such as before they signed up?
-- grain: one row per thing done before, and one for anything at all
-- param from: beginning of the time in which the first lies, inclusive | default 1970-01-01T00:00:00Z
-- param to
-- param event: name of the feature, FUNNEL.STEP or event in question | at most 256 bytes
-- param limit: most rows, what most people did first | default 100 | range 1..10000
-- column before: name | what they did before; empty: anything | exact
-- column users: count | people who did it before their first | exact
-- column of_users: count | people whose first lies in the time looked at | exact
-- column share: rate | users / of_users | exact
-- column events: count | how often they did it before | exact
-- column hours_before_p50: h | median time from doing it first to the event in question, over people, by nearest rank | exact
-- caveats: Before means in an earlier millisecond. Ends of attempts are nothing somebody does. Anonymous use counts to the
--   person it turned out to be. Imported and migrated data often hold people who act before they exist.
-- ctes: links
WITH
    done AS
    (
        SELECT
            if(l.person != 0, l.person, e.unit) AS person, e.name AS name, e.first_time AS first_time, e.times AS times
        FROM
        (
            SELECT unit, toString(name) AS name, min(time) AS first_time, groupArray(time) AS times
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0 AND time < {to:DateTime64(3, 'UTC')}
            GROUP BY unit, name
        ) AS e
        LEFT JOIN links AS l ON l.anonymous = e.unit
    ),
    firsts AS
    (
        SELECT person, min(first_time) AS first
        FROM done
        WHERE name = {event:String}
        GROUP BY person
        HAVING first >= {from:DateTime64(3, 'UTC')}
    ),
    earlier AS
    (
        SELECT
            d.person AS person, d.name AS name, min(d.first_time) AS began, any(f.first) AS until,
            sum(arrayCount(moment -> moment < f.first, d.times)) AS events
        FROM done AS d
        INNER JOIN firsts AS f ON f.person = d.person
        WHERE d.name != {event:String} AND d.first_time < f.first
        GROUP BY person, name
    ),
    by_person AS
    (
        SELECT person, name, began, until, events FROM earlier
        UNION ALL
        SELECT e.person, '' AS name, min(e.began) AS began, any(e.until) AS until, sum(e.events) AS events
        FROM earlier AS e
        GROUP BY e.person
    )
SELECT
    b.name AS before,
    count() AS users,
    (SELECT count() FROM firsts) AS of_users,
    round(users / of_users, 6) AS share,
    sum(b.events) AS events,
    round(quantileExactLow(0.5)(dateDiff('millisecond', b.began, b.until)) / 3600000, 3) AS hours_before_p50
FROM by_person AS b
GROUP BY before
ORDER BY before != '', users DESC, before
LIMIT {limit:UInt32}
