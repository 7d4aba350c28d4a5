-- title: Feature usage
-- question: Which features and events are used, by how many people, and when last?
-- grain: one row per feature or event name, and per value of the breakdown where one is asked for
-- param from
-- param to
-- param kind: which names to list | default all | one of all, feature, event
-- param breakdown: what else to group by | default none | one of none, release, service, environment, tenant
-- param limit: most rows, the most used first | default 1000 | range 1..10000
-- column feature: name | name of the feature, or of a named event of another origin | exact
-- column kind: name | feature, or event for a named event of another origin | exact
-- column breakdown: name | value of the breakdown, empty where none is asked for | exact
-- column uses: count | uses, and attempts begun, in the time looked at | exact
-- column users: count | people who used it; an anonymous session counts as a person until it is linked to one | exact
-- column sessions: count | sessions it was used in | exact
-- column uses_without_user: count | uses that carry neither user nor session | exact
-- column last_used: time | latest use in the time looked at | exact
-- caveats: An attempt counts as a use when it begins, whatever becomes of it; feature_completion says that. Ends of
--   attempts and funnel steps are no uses.
-- ctes: links
SELECT
    d.name AS feature,
    if(d.kind = 'event', 'event', 'feature') AS kind,
    d.value AS breakdown,
    count() AS uses,
    uniqExactIf(if(l.person != 0, l.person, d.unit), d.unit != 0) AS users,
    uniqExactIf(d.session, d.session != 0) AS sessions,
    countIf(d.unit = 0) AS uses_without_user,
    max(d.time) AS last_used
FROM
(
    SELECT
        name, kind, unit, session, time,
        multiIf(
            {breakdown:String} = 'release', release,
            {breakdown:String} = 'service', service,
            {breakdown:String} = 'environment', environment,
            {breakdown:String} = 'tenant', tenant,
            '') AS value
    FROM events WHERE project = {project:UInt32}
        AND kind IN ('used', 'started', 'event')
        AND ({kind:String} = 'all' OR ({kind:String} = 'event') = (kind = 'event'))
        AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
        AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
) AS d
LEFT JOIN links AS l ON l.anonymous = d.unit
GROUP BY feature, kind, breakdown
ORDER BY uses DESC, feature, kind, breakdown
LIMIT {limit:UInt32}
