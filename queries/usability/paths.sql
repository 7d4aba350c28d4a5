-- title: Paths
-- question: What do people do right before or after something?
-- grain: one row per path, the most frequent first
-- param from
-- param to
-- param event: name of the feature, FUNNEL.STEP or event in question | at most 256 bytes
-- param direction: on which side to look | default after | one of after, before, both
-- param depth: most steps on that side | default 5 | range 1..10
-- param pause_minutes: a pause of this length ends a visit | default 30 | range 1..1440
-- param limit: most rows | default 50 | range 1..10000
-- column path: name | what happened, in order, with the event in question first, last or in between | exact
-- column visits: count | visits that took this path | exact
-- column users: count | people who took it | exact
-- column share: rate | part of all visits with the event | exact
-- caveats: A visit is looked at from the first time the event occurs in it. The same thing several times in a row counts
--   once; what happened in the same millisecond is ordered by name. Ends of attempts are no part of a path.
-- ctes: links
WITH
    people AS
    (
        SELECT
            if(l.person != 0, l.person, u.unit) AS person,
            arraySort(groupArrayArray(u.done)) AS everything
        FROM
        (
            SELECT unit, groupArray((time, toString(name))) AS done
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0
                AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
                AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
            GROUP BY unit
        ) AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY person
        HAVING arrayExists(one -> one.2 = {event:String}, everything)
    ),
    visits AS
    (
        SELECT
            person,
            arrayCompact(arrayMap(one -> one.2, visit)) AS names,
            indexOf(names, {event:String}) AS place
        FROM people
        ARRAY JOIN arraySplit(
            (one, before) -> dateDiff('millisecond', before.1, one.1) >= {pause_minutes:UInt32} * 60000,
            everything, arrayConcat([everything[1]], arrayPopBack(everything))) AS visit
        WHERE place > 0
    )
SELECT
    multiIf(
        {direction:String} = 'after', arraySlice(names, place, {depth:UInt32} + 1),
        {direction:String} = 'before',
            arraySlice(names, greatest(1, place - toInt64({depth:UInt32})), least(place, {depth:UInt32} + 1)),
        arraySlice(names, greatest(1, place - toInt64({depth:UInt32})),
            least(place, {depth:UInt32} + 1) + {depth:UInt32})) AS path,
    count() AS visits,
    uniqExact(person) AS users,
    round(visits / sum(count()) OVER (), 6) AS share
FROM visits
GROUP BY path
ORDER BY visits DESC, path
LIMIT {limit:UInt32}
