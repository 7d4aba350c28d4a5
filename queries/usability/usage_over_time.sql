-- title: Usage over time
-- question: How does the use of features and events develop?
-- grain: one row per period and name, periods without use left out
-- param from: beginning, taken down to a quarter of an hour | default now - 7d
-- param to: end, exclusive, taken down to a quarter of an hour | default now
-- param tz
-- param name: only this feature, step or event, empty for all of them together | default "" | at most 256 bytes
-- param release: only this release, empty for all | default "" | at most 256 bytes
-- param period: length of a period; weeks begin on Monday | default day | one of hour, day, week, month
-- param limit: most rows, the earliest first | default 10000 | range 1..100000
-- column period: time | beginning of the period | exact
-- column local_time: name | the same in the time zone | exact
-- column name: name | the name asked for, or empty for all together | exact
-- column uses: count | uses, attempts begun, funnel steps and named events | exact
-- caveats: Counted in quarters of an hour, which the hours and days of every time zone are made of.
SELECT
    toDateTime64(multiIf(
        {period:String} = 'hour', toStartOfHour(toTimeZone(quarter_hour, {tz:String})),
        {period:String} = 'day', toStartOfDay(toTimeZone(quarter_hour, {tz:String})),
        {period:String} = 'week', toDateTime(toMonday(toTimeZone(quarter_hour, {tz:String})), {tz:String}),
        toDateTime(toStartOfMonth(toTimeZone(quarter_hour, {tz:String})), {tz:String})), 3, 'UTC') AS period,
    formatDateTime(period, '%Y-%m-%d %H:%i', {tz:String}) AS local_time,
    {name:String} AS name,
    sum(quarter.uses) AS uses
FROM
(
    SELECT toStartOfFifteenMinutes(e.time) AS quarter_hour, count() AS uses
    FROM events AS e WHERE project = {project:UInt32}
        AND e.kind != 'ended'
        AND ({name:String} = '' OR e.name = {name:String})
        AND ({release:String} = '' OR e.release = {release:String})
        AND toStartOfFifteenMinutes(e.time) >= toStartOfFifteenMinutes({from:DateTime64(3, 'UTC')})
        AND toStartOfFifteenMinutes(e.time) < toStartOfFifteenMinutes({to:DateTime64(3, 'UTC')})
    GROUP BY quarter_hour
) AS quarter
GROUP BY period
ORDER BY period
LIMIT {limit:UInt32}
