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
-- ctes: links, funnel_levels
WITH
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
