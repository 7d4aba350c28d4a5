-- title: Paths
-- question: What do people do right before or after something?
-- grain: one row per path, the most frequent first
-- param from
-- param to
-- param event: name of the feature, FUNNEL.STEP or event in question | at most 256 bytes
-- param direction: on which side to look | default after | one of after, before, both
-- param depth: most steps on that side | default 5 | range 1..10
-- param pause_minutes: a longer pause ends a visit | default 30 | range 1..1440
-- param limit: most rows | default 50 | range 1..10000
-- column path: name | what happened, in order, with the event in question first, last or in between | exact
-- column visits: count | visits that took this path | exact
-- column users: count | people who took it | exact
-- column share: rate | part of all visits with the event | exact
-- caveats: A visit is looked at from the first time the event occurs in it. The same thing several times in a row counts
--   once; what happened in the same millisecond is ordered by name. Ends of attempts are no part of a path.
-- ctes: links
WITH
    -- Names by number, in the order of their text, so that what somebody did is one number: milliseconds, then the name. As
    -- pairs of time and text the events of many people do not fit into a question's memory.
    (
        SELECT arraySort(groupUniqArray(toString(name)))
        FROM events WHERE project = {project:UInt32}
            AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
    ) AS all_names,
    indexOf(all_names, {event:String}) AS wanted,
    people_with AS
    (
        SELECT DISTINCT if(l.person != 0, l.person, u.unit) AS person
        FROM
        (
            SELECT DISTINCT unit
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0 AND name = {event:String}
                AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
                AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
        ) AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
    ),
    people AS
    (
        SELECT
            if(l.person != 0, l.person, d.unit) AS person,
            arraySort(groupArray(d.deed)) AS everything
        FROM
        (
            SELECT
                unit,
                bitShiftLeft(toUInt64(toUnixTimestamp64Milli(time)), 20)
                    -- More names than fit would run into the time; they are taken for the last one.
                    + least(transform(name, all_names, arrayEnumerate(all_names), 0), 1048575) AS deed
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0
                AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
                AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
        ) AS d
        LEFT JOIN links AS l ON l.anonymous = d.unit
        WHERE person IN (SELECT person FROM people_with)
        GROUP BY person
    ),
    visits AS
    (
        SELECT
            person,
            arrayCompact(arrayMap(deed -> bitAnd(deed, 1048575), visit)) AS names,
            indexOf(names, wanted) AS place
        FROM people
        ARRAY JOIN arraySplit(
            (deed, before) -> bitShiftRight(deed, 20) - bitShiftRight(before, 20) > {pause_minutes:UInt32} * 60000,
            everything, arrayPushFront(arrayPopBack(everything), everything[1])) AS visit
        WHERE place > 0
    ),
    counted AS
    (
        SELECT
            multiIf(
                {direction:String} = 'after', arraySlice(names, place, {depth:UInt32} + 1),
                {direction:String} = 'before',
                    arraySlice(names, greatest(1, place - toInt64({depth:UInt32})), least(place, {depth:UInt32} + 1)),
                arraySlice(names, greatest(1, place - toInt64({depth:UInt32})),
                    least(place, {depth:UInt32} + 1) + {depth:UInt32})) AS numbers,
            count() AS visits,
            uniqExact(person) AS users,
            round(visits / sum(count()) OVER (), 6) AS share
        FROM visits
        GROUP BY numbers
        ORDER BY visits DESC, numbers
        LIMIT {limit:UInt32}
    )
SELECT
    arrayMap(number -> all_names[number], numbers) AS path,
    visits,
    users,
    share
FROM counted
ORDER BY visits DESC, numbers
