-- title: Service level of queries
-- question: What share of all database queries takes no longer than it may?
-- grain: one row per service and release, and one for all together
-- param from
-- param to
-- param max_ms: longest time a query may take, inclusive | default 10 | range 0.001..3600000
-- param limit: most rows, those with most calls first | default 100 | range 1..10000
-- column service: name | the service; empty: all together | exact
-- column release: name | its release; empty: all together | exact
-- column calls: count | queries | exact
-- column within: count | those that surely took no longer | exact
-- column over: count | those that surely took longer | exact
-- column share_low: rate | within / calls: the share is not below this | exact
-- column share_high: rate | 1 - over / calls: and not above this | exact
-- caveats: Where queries come as histograms, those of the one bucket that holds the limit (1.1 % wide from our SDK, as wide
--   as its sender made it otherwise) may be on either side; where they come as spans both shares are the same. Calls of
--   sampled spans are estimated by their weight.
-- ctes: calls
SELECT
    toString(r.service) AS service,
    toString(r.release) AS release,
    toUInt64(round(sum(r.calls))) AS calls,
    toUInt64(round(sumIf(r.calls, r.high <= {max_ms:Float64} * 1e6))) AS within,
    toUInt64(round(sumIf(r.calls, r.low >= {max_ms:Float64} * 1e6 AND r.high > {max_ms:Float64} * 1e6))) AS over,
    round(within / calls, 6) AS share_low,
    round(1 - over / calls, 6) AS share_high
FROM
(
    SELECT service, release, low, high, calls FROM ranges
    UNION ALL
    SELECT '' AS service, '' AS release, low, high, calls FROM ranges
) AS r
GROUP BY service, release
ORDER BY service != '' OR release != '', calls DESC, service, release
LIMIT {limit:UInt32}
