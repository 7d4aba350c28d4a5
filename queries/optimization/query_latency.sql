-- title: How long one query takes
-- question: How are the times of this query's calls spread, and how many take how long?
-- grain: one row per range of durations with calls, the shortest first
-- param from
-- param to
-- param fingerprint: of the query, 16 hexadecimal digits as slow_queries shows it | at most 16 bytes
-- param release: only calls made by this release, empty for all | default "" | at most 256 bytes
-- param scale: how fine: a doubling of time has 2 to the power of this many ranges | default 3 | range 0..6
-- column duration_ms_from: ms | the calls of this row took longer than this; 0 and 0: no time that could be measured | exact
-- column duration_ms_to: ms | and at most this | exact
-- column calls: count | calls, those of sampled spans by their weight | exact
-- column share: rate | part of all calls of the query | exact
-- column share_up_to: rate | part of all calls in this row and those before | exact
-- column within_rate: rate | a call of this row took the middle of its bounds, give or take this part of it; null where the
--   row has no lower bound | exact
-- caveats: Ranges are the buckets of OpenTelemetry's exponential histograms of this scale, folded from the stored scale 6, so no
--   call is in a wrong one: at scale 3 a call is told to ± 4.3 %, at scale 6 to ± 0.54 %. A sender's own bounds stay as they
--   are, beside the others.
-- ctes: calls
WITH
    told AS
    (
        SELECT
            -- A bucket of a coarser scale holds whole buckets of a finer one.
            toInt32(floor(number / exp2(6 - {scale:UInt8}))) AS folded,
            multiIf(number IS NULL, r.low, number = -2147483648, 0, exp2(folded / exp2({scale:UInt8})) * 1e9) AS from_ns,
            multiIf(number IS NULL, r.high, number = -2147483648, 0, exp2((folded + 1) / exp2({scale:UInt8})) * 1e9) AS to_ns,
            r.calls AS calls
        FROM ranges AS r
        WHERE r.fingerprint = reinterpretAsUInt64(reverse(unhex({fingerprint:String})))
            AND ({release:String} = '' OR release = {release:String})
    ),
    by_range AS
    (
        SELECT assumeNotNull(from_ns) AS from_ns, assumeNotNull(to_ns) AS to_ns, sum(t.calls) AS calls
        FROM told AS t
        GROUP BY from_ns, to_ns
    )
SELECT
    round(from_ns / 1e6, 9) AS duration_ms_from,
    round(to_ns / 1e6, 9) AS duration_ms_to,
    toUInt64(round(b.calls)) AS calls,
    round(b.calls / sum(b.calls) OVER (), 6) AS share,
    round(sum(b.calls) OVER (ORDER BY to_ns, from_ns ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) / sum(b.calls) OVER (), 6)
        AS share_up_to,
    if(from_ns = 0, NULL, round((to_ns - from_ns) / (to_ns + from_ns), 6)) AS within_rate
FROM by_range AS b
ORDER BY to_ns, from_ns
