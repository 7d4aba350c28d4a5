-- title: Query regressions
-- question: Which queries became slower from one release to the next?
-- grain: one row per query and service that ran in both releases
-- param from: beginning of the time looked at, inclusive | default now - 30d
-- param to
-- param base: release to compare with, empty for the one before | default "" | at most 256 bytes
-- param head: release that is judged, empty for the latest of each service | default "" | at most 256 bytes
-- param verdict: which rows to list | default slower | one of slower, any
-- param min_ratio: how many times slower the median must be to count | default 1.5 | range 1..100
-- param min_seconds: how many more seconds a week it must take to count | default 0.1 | range 0..1000000
-- param limit: most rows, the most additional time first | default 100 | range 1..10000
-- column fingerprint: name | fingerprint in 16 hexadecimal digits | exact
-- column service: name | service that ran it | exact
-- column name: name | name the application gave it, or empty | exact
-- column summary: name | its short form | exact
-- column verdict: name | slower, faster or unclear | exact
-- column base_release: name | release compared with | exact
-- column head_release: name | release that is judged | exact
-- column base_calls: count | calls in the base release | exact
-- column head_calls: count | calls in the head release | exact
-- column base_duration_ms_p50: ms | median in the base release | ± 0.55 %
-- column head_duration_ms_p50: ms | median in the head release | ± 0.55 %
-- column ratio: ratio | head median / base median | ± 1.1 %
-- column ratio_low: ratio | not below this with 95 % confidence over all rows together | exact
-- column drift: ratio | how much slower all queries of the service became together, at least 1 | ± 1.1 %
-- column base_duration_ms_p95: ms | 95th percentile in the base release | ± 0.55 %
-- column head_duration_ms_p95: ms | 95th percentile in the head release | ± 0.55 %
-- column seconds_more_per_week: s | head calls a week x (head median - base median x drift) | ± 1.1 %
-- column text: sql | normalised text | exact
-- caveats: Slower means: both releases have at least 20 calls, the medians' confidence intervals are apart even when
--   the base is made slower by the drift, and the difference reaches min_ratio and min_seconds. The drift is the
--   median ratio over all queries of the service where there are at least 5; it takes out a slower machine or
--   database.
-- ctes: calls, distributions, releases, texts, normal
WITH
    (toFloat64({to:DateTime64(3, 'UTC')}) - toFloat64({from:DateTime64(3, 'UTC')})) / 604800 AS weeks,
    -- For each service the release that is judged and the one before it.
    chosen AS
    (
        SELECT
            service,
            arrayMap(seen -> toString(seen.2), arraySort(groupArray((first_seen, release)))) AS in_order,
            if({head:String} = '', in_order[-1], {head:String}) AS head,
            if({base:String} = '', in_order[indexOf(in_order, head) - 1], {base:String}) AS base
        FROM releases
        GROUP BY service
    ),
    pairs AS
    (
        SELECT
            fingerprint, service,
            any(c.base) AS base, any(c.head) AS head,
            sumIf(d.calls, d.release = c.base) AS base_calls,
            sumIf(d.calls, d.release = c.head) AS head_calls,
            anyIf(d.ordered, d.release = c.base) AS base_ordered,
            anyIf(d.running, d.release = c.base) AS base_running,
            anyIf(d.ordered, d.release = c.head) AS head_ordered,
            anyIf(d.running, d.release = c.head) AS head_running,
            at_rank(base_ordered, base_running, ceil(base_calls / 2)) AS base_p50,
            at_rank(head_ordered, head_running, ceil(head_calls / 2)) AS head_p50,
            at_rank(base_ordered, base_running, ceil(0.95 * base_calls)) AS base_p95,
            at_rank(head_ordered, head_running, ceil(0.95 * head_calls)) AS head_p95
        FROM distributions AS d
        INNER JOIN chosen AS c ON c.service = d.service
        WHERE c.base != '' AND c.base != c.head
        GROUP BY fingerprint, service
        HAVING base_calls >= 1 AND head_calls >= 1
    ),
    judged AS
    (
        SELECT
            *,
            head_calls / weeks * (head_ns - base_ns * drift) / 1e9 AS seconds_more,
            multiIf(
                NOT is_comparable, 'unclear',
                head_low > base_high * drift AND head_ns >= base_ns * drift * {min_ratio:Float64}
                    AND seconds_more >= {min_seconds:Float64}, 'slower',
                head_high < base_low AND base_ns >= head_ns * {min_ratio:Float64}, 'faster',
                'unclear') AS verdict
        FROM
        (
            SELECT
                *,
                -- Confidence bounds of a median by order statistics: ranks n/2 -+ z sqrt(n)/2.
                greatest(1, floor((base_calls - certainty * sqrt(base_calls)) / 2)) AS base_low_rank,
                ceil((base_calls + certainty * sqrt(base_calls)) / 2) + 1 AS base_high_rank,
                greatest(1, floor((head_calls - certainty * sqrt(head_calls)) / 2)) AS head_low_rank,
                ceil((head_calls + certainty * sqrt(head_calls)) / 2) + 1 AS head_high_rank,
                at_rank(base_ordered, base_running, base_low_rank).1 AS base_low,
                at_rank(base_ordered, base_running, base_high_rank).2 AS base_high,
                at_rank(head_ordered, head_running, head_low_rank).1 AS head_low,
                at_rank(head_ordered, head_running, head_high_rank).2 AS head_high
            FROM
            (
                SELECT
                    *,
                    normal(error) AS certainty,
                    if(countIf(is_comparable) OVER (PARTITION BY service) < 5, 1,
                        greatest(1, quantileExactIf(0.5)(head_ns / greatest(base_ns, 1), is_comparable)
                            OVER (PARTITION BY service))) AS drift
                FROM
                (
                    SELECT
                        *,
                        (base_p50.1 + base_p50.2) / 2 AS base_ns,
                        (head_p50.1 + head_p50.2) / 2 AS head_ns,
                        base_calls >= 20 AND head_calls >= 20 AS is_comparable,
                        0.05 / greatest(1, countIf(is_comparable) OVER ()) AS error
                    FROM pairs
                )
            )
        )
    )
SELECT
    lower(leftPad(hex(j.fingerprint), 16, '0')) AS fingerprint,
    j.service AS service,
    x.name AS name,
    if(j.fingerprint = 0, 'other queries', x.summary) AS summary,
    j.verdict AS verdict,
    j.base AS base_release,
    j.head AS head_release,
    toUInt64(round(j.base_calls)) AS base_calls,
    toUInt64(round(j.head_calls)) AS head_calls,
    round(j.base_ns / 1e6, 3) AS base_duration_ms_p50,
    round(j.head_ns / 1e6, 3) AS head_duration_ms_p50,
    round(j.head_ns / greatest(j.base_ns, 1), 3) AS ratio,
    round(j.head_low / greatest(j.base_high, 1), 3) AS ratio_low,
    round(j.drift, 3) AS drift,
    round((j.base_p95.1 + j.base_p95.2) / 2e6, 3) AS base_duration_ms_p95,
    round((j.head_p95.1 + j.head_p95.2) / 2e6, 3) AS head_duration_ms_p95,
    round(j.seconds_more, 3) AS seconds_more_per_week,
    x.text AS text
FROM judged AS j
LEFT JOIN texts AS x ON x.fingerprint = j.fingerprint
WHERE {verdict:String} = 'any' OR j.verdict = 'slower'
ORDER BY j.seconds_more DESC, fingerprint, service
LIMIT {limit:UInt32}
