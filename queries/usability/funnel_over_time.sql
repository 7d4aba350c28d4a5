-- title: Funnel over time
-- question: Does a funnel convert better or worse as time goes by, and who of the last periods still has time?
-- grain: one row per period and step
-- engine: funnel_over_time
-- param from
-- param to
-- param tz
-- param steps: events in order, separated by commas; * is any event; empty for those of funnel | default "" | at most 4000 bytes
-- param funnel: name of a declared funnel, whose steps are taken as declared latest | default "" | at most 128 bytes
-- param order: whether other events may lie between steps, and whether the order matters | default ordered | one of ordered, strict, any
-- param window_ms: longest time from the first step to the last, inclusive | default 1209600000 | range 1..3155760000000
-- param count_by: what is counted | default user | one of user, session, tenant
-- param first_time: only units whose first fitting entry ever lies in the time looked at | default false
-- param period: length of a period; weeks begin on Monday | default week | one of hour, day, week, month
-- column period: time | beginning of the period | exact
-- column local_time: name | the same in the time zone | exact
-- column step: count | index of the step, from 0 | exact
-- column label: name | the event | exact
-- column count: count | units that began in the period and reached the step, whenever they did | exact
-- column rate_from_first: rate | of those that began in the period; null of nobody | exact
-- column lost: count | reached the step and can no longer reach the next | exact
-- column open: count | reached the step, not the next, and still have time: until they are lost or through, rates of later
--   steps may still rise | exact
-- caveats: A unit counts once in every period where a try of it starts, so periods may add up to more than the funnel. The
--   first and the last period hold only what of them lies in the time looked at. Conditions, exclusions and cohorts: interval in
--   POST /api/v1/funnel, or gemba funnel --interval.
SELECT
    {from:DateTime64(3, 'UTC')} AS period,
    '' AS local_time,
    toUInt32(0) AS step,
    '' AS label,
    toUInt64(0) AS count,
    CAST(NULL AS Nullable(Float64)) AS rate_from_first,
    toUInt64(0) AS lost,
    toUInt64(0) AS open
FROM numbers(0)
WHERE {from:DateTime64(3, 'UTC')} < {to:DateTime64(3, 'UTC')} AND {tz:String} != '' AND {period:String} != ''
    AND {steps:String} != {funnel:String} AND {order:String} != {count_by:String} AND {window_ms:UInt64} > 0
    AND NOT {first_time:Bool}
