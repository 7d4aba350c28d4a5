-- title: Declared funnels
-- question: Which funnels does the code declare, and in which order are their steps?
-- grain: one row per funnel and step, in the order of the steps
-- param limit: most rows | default 1000 | range 1..10000
-- column funnel: name | name of the funnel | exact
-- column position: count | position of the step, from 0 | exact
-- column step: name | the step as FUNNEL.STEP, which is its event name | exact
-- column service: name | service that declares it | exact
-- column release: name | its latest release: the one first seen last | exact
-- column declared_at: time | when that release declared it first | exact
-- caveats: A funnel is taken whole from the latest release that has it; steps only older ones had are left out.
WITH
    declared AS
    (
        SELECT funnel, service, release, name, argMax(position, time) AS at, min(time) AS first_declared
        FROM catalog WHERE project = {project:UInt32} AND kind = 'step'
        GROUP BY funnel, service, release, name
    ),
    latest AS
    (
        SELECT funnel, argMax((service, release), (first_seen, release)) AS owner, max(first_seen) AS seen
        FROM
        (
            SELECT funnel, service, release, min(first_declared) AS first_seen
            FROM declared
            GROUP BY funnel, service, release
        )
        GROUP BY funnel
    )
SELECT
    d.funnel AS funnel,
    d.at AS position,
    d.name AS step,
    d.service AS service,
    d.release AS release,
    l.seen AS declared_at
FROM declared AS d
INNER JOIN latest AS l ON l.funnel = d.funnel
WHERE (d.service, d.release) = l.owner
ORDER BY funnel, position, step
LIMIT {limit:UInt32}
