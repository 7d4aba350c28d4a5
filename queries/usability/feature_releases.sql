-- title: Features by release
-- question: What did each release bring, rename or drop, and what does it declare that nobody has used in it?
-- grain: one row per release and feature or funnel step that is new, renamed, gone or unused in it
-- param from: only releases first seen at or after this | default now - 90d
-- param to: only releases first seen before this; uses are counted until now | default now
-- param limit: most rows, the newest release first | default 1000 | range 1..10000
-- column service: name | the service | exact
-- column release: name | the release | exact
-- column first_seen: time | when the release was first declared | exact
-- column before: name | the release before it; empty: none known | exact
-- column kind: name | feature or step | exact
-- column name: name | name of the feature, or FUNNEL.STEP | exact
-- column change: name | new, renamed, gone, or unused: declared as before and not used in this release | exact
-- column was: name | its name before, where it was renamed | exact
-- column uses: count | uses, attempts begun and steps reached in this release | exact
-- column users: count | people who did so | exact
-- caveats: Releases of a service follow each other in the order they were first seen. Of the first one known everything is
--   new. Something that comes back after it was gone is new again.
-- ctes: links
WITH
    declared AS
    (
        SELECT service, release, toString(kind) AS of_kind, name, max(was) AS earlier, min(time) AS seen
        FROM catalog WHERE project = {project:UInt32}
            AND kind IN ('feature', 'step') AND time < {now:DateTime64(3, 'UTC')}
        GROUP BY service, release, of_kind, name
    ),
    in_order AS
    (
        SELECT
            service, release, first_seen,
            lagInFrame(release, 1, '') OVER
                (PARTITION BY service ORDER BY first_seen, release ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS previous
        FROM (SELECT toString(service) AS service, toString(release) AS release, min(seen) AS first_seen FROM declared GROUP BY service, release)
    ),
    used AS
    (
        SELECT
            if(d.kind = 'step', 'step', 'feature') AS of_kind, toString(d.name) AS name, d.service AS service, d.release AS release,
            count() AS uses,
            uniqExactIf(if(l.person != 0, l.person, d.unit), d.unit != 0) AS users
        FROM
        (
            SELECT kind, name, service, release, unit
            FROM events WHERE project = {project:UInt32}
                AND kind IN ('used', 'started', 'step') AND time < {now:DateTime64(3, 'UTC')}
                AND (service, release) IN (
                    SELECT service, release FROM in_order
                    WHERE first_seen >= {from:DateTime64(3, 'UTC')} AND first_seen < {to:DateTime64(3, 'UTC')})
        ) AS d
        LEFT JOIN links AS l ON l.anonymous = d.unit
        GROUP BY of_kind, name, service, release
    ),
    here AS
    (
        SELECT
            o.service AS service, o.release AS release, o.first_seen AS first_seen, o.previous AS previous, d.of_kind AS of_kind,
            d.name AS name,
            (service, previous, of_kind, name) IN (SELECT service, release, of_kind, name FROM declared) AS is_known,
            if(NOT is_known AND d.earlier != '' AND d.earlier != d.name
                AND (service, previous, of_kind, d.earlier) IN (SELECT service, release, of_kind, name FROM declared)
                AND (service, release, of_kind, d.earlier) NOT IN (SELECT service, release, of_kind, name FROM declared),
                d.earlier, '') AS old_name
        FROM declared AS d
        INNER JOIN in_order AS o ON o.service = d.service AND o.release = d.release
    ),
    changes AS
    (
        SELECT
            service, release, first_seen, previous, of_kind, name, old_name,
            multiIf(old_name != '', 'renamed', is_known, 'unused', 'new') AS change
        FROM here
        UNION ALL
        SELECT
            o.service AS service, o.release AS release, o.first_seen AS first_seen, o.previous AS previous,
            d.of_kind AS of_kind, d.name AS name, '' AS old_name, 'gone' AS change
        FROM in_order AS o
        INNER JOIN declared AS d ON d.service = o.service AND d.release = o.previous
        WHERE o.previous != ''
            AND (o.service, o.release, d.of_kind, d.name) NOT IN (SELECT service, release, of_kind, name FROM declared)
            AND (o.service, o.release, d.of_kind, d.name) NOT IN (SELECT service, release, of_kind, old_name FROM here)
    )
SELECT
    c.service AS service,
    c.release AS release,
    c.first_seen AS first_seen,
    c.previous AS before,
    c.of_kind AS kind,
    c.name AS name,
    c.change AS change,
    c.old_name AS was,
    u.uses AS uses,
    u.users AS users
FROM changes AS c
LEFT JOIN used AS u ON u.of_kind = c.of_kind AND u.name = c.name AND u.service = c.service AND u.release = c.release
WHERE (c.change != 'unused' OR u.uses = 0)
    AND c.first_seen >= {from:DateTime64(3, 'UTC')} AND c.first_seen < {to:DateTime64(3, 'UTC')}
ORDER BY first_seen DESC, service, release, indexOf(['new', 'renamed', 'gone', 'unused'], change), kind, name
LIMIT {limit:UInt32}
