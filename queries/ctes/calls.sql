-- Every call of a database query in the time looked at, as ranges of durations: what metrics counted, and the foreign
-- spans of processes that send no metrics which name queries.
    -- Series of foreign metrics that name an operation at most, as instrumentations of databases send them.
    nameless AS
    (
        SELECT fingerprint FROM query_texts WHERE project = {project:UInt32}
        GROUP BY fingerprint HAVING max(length(text)) = 0
    ),
    counted_by_metrics AS
    (
        SELECT DISTINCT if(instance = 0, resource, instance) AS process, system, namespace
        FROM query_histograms WHERE project = {project:UInt32}
            AND (source = 'sdk' OR fingerprint NOT IN (nameless))
            AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
    ),
    -- Processes whose spans say which queries they ran: they are counted by those rather than by nameless series.
    named_by_spans AS
    (
        SELECT DISTINCT if(instance = 0, resource, instance) AS process, system
        FROM query_samples WHERE project = {project:UInt32}
            AND source = 'span'
            AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
            AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
    ),
    -- Points that say what was added since the one before.
    deltas AS
    (
        SELECT
            fingerprint, service, release, system, feature, route, code, error_type, toString(source) AS origin, time,
            count AS calls, sum_ns, max_ns, buckets, bounds, bound_counts
        FROM query_histograms WHERE project = {project:UInt32}
            AND temporality = 'delta'
            AND (source = 'sdk' OR fingerprint NOT IN (nameless)
                OR (if(instance = 0, resource, instance), system) NOT IN (named_by_spans))
            AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
            AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
    ),
    -- Those, and of each cumulative stream what was added within the time looked at.
    points AS
    (
        SELECT
            fingerprint, service, release, system, feature, route, code, error_type, origin,
            calls, sum_ns, max_ns, buckets, bounds, bound_counts
        FROM deltas
        UNION ALL
        SELECT
            fingerprint, service, release, system, feature, route, code, error_type, origin,
            toUInt64(last.1 - base.1) AS calls, last.2 - base.2 AS sum_ns, max_ns,
            mapFilter((index, n) -> n > 0, mapSubtract(last.3, base.3)) AS buckets,
            bounds,
            if(empty(base.4), last.4, arrayMap((x, y) -> toUInt64(x - y), last.4, base.4)) AS bound_counts
        FROM
        (
            SELECT
                h.fingerprint AS fingerprint, h.stream, h.start,
                any(h.service) AS service, any(h.release) AS release, any(h.system) AS system,
                any(h.feature) AS feature, any(h.route) AS route, any(h.code) AS code,
                any(h.error_type) AS error_type, toString(any(h.source)) AS origin,
                max(h.max_ns) AS max_ns,
                any(h.bounds) AS bounds,
                countIf(h.time < {from:DateTime64(3, 'UTC')}) AS earlier,
                argMaxIf((h.count, h.sum_ns, h.buckets, h.bound_counts), (h.time, h.received),
                    h.time >= {from:DateTime64(3, 'UTC')}) AS last,
                argMaxIf((h.count, h.sum_ns, h.buckets, h.bound_counts), (h.time, h.received),
                    h.time < {from:DateTime64(3, 'UTC')}) AS before,
                argMinIf((h.count, h.sum_ns, h.buckets, h.bound_counts), (h.time, h.received),
                    h.time >= {from:DateTime64(3, 'UTC')}) AS first,
                -- Without an earlier point, a stream that began within the hour before is new; of an older one only
                -- the growth since its first point is known.
                multiIf(
                    earlier > 0, before,
                    h.start < {from:DateTime64(3, 'UTC')} - toIntervalHour(1), first,
                    (toUInt64(0), toFloat64(0), CAST(map(), 'Map(Int32, UInt64)'), CAST([], 'Array(UInt64)'))
                ) AS base
            FROM query_histograms AS h WHERE project = {project:UInt32}
                AND h.temporality = 'cumulative'
                AND (h.source = 'sdk' OR h.fingerprint NOT IN (nameless)
                    OR (if(h.instance = 0, h.resource, h.instance), h.system) NOT IN (named_by_spans))
                AND h.day >= toDate({from:DateTime64(3, 'UTC')} - toIntervalHour(1))
                AND h.day <= toDate({to:DateTime64(3, 'UTC')})
                AND h.time >= {from:DateTime64(3, 'UTC')} - toIntervalHour(1)
                AND h.time < {to:DateTime64(3, 'UTC')}
            GROUP BY h.fingerprint, h.stream, h.start
            HAVING countIf(h.time >= {from:DateTime64(3, 'UTC')}) > 0 AND last.1 > base.1
        )
    ),
    -- Server spans of traces: what a foreign query span of the same trace and service belongs to.
    served AS
    (
        SELECT trace_id, service, time, route, feature, unit, session
        FROM requests WHERE project = {project:UInt32}
            AND trace_id != toFixedString('', 16)
            AND day >= toDate({from:DateTime64(3, 'UTC')}) - 1 AND day <= toDate({to:DateTime64(3, 'UTC')})
    ),
    -- A database library above a driver, both instrumented, sends each query twice. Of the instrumentations that saw a
    -- query in a trace the one that saw it most often is counted, and of equals the outer one, which took longer.
    seen_twice AS
    (
        SELECT trace_id, service, fingerprint, argMax(seen_by, (s.spans, s.total_ns)) AS counted
        FROM
        (
            SELECT
                trace_id, service, fingerprint, concat('by ', sample) AS seen_by,
                count() AS spans, sum(duration_ns) AS total_ns
            FROM query_samples WHERE project = {project:UInt32}
                AND source = 'span'
                AND trace_id != toFixedString('', 16)
                AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
                AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
            GROUP BY trace_id, service, fingerprint, seen_by
        ) AS s
        GROUP BY trace_id, service, fingerprint
        HAVING count() > 1
    ),
    -- A foreign span knows neither route nor person; the request it ran in does, which is the last one of its trace and
    -- service that began before it.
    spans AS
    (
        SELECT
            s.fingerprint AS fingerprint, s.service AS service, s.release AS release, s.system AS system,
            if(s.feature = '', r.feature, s.feature) AS feature,
            if(s.route = '', r.route, s.route) AS route,
            s.code AS code,
            if(s.unit = 0, r.unit, s.unit) AS unit,
            if(s.session = 0, r.session, s.session) AS session,
            s.trace_id AS trace_id, s.failed AS failed, s.duration_ns AS duration_ns, toFloat64(s.weight) AS weight,
            s.time AS time
        FROM
        (
            SELECT q.*
            FROM
            (
                SELECT *
                FROM query_samples WHERE project = {project:UInt32}
                    AND source = 'span'
                    AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
                    AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
                    AND (if(instance = 0, resource, instance), system, namespace) NOT IN (counted_by_metrics)
                    AND (if(instance = 0, resource, instance), system, '') NOT IN (counted_by_metrics)
            ) AS q
            LEFT JOIN seen_twice AS t
                ON t.trace_id = q.trace_id AND t.service = q.service AND t.fingerprint = q.fingerprint
            WHERE t.counted IN ('', concat('by ', q.sample))
        ) AS s
        ASOF LEFT JOIN served AS r ON s.trace_id = r.trace_id AND s.service = r.service AND s.time >= r.time
    ),
    -- How many calls took between low and high nanoseconds. A bucket of scale 6 is 1.09 % wide; an explicit one is as
    -- wide as its sender made it, the last one up to the longest call; a span is exact to 6 digits. The number is that of
    -- the bucket of scale 6 (-2147483648: no time at all), none where the sender made the bounds.
    ranges AS
    (
        SELECT
            fingerprint, service, release,
            if(bucket = -2147483648, 0, exp2(bucket / 64) * 1e9) AS low,
            if(bucket = -2147483648, 0, exp2((bucket + 1) / 64) * 1e9) AS high,
            toFloat64(n) AS calls,
            toNullable(toInt32(bucket)) AS number
        FROM
        (
            SELECT fingerprint, service, release, sumMap(p.buckets) AS merged
            FROM points AS p
            GROUP BY fingerprint, service, release
        )
        ARRAY JOIN mapKeys(merged) AS bucket, mapValues(merged) AS n
        UNION ALL
        SELECT
            fingerprint, service, release,
            lower_bound * 1e9 AS low,
            greatest(lower_bound, upper_bound) * 1e9 AS high,
            toFloat64(n) AS calls,
            CAST(NULL, 'Nullable(Int32)') AS number
        FROM
        (
            SELECT
                fingerprint, service, release, bounds,
                sumForEach(p.bound_counts) AS counts,
                max(p.max_ns) / 1e9 AS longest
            FROM points AS p
            WHERE notEmpty(bounds)
            GROUP BY fingerprint, service, release, bounds
        )
        ARRAY JOIN
            arrayPushFront(bounds, 0) AS lower_bound,
            arrayPushBack(bounds, if(longest > 0, longest, bounds[-1])) AS upper_bound,
            counts AS n
        WHERE n > 0
        UNION ALL
        SELECT
            fingerprint, service, release,
            toFloat64(round(duration_ns, toInt8(5 - floor(log10(greatest(duration_ns, 1)))))) AS low,
            low AS high,
            sum(s.weight) AS calls,
            toNullable(if(low = 0, toInt32(-2147483648), toInt32(ceil(log2(low / 1e9) * 64) - 1))) AS number
        FROM spans AS s
        GROUP BY fingerprint, service, release, low
    )
