-- title: One query in detail
-- question: Where does this query come from, in which releases, features, routes and code lines, and what does it cost there?
-- grain: one row per release, feature, route, code line and type of error
-- param from
-- param to
-- param fingerprint: of the query, 16 hexadecimal digits as slow_queries shows it | at most 16 bytes
-- param limit: most rows, within each part the costliest first | default 200 | range 1..10000
-- column part: name | release, feature, route, code or error | exact
-- column value: name | its name; empty: not known, or no error | exact
-- column calls: count | calls | exact
-- column duration_ms_total: ms | time spent in them | exact
-- column duration_ms_avg: ms | average | exact
-- column share: rate | part of all the time spent in the query | exact
-- caveats: Calls of sampled spans are estimated by their weight. Parts overlap: each call has a release, a feature and so on.
-- ctes: calls
WITH
    of_query AS
    (
        SELECT release, feature, route, code, error_type, toFloat64(p.calls) AS calls, p.sum_ns AS sum_ns
        FROM points AS p
        WHERE p.fingerprint = reinterpretAsUInt64(reverse(unhex({fingerprint:String})))
        UNION ALL
        SELECT
            release, feature, route, code, if(failed, 'failed', '') AS error_type,
            s.weight AS calls, s.duration_ns * s.weight AS sum_ns
        FROM spans AS s
        WHERE s.fingerprint = reinterpretAsUInt64(reverse(unhex({fingerprint:String})))
    ),
    by_part AS
    (
        SELECT
            pair.1 AS part, pair.2 AS value, sum(calls) AS calls, sum(sum_ns) AS sum_ns
        FROM of_query
        ARRAY JOIN
            [('release', toString(release)), ('feature', toString(feature)), ('route', toString(route)),
             ('code', toString(code)), ('error', toString(error_type))] AS pair
        GROUP BY part, value
    )
SELECT
    part,
    value,
    toUInt64(round(calls)) AS calls,
    round(sum_ns / 1e6, 3) AS duration_ms_total,
    round(sum_ns / 1e6 / greatest(b.calls, 1), 3) AS duration_ms_avg,
    if(sum(sum_ns) OVER (PARTITION BY part) = 0, NULL, round(sum_ns / sum(sum_ns) OVER (PARTITION BY part), 6)) AS share
FROM by_part AS b
ORDER BY indexOf(['release', 'feature', 'route', 'code', 'error'], part), sum_ns DESC, value
LIMIT {limit:UInt32}
