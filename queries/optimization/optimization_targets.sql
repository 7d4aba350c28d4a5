-- title: Optimization targets
-- question: Which queries are worth making faster, because people would get the most time back?
-- grain: one row per query and service that is worth it; none when nothing stands out
-- param from
-- param to
-- param min_seconds: least seconds a week that must come back | default 0.1 | range 0..1000000
-- param min_users: least people who waited for it, where people are known at all | default 5 | range 0..1000000
-- param min_duration_ms: least median of a query called hot | default 5 | range 0..60000
-- param min_calls_per_use: least median of calls in one use of a query called n_plus_one | default 5 | range 2..10000
-- param limit: most rows, the most worthwhile first | default 20 | range 1..1000
-- column fingerprint: name | fingerprint in 16 hexadecimal digits | exact
-- column service: name | service that runs it | exact
-- column name: name | name the application gave it, or empty | exact
-- column summary: name | its short form | exact
-- column reason: name | regression, n_plus_one, hot or tail: what gives back the most | exact
-- column score: person-seconds per week | time people would get back, see caveats | ± 1.1 %
-- column calls: count | calls | exact
-- column duration_ms_total: ms | time of all calls together | ± 0.55 %
-- column share: rate | part of the time of all queries of the service | ± 1.1 %
-- column duration_ms_p50: ms | median of a call | ± 0.55 %
-- column duration_ms_p95: ms | 95th percentile of a call | ± 0.55 %
-- column typical_duration_ms_p50: ms | median of the medians of the service's other queries | ± 0.55 %
-- column best_release: name | release with the lowest median | exact
-- column best_duration_ms_p50: ms | median in that release | ± 0.55 %
-- column latest_release: name | latest release of the service | exact
-- column latest_duration_ms_p50: ms | median in that release | ± 0.55 %
-- column uses: count | scopes, attempts, steps or traces that ran it | exact
-- column calls_per_use: count | median of calls in one of them | exact
-- column calls_per_attempt: ratio | mean calls in an attempt that ran it; null: none did | exact
-- column users: count | people who waited for it | exact
-- column unfinished_rate: rate | share of unfinished attempts among those that ran it; null: none did | exact
-- column features: name | features it ran in, most time first, at most 5 | exact
-- column code: name | code lines that ran it, most time first, at most 5 | exact
-- column text: sql | normalised text | exact
-- caveats: Score = seconds that would come back per week x share of the query's time that people waited for.
--   regression: the latest release ran at the median of the best one; counted when the medians' confidence intervals
--   are apart (95 % over all queries together), even after taking out what all queries lost together, and the median
--   grew by half. n_plus_one: all calls of one use were a single call. hot: it ran at the typical median; counted
--   when its median is surely at least min_duration_ms, three times the typical one, and it takes 5 % of the time.
--   tail: no call took longer than its median; counted when its 95th percentile is at least 50 ms and ten times its
--   median, and that ratio is five times the usual one.
-- ctes: calls, distributions, releases, links, texts, normal
WITH
    (toFloat64({to:DateTime64(3, 'UTC')}) - toFloat64({from:DateTime64(3, 'UTC')})) / 604800 AS weeks,
    by_release AS
    (
        SELECT
            z.fingerprint AS fingerprint, z.service AS service, release, calls, total_ns, first_seen,
            (p50.1 + p50.2) / 2 AS p50_ns,
            -- Confidence bounds of a median by order statistics: ranks n/2 -+ z sqrt(n)/2.
            at_rank(ordered, running, greatest(1, floor((calls - certainty * sqrt(calls)) / 2))).1 AS p50_low_ns,
            at_rank(ordered, running, ceil((calls + certainty * sqrt(calls)) / 2) + 1).2 AS p50_high_ns
        FROM
        (
            SELECT *, normal(error) AS certainty
            FROM
            (
                SELECT
                    d.fingerprint AS fingerprint, d.service AS service, d.release AS release, d.calls AS calls,
                    d.ordered AS ordered, d.running AS running, r.first_seen AS first_seen,
                    arraySum(range -> (range.1 + range.2) / 2 * range.3, d.ordered) AS total_ns,
                    at_rank(d.ordered, d.running, ceil(d.calls / 2)) AS p50,
                    0.05 / count() OVER () AS error
                FROM distributions AS d
                LEFT JOIN releases AS r ON r.service = d.service AND r.release = d.release
            )
        ) AS z
    ),
    -- The best and the latest release of each query; 20 calls are the least that say anything of a median.
    extremes AS
    (
        SELECT
            fingerprint, service,
            argMinIf((release, p50_ns, p50_high_ns), p50_ns, calls >= 20) AS best,
            argMaxIf((release, p50_ns, p50_low_ns, calls, total_ns, first_seen), (first_seen, release),
                calls >= 20) AS latest
        FROM by_release
        GROUP BY fingerprint, service
    ),
    -- How much slower all queries of a service became together.
    regressions AS
    (
        SELECT
            fingerprint, service, best, latest,
            latest.1 = newest AND latest.3 > best.3 * drift AND latest.2 >= 1.5 * best.2 * drift AS is_regression,
            greatest(0, latest.5 - latest.4 * best.2 * drift) / 1e9
                / least(weeks, greatest(1 / 7, (toFloat64({to:DateTime64(3, 'UTC')})
                    - toFloat64(greatest(latest.6, {from:DateTime64(3, 'UTC')}))) / 604800)) AS seconds_back
        FROM
        (
            SELECT
                fingerprint, service, best, latest,
                argMax(latest.1, latest.6) OVER (PARTITION BY service) AS newest,
                if(count() OVER (PARTITION BY service) < 5, 1, greatest(1,
                    quantileExact(0.5)(latest.2 / greatest(best.2, 1)) OVER (PARTITION BY service))) AS drift
            FROM extremes
            WHERE best.2 > 0
        )
    ),
    whole AS
    (
        SELECT
            *,
            (p50.1 + p50.2) / 2 AS p50_ns,
            (p95.1 + p95.2) / 2 AS p95_ns,
            0.05 / count() OVER () AS error
        FROM
        (
            SELECT
                *,
                arraySum(range -> (range.1 + range.2) / 2 * range.3, ordered) AS total_ns,
                at_rank(ordered, running, ceil(calls / 2)) AS p50,
                at_rank(ordered, running, ceil(0.95 * calls)) AS p95
            FROM
            (
                SELECT
                    fingerprint, service,
                    sum(r.calls) AS calls,
                    arraySort(range -> (range.1, range.2), groupArray((r.low, r.high, r.calls))) AS ordered,
                    arrayCumSum(range -> range.3, ordered) AS running
                FROM ranges AS r
                GROUP BY fingerprint, service
            )
        )
    ),
    compared AS
    (
        SELECT
            *,
            at_rank(ordered, running, greatest(1, floor((calls - certainty * sqrt(calls)) / 2))).1 AS p50_low_ns,
            arraySum(range -> greatest(0, (range.1 + range.2) / 2 - p50_ns) * range.3, ordered) AS tail_ns,
            if(length(others) < 3, 0, arraySort(arrayMap(query -> query.2, others))[intDiv(length(others) + 1, 2)])
                AS typical_ns,
            if(length(others) < 3, 0, arraySort(arrayMap(query -> query.3, others))[intDiv(length(others) + 1, 2)])
                AS typical_tail
        FROM
        (
            SELECT
                *,
                normal(error) AS certainty,
                sum(total_ns) OVER (PARTITION BY service) AS service_ns,
                arrayFilter(query -> query.1 != fingerprint,
                    groupArray((fingerprint, p50_ns, p95_ns / greatest(p50_ns, 1))) OVER (PARTITION BY service)) AS others
            FROM whole
        )
    ),
    -- One row per scope, attempt or step that ran a query, or per trace of foreign spans.
    uses AS
    (
        SELECT
            fingerprint, service, unit, attempt, feature, code,
            toFloat64(u.calls) AS calls, toFloat64(u.total_ns) AS total_ns
        FROM query_usage AS u WHERE project = {project:UInt32}
            AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
            AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
        UNION ALL
        SELECT
            fingerprint, service, max(s.unit) AS unit, 0 AS attempt, any(s.feature) AS feature, any(s.code) AS code,
            toFloat64(count()) AS calls, sum(toFloat64(s.duration_ns)) AS total_ns
        FROM spans AS s
        WHERE trace_id != toFixedString('', 16)
        GROUP BY fingerprint, service, trace_id
    ),
    waiting AS
    (
        SELECT
            fingerprint, service,
            sum(w.uses) AS uses,
            sum(w.calls) AS calls,
            sum(w.total_ns) AS total_ns,
            sum(w.person_ns) AS waited_ns,
            max(waited_ns) OVER (PARTITION BY service) > 0 AS people_are_known,
            quantileExactLowArray(0.5)(w.per_use) AS calls_per_use,
            if(sum(w.attempts) = 0, NULL, sum(w.attempt_calls) / sum(w.attempts)) AS calls_per_attempt,
            uniqExactIf(if(l.person != 0, l.person, w.unit), w.unit != 0) AS users,
            sumMap(w.by_feature) AS by_feature,
            sumMap(w.by_code) AS by_code
        FROM
        (
            SELECT
                fingerprint, service, unit,
                count() AS uses,
                sum(u.calls) AS calls,
                sum(u.total_ns) AS total_ns,
                if(unit != 0, sum(u.total_ns), 0) AS person_ns,
                groupArray(u.calls) AS per_use,
                uniqExactIf(u.attempt, u.attempt != 0) AS attempts,
                sumIf(u.calls, u.attempt != 0) AS attempt_calls,
                sumMap(map(u.feature, u.total_ns)) AS by_feature,
                sumMap(map(u.code, u.total_ns)) AS by_code
            FROM uses AS u
            GROUP BY fingerprint, service, unit
        ) AS w
        LEFT JOIN links AS l ON l.anonymous = w.unit
        GROUP BY fingerprint, service
    ),
    candidates AS
    (
        SELECT *, waited * most.1 AS score
        FROM
        (
            SELECT
                c.fingerprint AS fingerprint, c.service AS service, c.calls AS calls, c.total_ns AS total_ns,
                c.service_ns AS service_ns, c.p50_ns AS p50_ns, c.p95_ns AS p95_ns, c.typical_ns AS typical_ns,
                r.best AS best, r.latest AS latest, w.uses AS uses, w.calls_per_use AS calls_per_use,
                w.calls_per_attempt AS calls_per_attempt, w.users AS users, w.by_feature AS by_feature,
                w.by_code AS by_code,
                if(w.people_are_known, least(1, w.waited_ns / c.total_ns), 1) AS waited,
                arrayReverseSort([
                    (if(r.is_regression, r.seconds_back, 0), 'regression'),
                    (if(w.uses >= 20 AND w.calls_per_use >= {min_calls_per_use:UInt32},
                        w.total_ns * (1 - w.uses / w.calls) / 1e9 / weeks, 0), 'n_plus_one'),
                    (if(c.calls >= 20 AND c.p50_low_ns >= {min_duration_ms:Float64} * 1e6
                        AND c.p50_low_ns >= 3 * c.typical_ns AND c.total_ns >= 0.05 * c.service_ns,
                        greatest(0, c.total_ns - c.calls * c.typical_ns) / 1e9 / weeks, 0), 'hot'),
                    (if(c.calls >= 100 AND c.p95_ns >= 5e7 AND c.p95_ns >= 10 * c.p50_ns
                        AND c.p95_ns / greatest(c.p50_ns, 1) >= 5 * c.typical_tail,
                        c.tail_ns / 1e9 / weeks, 0), 'tail')
                ])[1] AS most
            FROM compared AS c
            LEFT JOIN regressions AS r ON r.fingerprint = c.fingerprint AND r.service = c.service
            LEFT JOIN waiting AS w ON w.fingerprint = c.fingerprint AND w.service = c.service
            WHERE c.fingerprint != 0 AND (w.users >= {min_users:UInt32} OR NOT w.people_are_known)
        )
        WHERE score > 0 AND score >= {min_seconds:Float64}
    ),
    -- What became of the attempts that ran a query.
    outcomes AS
    (
        SELECT
            a.fingerprint AS fingerprint, a.service AS service,
            countIf(e.is_decided) AS decided,
            countIf(e.is_decided AND NOT e.completed) AS unfinished
        FROM
        (
            SELECT DISTINCT fingerprint, service, attempt FROM uses
            WHERE attempt != 0
        ) AS a
        INNER JOIN
        (
            SELECT
                v.attempt AS attempt,
                countIf(v.kind = 'ended') > 0 AS has_end,
                min(v.time) AS begun_at,
                countIf(v.kind = 'ended' AND v.outcome = 'completed') > 0 AS completed,
                countIf(v.kind = 'ended' AND v.outcome = 'cancelled' AND v.outcome_reason = 'shutdown') > 0 AS stopped,
                NOT stopped AND (has_end OR begun_at < {now:DateTime64(3, 'UTC')} - toIntervalMinute(30))
                    AS is_decided
            FROM events AS v WHERE project = {project:UInt32}
                AND v.kind IN ('started', 'ended')
                AND v.day >= toDate({from:DateTime64(3, 'UTC')} - toIntervalDay(1))
            GROUP BY attempt
        ) AS e ON e.attempt = a.attempt
        GROUP BY fingerprint, service
    ),
    -- The five keys of a map with the largest values, without the empty one.
    (of_what) -> arraySlice(
        arrayFilter(key -> key != '',
            arrayMap(pair -> toString(pair.1),
                arraySort(pair -> (-pair.2, pair.1), arrayZip(mapKeys(of_what), mapValues(of_what))))), 1, 5) AS top
SELECT
    lower(leftPad(hex(c.fingerprint), 16, '0')) AS fingerprint,
    c.service AS service,
    x.name AS name,
    x.summary AS summary,
    c.most.2 AS reason,
    round(c.score, 3) AS score,
    toUInt64(round(c.calls)) AS calls,
    round(c.total_ns / 1e6, 3) AS duration_ms_total,
    round(c.total_ns / c.service_ns, 6) AS share,
    round(c.p50_ns / 1e6, 3) AS duration_ms_p50,
    round(c.p95_ns / 1e6, 3) AS duration_ms_p95,
    round(c.typical_ns / 1e6, 3) AS typical_duration_ms_p50,
    c.best.1 AS best_release,
    round(c.best.2 / 1e6, 3) AS best_duration_ms_p50,
    c.latest.1 AS latest_release,
    round(c.latest.2 / 1e6, 3) AS latest_duration_ms_p50,
    c.uses AS uses,
    toUInt64(c.calls_per_use) AS calls_per_use,
    round(c.calls_per_attempt, 2) AS calls_per_attempt,
    c.users AS users,
    if(o.decided = 0, NULL, round(o.unfinished / o.decided, 6)) AS unfinished_rate,
    top(c.by_feature) AS features,
    top(c.by_code) AS code,
    x.text AS text
FROM candidates AS c
LEFT JOIN outcomes AS o ON o.fingerprint = c.fingerprint AND o.service = c.service
LEFT JOIN texts AS x ON x.fingerprint = c.fingerprint
ORDER BY c.score DESC, fingerprint, service
LIMIT {limit:UInt32}
