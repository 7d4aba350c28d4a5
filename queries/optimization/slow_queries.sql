-- title: Slow queries
-- question: Which database queries take the most time in all, whom do they make wait, and where do they come from?
-- grain: one row per query (fingerprint)
-- param from
-- param to
-- param service: only calls made by this service, empty for all | default "" | at most 256 bytes
-- param release: only calls made by this release, empty for all | default "" | at most 256 bytes
-- param limit: most rows, the most total time first | default 50 | range 1..10000
-- column fingerprint: name | fingerprint in 16 hexadecimal digits; zeros: all queries beyond the limits | exact
-- column name: name | name the application gave it, or empty | exact
-- column summary: name | its short form | exact
-- column system: name | database system | exact
-- column calls: count | calls, each counted, spans by their weight | exact
-- column errors: count | calls that failed | exact
-- column duration_ms_total: ms | time of all calls together | exact
-- column share: rate | part of the time of all queries | exact
-- column duration_ms_mean: ms | mean time of a call | exact
-- column duration_ms_p50: ms | half of the calls took at most this | ± 0.55 %
-- column duration_ms_p95: ms | 95 % of the calls took at most this | ± 0.55 %
-- column duration_ms_p99: ms | 99 % of the calls took at most this | ± 0.55 %
-- column duration_ms_p95_low: ms | the 95th percentile is not below this | exact
-- column duration_ms_p95_high: ms | the 95th percentile is not above this | exact
-- column duration_ms_max: ms | longest call | exact
-- column users: count | people who waited for it | exact
-- column sessions: count | sessions it ran in | exact
-- column calls_per_use: ratio | mean calls within one scope, attempt or step that used it; many say N+1 | exact
-- column features: name | features it ran in, most time first, at most 5 | exact
-- column routes: name | routes it ran in, most time first, at most 5 | exact
-- column code: name | code lines that ran it, most time first, at most 5 | exact
-- column sources: name | what was measured: sdk, metric, span | exact
-- column text: sql | normalised text | exact
-- caveats: Where a sender gives only coarse buckets, percentiles are the middle of theirs and may be off by more; the
--   low and high columns say how far. A process that sends metrics which name the queries of a database is counted by
--   them, and its foreign spans are samples; metrics that name operations at most count where there are no spans. A
--   query that several instrumentations saw in a trace is counted once. Points of a metric belong to the moment their
--   interval ends.
-- ctes: calls, links, texts
WITH
    -- Who waited, by scope that ended: the SDK's usage records; foreign spans tell only who.
    uses AS
    (
        SELECT
            fingerprint, unit,
            sum(u.calls) AS calls,
            count() AS uses,
            groupUniqArrayIf(session, session != 0) AS sessions
        FROM query_usage AS u WHERE project = {project:UInt32}
            AND ({service:String} = '' OR service = {service:String})
            AND ({release:String} = '' OR release = {release:String})
            AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
            AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
        GROUP BY fingerprint, unit
        UNION ALL
        SELECT fingerprint, unit, 0 AS calls, 0 AS uses, groupUniqArrayIf(session, session != 0) AS sessions
        FROM spans
        WHERE ({service:String} = '' OR service = {service:String})
            AND ({release:String} = '' OR release = {release:String})
        GROUP BY fingerprint, unit
    ),
    waiting AS
    (
        SELECT
            u.fingerprint AS fingerprint,
            uniqExactIf(if(l.person != 0, l.person, u.unit), u.unit != 0) AS users,
            uniqExactArray(u.sessions) AS sessions,
            if(sum(u.uses) = 0, NULL, round(sum(u.calls) / sum(u.uses), 2)) AS calls_per_use
        FROM uses AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY fingerprint
    ),
    totals AS
    (
        SELECT
            c.fingerprint AS fingerprint,
            sum(c.calls) AS calls,
            sum(c.errors) AS errors,
            sum(c.total_ns) AS total_ns,
            max(c.max_ns) AS max_ns,
            max(c.of_system) AS system,
            sumMap(map(c.feature, c.total_ns)) AS by_feature,
            sumMap(map(c.route, c.total_ns)) AS by_route,
            sumMap(map(c.code, c.total_ns)) AS by_code,
            arraySort(groupUniqArray(c.origin)) AS sources
        FROM
        (
            SELECT
                fingerprint, feature, route, code, max(toString(p.system)) AS of_system, origin,
                sum(toFloat64(p.calls)) AS calls, sumIf(toFloat64(p.calls), p.error_type != '') AS errors,
                sum(p.sum_ns) AS total_ns, max(p.max_ns) AS max_ns
            FROM points AS p
            WHERE ({service:String} = '' OR service = {service:String})
                AND ({release:String} = '' OR release = {release:String})
            GROUP BY fingerprint, feature, route, code, origin
            UNION ALL
            SELECT
                fingerprint, feature, route, code, max(toString(s.system)) AS of_system, 'span' AS origin,
                sum(s.weight) AS calls, sumIf(s.weight, s.failed) AS errors,
                sum(s.duration_ns * s.weight) AS total_ns, toFloat64(max(s.duration_ns)) AS max_ns
            FROM spans AS s
            WHERE ({service:String} = '' OR service = {service:String})
                AND ({release:String} = '' OR release = {release:String})
            GROUP BY fingerprint, feature, route, code
        ) AS c
        GROUP BY fingerprint
    ),
    percentiles AS
    (
        SELECT
            fingerprint,
            quantilesExactWeighted(0.5, 0.95, 0.99)(r.low, toUInt64(round(r.calls))) AS lows,
            quantilesExactWeighted(0.5, 0.95, 0.99)(r.high, toUInt64(round(r.calls))) AS highs
        FROM ranges AS r
        WHERE ({service:String} = '' OR service = {service:String})
            AND ({release:String} = '' OR release = {release:String})
        GROUP BY fingerprint
    ),
    -- The five keys of a map with the largest values, without the empty one.
    (of_what) -> arraySlice(
        arrayFilter(key -> key != '',
            arrayMap(pair -> toString(pair.1),
                arraySort(pair -> (-pair.2, pair.1), arrayZip(mapKeys(of_what), mapValues(of_what))))), 1, 5) AS top,
    -- The middle of a percentile's range, which never lies beyond the longest call.
    (low, high, longest) -> round((low + if(longest > 0, least(high, longest), high)) / 2e6, 3) AS middle_ms
SELECT
    lower(leftPad(hex(t.fingerprint), 16, '0')) AS fingerprint,
    x.name AS name,
    if(t.fingerprint = 0, 'other queries', x.summary) AS summary,
    t.system AS system,
    toUInt64(round(t.calls)) AS calls,
    toUInt64(round(t.errors)) AS errors,
    round(t.total_ns / 1e6, 3) AS duration_ms_total,
    round(t.total_ns / sum(t.total_ns) OVER (), 6) AS share,
    round(t.total_ns / t.calls / 1e6, 3) AS duration_ms_mean,
    middle_ms(p.lows[1], p.highs[1], t.max_ns) AS duration_ms_p50,
    middle_ms(p.lows[2], p.highs[2], t.max_ns) AS duration_ms_p95,
    middle_ms(p.lows[3], p.highs[3], t.max_ns) AS duration_ms_p99,
    round(p.lows[2] / 1e6, 3) AS duration_ms_p95_low,
    round(if(t.max_ns > 0, least(p.highs[2], t.max_ns), p.highs[2]) / 1e6, 3) AS duration_ms_p95_high,
    round(t.max_ns / 1e6, 3) AS duration_ms_max,
    w.users AS users,
    w.sessions AS sessions,
    w.calls_per_use AS calls_per_use,
    top(t.by_feature) AS features,
    top(t.by_route) AS routes,
    top(t.by_code) AS code,
    t.sources AS sources,
    x.text AS text
FROM totals AS t
LEFT JOIN percentiles AS p ON p.fingerprint = t.fingerprint
LEFT JOIN waiting AS w ON w.fingerprint = t.fingerprint
LEFT JOIN texts AS x ON x.fingerprint = t.fingerprint
ORDER BY t.total_ns DESC, fingerprint
LIMIT {limit:UInt32}
