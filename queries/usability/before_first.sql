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
    -- Names by number, 0 for anything at all: as text, what a million people did does not fit into a question's memory.
    (
        SELECT arraySort(groupUniqArray(toString(name)))
        FROM events WHERE project = {project:UInt32} AND time < {to:DateTime64(3, 'UTC')}
    ) AS all_names,
    firsts AS
    (
        SELECT if(l.person != 0, l.person, u.unit) AS person, min(u.first_time) AS first
        FROM
        (
            SELECT unit, min(time) AS first_time
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0 AND name = {event:String} AND time < {to:DateTime64(3, 'UTC')}
            GROUP BY unit
        ) AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY person
        HAVING first >= {from:DateTime64(3, 'UTC')}
    ),
    -- Every unit one of them is known by, so that events need to be looked up once. A unit that was linked is its person, not
    -- itself.
    known_as AS
    (
        SELECT f.person AS unit, f.person AS person, f.first AS first
        FROM firsts AS f
        WHERE f.person NOT IN (SELECT anonymous FROM links)
        UNION ALL
        SELECT l.anonymous AS unit, f.person AS person, f.first AS first
        FROM links AS l
        INNER JOIN firsts AS f ON f.person = l.person
    ),
    earlier AS
    (
        SELECT k.person AS person, e.number AS number, min(e.time) AS began, any(k.first) AS until, count() AS events
        FROM
        (
            SELECT unit, time, transform(name, all_names, arrayEnumerate(all_names), 0) AS number
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0 AND name != {event:String} AND time < {to:DateTime64(3, 'UTC')}
        ) AS e
        INNER JOIN known_as AS k ON k.unit = e.unit
        WHERE e.time < k.first
        GROUP BY person, number
    ),
    by_person AS
    (
        SELECT
            any(e.until) AS until,
            groupArray(e.number) AS did,
            groupArray(e.began) AS began_in,
            groupArray(e.events) AS events_in
        FROM earlier AS e
        GROUP BY e.person
    )
SELECT
    if(did_first = 0, '', all_names[did_first]) AS before,
    count() AS users,
    (SELECT count() FROM firsts) AS of_users,
    round(users / of_users, 6) AS share,
    sum(events_of) AS events,
    round(quantileExactLow(0.5)(dateDiff('millisecond', began, b.until)) / 3600000, 3) AS hours_before_p50
FROM by_person AS b
ARRAY JOIN
    arrayPushFront(did, 0) AS did_first,
    arrayPushFront(began_in, arrayMin(began_in)) AS began,
    arrayPushFront(events_in, arraySum(events_in)) AS events_of
GROUP BY did_first
ORDER BY before != '', users DESC, before
LIMIT {limit:UInt32}
