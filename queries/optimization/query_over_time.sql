-- title: One query over time
-- question: How often does this query run, and how long does it take, as time goes by?
-- grain: one row per period with calls
-- param from
-- param to
-- param tz
-- param fingerprint: of the query, 16 hexadecimal digits as slow_queries shows it | at most 16 bytes
-- param period: length of a period | default day | one of hour, day
-- column period: time | beginning of the period | exact
-- column local_time: name | the same in the time zone | exact
-- column calls: count | calls | exact
-- column duration_ms_total: ms | time spent in them | exact
-- column duration_ms_p50: ms | median | ± 1.1 %
-- column duration_ms_p95: ms | 95th percentile | ± 1.1 %
-- column duration_ms_max: ms | longest | exact
-- caveats: Metrics that are sent as running totals, or with bounds of their own, are left out; slow_queries has them. A point
--   belongs to the period its interval ends in. What counts is what counts in slow_queries: a process that sends metrics
--   which name its queries is counted by them, and a query that several instrumentations saw in a trace once.
-- ctes: calls
WITH
    reinterpretAsUInt64(reverse(unhex({fingerprint:String}))) AS wanted,
    moments AS
    (
        SELECT toDateTime64(time, 3, 'UTC') AS at, toFloat64(d.calls) AS calls, d.sum_ns AS sum_ns, d.max_ns AS max_ns, d.buckets AS buckets
        FROM deltas AS d
        WHERE fingerprint = wanted AND empty(bounds)
        UNION ALL
        SELECT
            toDateTime64(time, 3, 'UTC') AS at, s.weight AS calls, s.duration_ns * s.weight AS sum_ns,
            toFloat64(s.duration_ns) AS max_ns,
            CAST(map(toInt32(ceil(log2(greatest(s.duration_ns, 1) / 1e9) * 64) - 1), toUInt64(round(s.weight))), 'Map(Int32, UInt64)') AS buckets
        FROM spans AS s
        WHERE fingerprint = wanted
    ),
    by_period AS
    (
        SELECT
            toDateTime64(if({period:String} = 'hour', toStartOfHour(toTimeZone(at, {tz:String})),
                toStartOfDay(toTimeZone(at, {tz:String}))), 3, 'UTC') AS period,
            sum(m.calls) AS calls, sum(m.sum_ns) AS sum_ns, max(m.max_ns) AS max_ns,
            arraySort(bucket -> bucket.1, arrayZip(mapKeys(sumMap(m.buckets) AS merged), mapValues(merged))) AS ordered,
            arrayCumSum(bucket -> bucket.2, ordered) AS running
        FROM moments AS m
        GROUP BY period
    )
SELECT
    period,
    formatDateTime(period, '%Y-%m-%d %H:%i', {tz:String}) AS local_time,
    toUInt64(round(b.calls)) AS calls,
    round(sum_ns / 1e6, 3) AS duration_ms_total,
    round(exp2((ordered[arrayFirstIndex(seen -> seen >= ceil(running[-1] * 0.5), running)].1 + 0.5) / 64) * 1000, 3) AS duration_ms_p50,
    round(exp2((ordered[arrayFirstIndex(seen -> seen >= ceil(running[-1] * 0.95), running)].1 + 0.5) / 64) * 1000, 3) AS duration_ms_p95,
    round(max_ns / 1e6, 3) AS duration_ms_max
FROM by_period AS b
ORDER BY period
