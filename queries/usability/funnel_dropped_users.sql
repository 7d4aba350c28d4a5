-- title: People lost in a funnel
-- question: Who began a declared funnel and did not get through, and where did they stop?
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
-- caveats: The funnel is the one the latest release declares. Lost means that no chain of all steps in order lies
--   within one day of an entry, and that this day has passed since the last entry. Other windows and conditions:
--   gemba funnel.
WITH
    links AS
    (
        SELECT anonymous, argMin(person, (time, person)) AS person
        FROM identity_links WHERE project = {project:UInt32}
        GROUP BY anonymous
    ),
    -- The steps of each funnel as its service's latest release declares them, in order.
    steps AS
    (
        SELECT
            name, funnel, position,
            row_number() OVER (PARTITION BY funnel ORDER BY position, name) AS place,
            count() OVER (PARTITION BY funnel) AS steps
        FROM
        (
            SELECT
                name, argMax(d.funnel, d.time) AS funnel, argMax(d.position, d.time) AS position
            FROM catalog AS d WHERE project = {project:UInt32}
                AND d.kind = 'step'
                AND (d.service, d.release) IN
                (
                    SELECT service, argMax(release, seen)
                    FROM
                    (
                        SELECT service, release, min(c.time) AS seen
                        FROM catalog AS c WHERE project = {project:UInt32} AND c.time < {to:DateTime64(3, 'UTC')}
                        GROUP BY service, release
                    )
                    GROUP BY service
                )
            GROUP BY name
        )
    ),
    -- How far each person came: the longest chain of steps in order within the window, entered in the time looked at.
    levels AS
    (
        SELECT
            s.funnel AS funnel,
            if(l.person != 0, l.person, e.unit) AS person,
            any(s.steps) AS steps,
            windowFunnel(86400000)(
                at_ms,
                s.place = 1 AND e.time < {to:DateTime64(3, 'UTC')},
                s.place = 2, s.place = 3, s.place = 4, s.place = 5, s.place = 6, s.place = 7,
                s.place = 8, s.place = 9, s.place = 10, s.place = 11, s.place = 12, s.place = 13,
                s.place = 14, s.place = 15, s.place = 16, s.place = 17, s.place = 18, s.place = 19,
                s.place = 20, s.place = 21, s.place = 22, s.place = 23, s.place = 24, s.place = 25,
                s.place = 26, s.place = 27, s.place = 28, s.place = 29, s.place = 30, s.place = 31,
                s.place = 32) AS level,
            maxIf(e.time, s.place = 1 AND e.time < {to:DateTime64(3, 'UTC')}) AS last_entry,
            -- Nobody is lost while a try can still go on.
            level < steps AND last_entry + toIntervalDay(1) >= {now:DateTime64(3, 'UTC')} AS is_open,
            groupArray((s.place, e.time)) AS visits
        FROM
        (
            SELECT name, unit, time, toUInt64(toUnixTimestamp64Milli(time)) AS at_ms
            FROM events WHERE project = {project:UInt32}
                AND kind = 'step' AND unit != 0
                AND name IN (SELECT name FROM steps)
                AND day >= toDate({from:DateTime64(3, 'UTC')})
                AND day <= toDate({to:DateTime64(3, 'UTC')} + toIntervalDay(1))
                AND time >= {from:DateTime64(3, 'UTC')} AND time <= {to:DateTime64(3, 'UTC')} + toIntervalDay(1)
        ) AS e
        INNER JOIN steps AS s ON s.name = e.name
        LEFT JOIN links AS l ON l.anonymous = e.unit
        GROUP BY funnel, person
        HAVING level > 0
    ),
    names AS
    (
        SELECT
            unit, any(kind) AS kind, any(id) AS id
        FROM units FINAL WHERE project = {project:UInt32}
            AND unit IN (SELECT person FROM levels WHERE funnel = {funnel:String} AND level < steps AND NOT is_open)
        GROUP BY unit
    )
SELECT
    if(n.unit = 0, lower(hex(v.person)), n.id) AS person,
    if(n.unit = 0, '', toString(n.kind)) AS person_kind,
    toString(s.name) AS last_step,
    toString(m.name) AS next_step,
    toUInt32(v.level) AS steps_reached,
    toUInt32(v.steps) AS steps,
    v.last_entry AS last_entry,
    arrayMax(arrayMap(visit -> visit.2, arrayFilter(visit -> visit.1 = v.level, v.visits))) AS last_step_at,
    toUInt32(arrayCount(visit -> visit.1 = 1 AND visit.2 < {to:DateTime64(3, 'UTC')}, v.visits)) AS entries
FROM levels AS v
INNER JOIN steps AS s ON s.funnel = v.funnel AND s.place = toUInt64(v.level)
INNER JOIN steps AS m ON m.funnel = v.funnel AND m.place = toUInt64(v.level) + 1
LEFT JOIN names AS n ON n.unit = v.person
WHERE v.funnel = {funnel:String} AND v.level < v.steps AND NOT v.is_open
    AND ({step:String} = '' OR s.name = {step:String})
ORDER BY last_step_at DESC, person
LIMIT {limit:UInt32}
