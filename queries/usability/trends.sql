-- title: Trends
-- question: How do events develop, how many people do them, and how do they relate?
-- grain: one row per period and value of the breakdown, periods without anything included
-- engine: trends
-- param from
-- param to
-- param tz
-- param series: names of events separated by commas, called A, B and so on (* is any event); or a JSON list such as
--   [{"event":"pay","where":{"plan":"pro"},"measure":"users"}]; measures: events, users, sessions, tenants, sum:KEY, avg:KEY |
--   at most 4000 bytes
-- param formula: over the series, such as A / B or 100 * (A - B) / A; empty for A | default "" | at most 256 bytes
-- param period: length of a period; weeks begin on Monday | default day | one of hour, day, week, month
-- param breakdown: attribute to split by, also user:KEY, tenant:KEY and flag:KEY; empty for none | default "" | at most 256 bytes
-- param breakdown_limit: values shown before the rest becomes other, those of most people first | default 10 | range 1..100
-- column period: time | beginning of the period | exact
-- column local_time: name | the same in the time zone | exact
-- column group: name | whole, or for a breakdown value, other, missing | exact
-- column value: name | the breakdown value | exact
-- column result: number | value of the formula; null: a division by nothing | exact
-- column a: number | series A | exact
-- column b: number | series B; null: not asked for | exact
-- column c: number | series C | exact
-- column d: number | series D | exact
-- column e: number | series E | exact
-- column f: number | series F | exact
-- caveats: The first and the last period hold only what lies in the time looked at. The average of nothing is shown as 0.
--   Series in any unit but events do not add up over periods or values: a person is in each one they did something in.
SELECT
    toDateTime64(0, 3, 'UTC') AS period,
    '' AS local_time,
    '' AS group,
    '' AS value,
    CAST(NULL AS Nullable(Float64)) AS result,
    CAST(NULL AS Nullable(Float64)) AS a,
    CAST(NULL AS Nullable(Float64)) AS b,
    CAST(NULL AS Nullable(Float64)) AS c,
    CAST(NULL AS Nullable(Float64)) AS d,
    CAST(NULL AS Nullable(Float64)) AS e,
    CAST(NULL AS Nullable(Float64)) AS f
FROM numbers(0)
WHERE {from:DateTime64(3, 'UTC')} < {to:DateTime64(3, 'UTC')} AND {tz:String} != '' AND {series:String} != {formula:String}
    AND {period:String} != '' AND {breakdown:String} != '' AND {breakdown_limit:UInt32} > 0
