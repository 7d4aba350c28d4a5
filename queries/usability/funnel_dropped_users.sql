-- title: People lost in a funnel
-- question: Who began a declared funnel and did not get through, where did they stop, and what did they do then?
-- grain: one row per person who was lost
-- param from
-- param to
-- param funnel: name of the funnel | at most 128 bytes
-- param step: only those lost after this step (FUNNEL.STEP), empty for all | default "" | at most 257 bytes
-- param limit: most rows, the latest lost first | default 1000 | range 1..10000
-- column person: id | user id; of somebody never identified the session or anonymous id | exact
-- column person_kind: name | user, session or anonymous; empty when the id is not known | exact
-- column last_step: name | last step reached, as FUNNEL.STEP | exact
-- column next_step: name | the step not reached | exact
-- column steps_reached: count | steps reached in order | exact
-- column steps: count | steps of the funnel | exact
-- column last_entry: time | last time the first step was reached in the time looked at | exact
-- column last_step_at: time | last time the last step was reached | exact
-- column entries: count | times the first step was reached in the time looked at | exact
-- column next_event: name | what they did after the last step; empty: nothing | exact
-- column next_at: time | when; null: nothing | exact
-- column last_event: name | what they did last of all | exact
-- column latest_at: time | when | exact
-- caveats: The funnel is the one the latest release declares. Lost means that no chain of all steps in order lies
--   within one day of an entry, and that this day has passed since the last entry. Steps done in one millisecond count in the
--   funnel's order, whatever their own. Other windows and conditions, exact to the event: gemba funnel.
-- ctes: links, funnel_levels
WITH
    (done, since) -> arraySort(arrayFilter(one -> one.1 > since, done)) AS later,
    lost AS
    (
        SELECT
            person, steps, level, last_entry, visits,
            arrayMax(arrayMap(visit -> visit.2, arrayFilter(visit -> visit.1 = level, visits))) AS last_step_at
        FROM levels
        WHERE funnel = {funnel:String} AND level < steps AND NOT is_open
    ),
    names AS
    (
        SELECT
            unit, any(kind) AS kind, any(id) AS id
        FROM units FINAL WHERE project = {project:UInt32}
            AND unit IN (SELECT person FROM lost)
        GROUP BY unit
    ),
    -- Everything the lost did from their entry on.
    doings AS
    (
        SELECT
            if(l.person != 0, l.person, e.unit) AS person,
            groupArray((e.time, e.name)) AS done
        FROM
        (
            SELECT unit, time, toString(name) AS name
            FROM events WHERE project = {project:UInt32}
                AND kind IN ('used', 'step', 'event') AND unit != 0
                AND day >= toDate({from:DateTime64(3, 'UTC')}) AND time >= {from:DateTime64(3, 'UTC')}
                AND time < {now:DateTime64(3, 'UTC')}
        ) AS e
        LEFT JOIN links AS l ON l.anonymous = e.unit
        GROUP BY person
        HAVING person IN (SELECT person FROM lost)
    )
SELECT
    if(n.unit = 0, lower(hex(v.person)), n.id) AS person,
    if(n.unit = 0, '', toString(n.kind)) AS person_kind,
    toString(s.name) AS last_step,
    toString(m.name) AS next_step,
    toUInt32(v.level) AS steps_reached,
    toUInt32(v.steps) AS steps,
    v.last_entry AS last_entry,
    v.last_step_at AS last_step_at,
    toUInt32(arrayCount(visit -> visit.1 = 1 AND visit.2 < {to:DateTime64(3, 'UTC')}, v.visits)) AS entries,
    if(empty(later(d.done, v.last_step_at)), '', later(d.done, v.last_step_at)[1].2) AS next_event,
    if(empty(later(d.done, v.last_step_at)), NULL, later(d.done, v.last_step_at)[1].1) AS next_at,
    arraySort(d.done)[-1].2 AS last_event,
    arraySort(d.done)[-1].1 AS latest_at
FROM lost AS v
INNER JOIN steps AS s ON s.funnel = {funnel:String} AND s.place = toUInt64(v.level)
INNER JOIN steps AS m ON m.funnel = {funnel:String} AND m.place = toUInt64(v.level) + 1
LEFT JOIN names AS n ON n.unit = v.person
LEFT JOIN doings AS d ON d.person = v.person
WHERE {step:String} = '' OR s.name = {step:String}
ORDER BY last_step_at DESC, person
LIMIT {limit:UInt32}
