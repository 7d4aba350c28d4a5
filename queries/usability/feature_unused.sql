-- title: Unused features
-- question: What does the latest release declare that nobody has used?
-- grain: one row per feature or funnel step declared by the latest release of its service and not used in the time
--   looked at
-- param from: beginning of the time looked at, inclusive | default now - 30d
-- param to
-- param limit: most rows, the longest unused first | default 1000 | range 1..10000
-- column name: name | name of the feature, or FUNNEL.STEP | exact
-- column kind: name | feature or step | exact
-- column service: name | service that declares it | exact
-- column release: name | its latest release: the one first seen last | exact
-- column code: name | file and line that declare it | exact
-- column declared_since: time | when it was first declared, under this or an earlier name | exact
-- column last_used: time | latest use ever, under this or an earlier name; null: never used | exact
-- column earlier_names: name | names it had before, which count as its own | exact
-- caveats: What was declared only after the end of the time looked at is left out. Uses older than the retention of
--   the project are not seen.
WITH RECURSIVE
    declared AS
    (
        SELECT
            service, release, kind, name,
            any(was) AS was, argMax(code, time) AS code, min(time) AS first_seen
        FROM catalog WHERE project = {project:UInt32}
            AND kind IN ('feature', 'step')
            AND time < {to:DateTime64(3, 'UTC')}
        GROUP BY service, release, kind, name
    ),
    latest AS
    (
        SELECT service, argMax(release, seen) AS release
        FROM (SELECT service, release, min(first_seen) AS seen FROM declared GROUP BY service, release)
        GROUP BY service
    ),
    renames AS
    (
        SELECT DISTINCT kind, name, was FROM declared WHERE was != '' AND was != name
    ),
    -- Every name something ever had; 8 renames in a row are as far as it looks.
    names AS
    (
        SELECT DISTINCT kind, name, name AS earlier, toUInt8(0) AS depth FROM declared
        UNION ALL
        SELECT n.kind, n.name, r.was AS earlier, toUInt8(n.depth + 1) AS depth
        FROM names AS n
        INNER JOIN renames AS r ON r.kind = n.kind AND r.name = n.earlier
        WHERE n.depth < 8
    ),
    used AS
    (
        SELECT
            if(kind = 'step', 'step', 'feature') AS of_kind, name, max(time) AS last_used,
            countIf(time >= {from:DateTime64(3, 'UTC')}) AS uses
        FROM events WHERE project = {project:UInt32}
            AND kind IN ('used', 'started', 'ended', 'step')
            AND time < {to:DateTime64(3, 'UTC')}
        GROUP BY of_kind, name
    ),
    history AS
    (
        SELECT
            n.kind AS kind, n.name AS name,
            max(u.last_used) AS last_used,
            sum(u.uses) AS uses,
            min(if(d.first_seen = 0, toDateTime64('2262-01-01 00:00:00', 3, 'UTC'), d.first_seen)) AS declared_since,
            arraySort(groupUniqArrayIf(n.earlier, n.earlier != n.name)) AS earlier_names
        FROM names AS n
        LEFT JOIN used AS u ON u.of_kind = n.kind AND u.name = n.earlier
        LEFT JOIN (SELECT kind, name, min(first_seen) AS first_seen FROM declared GROUP BY kind, name) AS d
            ON d.kind = n.kind AND d.name = n.earlier
        GROUP BY kind, name
    )
SELECT
    d.name AS name,
    toString(d.kind) AS kind,
    d.service AS service,
    d.release AS release,
    d.code AS code,
    h.declared_since AS declared_since,
    if(h.last_used = 0, NULL, h.last_used) AS last_used,
    h.earlier_names AS earlier_names
FROM declared AS d
INNER JOIN latest AS l ON l.service = d.service AND l.release = d.release
INNER JOIN history AS h ON h.kind = d.kind AND h.name = d.name
WHERE h.uses = 0
ORDER BY h.last_used, name, kind, service
LIMIT {limit:UInt32}
