-- title: Funnel
-- question: How many go from each step to the next, how many are lost on the way, and how long do they take?
-- grain: one row per step, and once more for each value of the breakdown
-- engine: funnel
-- param from
-- param to
-- param steps: events in order, separated by commas; * is any event; empty for those of funnel | default "" | at most 4000 bytes
-- param funnel: name of a declared funnel, whose steps are taken as declared latest | default "" | at most 128 bytes
-- param order: whether other events may lie between steps, and whether the order matters | default ordered | one of ordered, strict, any
-- param window_ms: longest time from the first step to the last, inclusive | default 1209600000 | range 1..3155760000000
-- param count_by: what is counted | default user | one of user, session, tenant
-- param breakdown: attribute to split by, empty for none | default "" | at most 256 bytes
-- column group: name | whole, or for a breakdown value, other, missing, not_reached | exact
-- column value: name | the breakdown value | exact
-- column step: count | index of the step, from 0 | exact
-- column label: name | the event | exact
-- column count: count | units that reached the step | exact
-- column rate_from_first: rate | of those that reached the first step | exact
-- column rate_from_previous: rate | of those that reached the previous step | exact
-- column lost: count | reached the step and can no longer reach the next | exact
-- column open: count | reached the step, not the next, and still have time | exact
-- column time_ms_avg: ms | average time from the previous step | exact
-- column time_ms_p50: ms | median time from the previous step, by nearest rank | exact
-- column time_ms_p90: ms | 90th percentile of the time from the previous step, by nearest rank | exact
-- caveats: Entries lie in the time looked at; later steps may lie behind it. Conditions, exclusions, cohorts and the list
--   of those who dropped: POST /api/v1/funnel, or gemba funnel.
SELECT
    '' AS group,
    '' AS value,
    toUInt32(0) AS step,
    '' AS label,
    toUInt64(0) AS count,
    CAST(NULL AS Nullable(Float64)) AS rate_from_first,
    CAST(NULL AS Nullable(Float64)) AS rate_from_previous,
    toUInt64(0) AS lost,
    toUInt64(0) AS open,
    CAST(NULL AS Nullable(Float64)) AS time_ms_avg,
    CAST(NULL AS Nullable(Int64)) AS time_ms_p50,
    CAST(NULL AS Nullable(Int64)) AS time_ms_p90
FROM numbers(0)
WHERE {from:DateTime64(3, 'UTC')} < {to:DateTime64(3, 'UTC')} AND {steps:String} != {funnel:String}
    AND {order:String} != {count_by:String} AND {breakdown:String} != '' AND {window_ms:UInt64} > 0
