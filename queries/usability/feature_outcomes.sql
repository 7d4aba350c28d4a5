-- title: Outcomes of features
-- question: How do attempts at a feature end, why, and how long do they take until then?
-- grain: one row per feature, outcome, reason and type of error
-- param from
-- param to
-- param feature: only this feature, empty for all | default "" | at most 256 bytes
-- param release: only attempts of this release, empty for all | default "" | at most 256 bytes
-- param limit: most rows, the features with most attempts first | default 1000 | range 1..10000
-- column feature: name | name of the feature | exact
-- column outcome: name | completed, failed, abandoned, cancelled, panicked, or open for those without an end so far | exact
-- column reason: name | why, as the application or the SDK said, or empty | exact
-- column error: name | type of the error, or empty | exact
-- column attempts: count | attempts begun in the time looked at that ended so | exact
-- column share: rate | part of all attempts at the feature | exact
-- column users: count | people among them | exact
-- column time_to_end_ms_p50: ms | median time from beginning to end, by nearest rank; null: no end | exact
-- column time_to_end_ms_p90: ms | 90th percentile of it, by nearest rank | exact
-- caveats: Completed means ended as the user wanted, so its time is the time to finish. feature_completion has the same as
--   one row a feature.
-- ctes: links, attempt_events_of_release, attempts
WITH
    resolved AS
    (
        SELECT
            a.name AS name,
            if(a.has_end, toString(a.outcome), 'open') AS ended,
            if(a.has_end, toString(a.reason), '') AS why,
            if(a.has_end, toString(a.error), '') AS failure,
            a.has_end AS has_end,
            a.duration_ns AS duration_ns,
            if(l.person != 0, l.person, a.unit) AS person
        FROM attempts AS a
        LEFT JOIN links AS l ON l.anonymous = a.unit
        WHERE {feature:String} = '' OR a.name = {feature:String}
    )
SELECT
    toString(name) AS feature,
    ended AS outcome,
    why AS reason,
    failure AS error,
    count() AS attempts,
    round(attempts / sum(count()) OVER (PARTITION BY feature), 6) AS share,
    uniqExactIf(person, person != 0) AS users,
    if(outcome = 'open', NULL, round(quantileExactLow(0.5)(duration_ns) / 1e6, 3)) AS time_to_end_ms_p50,
    if(outcome = 'open', NULL, round(arraySort(groupArray(duration_ns))[toUInt32(ceil(count() * 0.9))] / 1e6, 3))
        AS time_to_end_ms_p90
FROM resolved
GROUP BY feature, outcome, reason, error
ORDER BY sum(count()) OVER (PARTITION BY feature) DESC, feature, attempts DESC, outcome, reason, error
LIMIT {limit:UInt32}
