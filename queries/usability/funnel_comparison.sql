-- title: Funnel comparison
-- question: Do two ranges, two releases or two other groups go through a funnel differently, and by more than chance?
-- grain: one row per step but the first, and per whole it is a share of: those who entered, those at the step before
-- engine: funnel_comparison
-- param from
-- param to
-- param tz
-- param base_from: beginning of the range compared with, inclusive | default now - 14d
-- param base_to: its end, exclusive | default now - 7d
-- param attribute: compare two of its values at the first step instead of two ranges, such as release | default "" | at most 256 bytes
-- param base_value: the value compared with, where an attribute is given | default "" | at most 1024 bytes
-- param value: the value compared, where an attribute is given | default "" | at most 1024 bytes
-- param steps: events in order, separated by commas; * is any event; empty for those of funnel | default "" | at most 4000 bytes
-- param funnel: name of a declared funnel, whose steps are taken as declared latest | default "" | at most 128 bytes
-- param order: whether other events may lie between steps, and whether the order matters | default ordered | one of ordered, strict, any
-- param window_ms: longest time from the first step to the last, inclusive; one day by default, so that the last week can be
--   compared | default 86400000 | range 1..3155760000000
-- param count_by: what is counted | default user | one of user, session, tenant
-- column step: count | index of the step, from 0 | exact
-- column label: name | the event | exact
-- column of_those: name | what the rates are shares of | exact
-- column base_reached: count | units of the base that reached the step, of those compared | exact
-- column base_of: count | units of the base that could have | exact
-- column base_rate: rate | base_reached / base_of; null of nobody | exact
-- column reached: count | units of the range that reached the step, of those compared | exact
-- column of: count | units of the range that could have | exact
-- column rate: rate | reached / of; null of nobody | exact
-- column difference: rate | rate - base_rate | exact
-- column difference_low: rate | lower end of its 95 % interval (Newcombe) | exact
-- column difference_high: rate | upper end | exact
-- column verdict: name | more than chance where the interval does not hold 0, could be chance, or nothing to compare | exact
-- caveats: Compared are tries whose window is over: of younger ones only who was quick is known. With a window as long as the
--   range nobody is left to compare. Each row is judged by itself: of twenty rows without any difference
--   one is expected to be called more than chance. Other filters and cohorts: compare in POST /api/v1/funnel.
SELECT
    toUInt32(0) AS step,
    '' AS label,
    '' AS of_those,
    toUInt64(0) AS base_reached,
    toUInt64(0) AS base_of,
    CAST(NULL AS Nullable(Float64)) AS base_rate,
    toUInt64(0) AS reached,
    toUInt64(0) AS of,
    CAST(NULL AS Nullable(Float64)) AS rate,
    CAST(NULL AS Nullable(Float64)) AS difference,
    CAST(NULL AS Nullable(Float64)) AS difference_low,
    CAST(NULL AS Nullable(Float64)) AS difference_high,
    '' AS verdict
FROM numbers(0)
WHERE {from:DateTime64(3, 'UTC')} < {to:DateTime64(3, 'UTC')} AND {tz:String} != ''
    AND {base_from:DateTime64(3, 'UTC')} < {base_to:DateTime64(3, 'UTC')}
    AND {steps:String} != {funnel:String} AND {order:String} != {count_by:String} AND {window_ms:UInt64} > 0
    AND {attribute:String} != '' AND {base_value:String} != {value:String}
