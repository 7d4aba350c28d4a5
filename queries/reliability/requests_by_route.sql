-- title: Requests by route
-- question: How fast and how reliably is each route served?
-- grain: one row per service, route and method
-- param from
-- param to
-- param service: only this service, empty for all | default "" | at most 256 bytes
-- param threshold_ms: a request up to this is fast | default 500 | range 1..3600000
-- param limit: most rows, the most total time first | default 100 | range 1..10000
-- column service: name | service that answered | exact
-- column route: name | route template | exact
-- column method: name | method | exact
-- column requests: count | requests, sampled ones by their weight | exact
-- column failed: count | those answered with an error of the server | exact
-- column availability: rate | share not failed | exact
-- column requests_per_second: 1/s | mean over the time looked at | exact
-- column fast_rate: rate | share of requests up to the threshold | exact
-- column duration_ms_total: ms | time of all of them together | exact
-- column duration_ms_p50: ms | median, by nearest rank | exact
-- column duration_ms_p95: ms | 95th percentile, by nearest rank | exact
-- column duration_ms_p99: ms | 99th percentile, by nearest rank | exact
-- column duration_ms_max: ms | longest | exact
-- column users: count | people who waited | exact
-- caveats: Counts the server spans a service sends; what its tracing samples away without saying so is missing.
--   Durations are exact to 6 digits.
-- ctes: links
WITH
    by_duration AS
    (
        SELECT
            r.service AS service, r.route AS route, r.method AS method,
            toFloat64(round(r.duration_ns, toInt8(5 - floor(log10(greatest(r.duration_ns, 1)))))) AS took_ns,
            sum(toFloat64(r.weight)) AS requests,
            sumIf(toFloat64(r.weight), r.failed) AS failed,
            sum(r.duration_ns * toFloat64(r.weight)) AS total_ns,
            groupUniqArrayIf(r.unit, r.unit != 0) AS units
        FROM requests AS r WHERE project = {project:UInt32}
            AND ({service:String} = '' OR r.service = {service:String})
            AND r.day >= toDate({from:DateTime64(3, 'UTC')}) AND r.day <= toDate({to:DateTime64(3, 'UTC')})
            AND r.time >= {from:DateTime64(3, 'UTC')} AND r.time < {to:DateTime64(3, 'UTC')}
        GROUP BY service, route, method, took_ns
    ),
    people AS
    (
        SELECT u.service AS service, u.route AS route, u.method AS method,
            uniqExact(if(l.person != 0, l.person, u.unit)) AS users
        FROM
        (
            SELECT DISTINCT service, route, method, unit FROM by_duration ARRAY JOIN units AS unit
        ) AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY service, route, method
    ),
    totals AS
    (
        SELECT
            d.service AS service, d.route AS route, d.method AS method,
            sum(d.requests) AS requests,
            sum(d.failed) AS failed,
            sum(d.total_ns) AS total_ns,
            sumIf(d.requests, d.took_ns <= {threshold_ms:UInt32} * 1e6) AS fast,
            quantilesExactWeighted(0.5, 0.95, 0.99)(d.took_ns, toUInt64(round(d.requests))) AS percentiles,
            max(d.took_ns) AS max_ns
        FROM by_duration AS d
        GROUP BY service, route, method
    )
SELECT
    t.service AS service,
    t.route AS route,
    t.method AS method,
    toUInt64(round(t.requests)) AS requests,
    toUInt64(round(t.failed)) AS failed,
    round(1 - t.failed / t.requests, 6) AS availability,
    round(t.requests / (toFloat64({to:DateTime64(3, 'UTC')}) - toFloat64({from:DateTime64(3, 'UTC')})), 6)
        AS requests_per_second,
    round(t.fast / t.requests, 6) AS fast_rate,
    round(t.total_ns / 1e6, 3) AS duration_ms_total,
    round(t.percentiles[1] / 1e6, 3) AS duration_ms_p50,
    round(t.percentiles[2] / 1e6, 3) AS duration_ms_p95,
    round(t.percentiles[3] / 1e6, 3) AS duration_ms_p99,
    round(t.max_ns / 1e6, 3) AS duration_ms_max,
    p.users AS users
FROM totals AS t
LEFT JOIN people AS p ON p.service = t.service AND p.route = t.route AND p.method = t.method
ORDER BY t.total_ns DESC, service, route, method
LIMIT {limit:UInt32}
