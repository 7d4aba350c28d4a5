-- title: Ingest lag
-- question: How long after something happens does Gemba receive it, and how fresh are the data?
-- grain: one row per kind of record received in the time looked at
-- param from
-- param to
-- column source: name | table the records are in | exact
-- column records: count | records received | exact
-- column newest: time | when the newest of them happened | exact
-- column newest_age_ms: ms | how long ago that is | exact
-- column received_age_ms: ms | how long ago the last of them was received | exact
-- column lag_ms_p50: ms | half of them arrived within this time, by nearest rank | exact
-- column lag_ms_p95: ms | 95 % of them arrived within this time | exact
-- column lag_ms_p99: ms | 99 % of them arrived within this time | exact
-- column lag_ms_max: ms | the slowest took this long | exact
-- column ahead: count | records that claim to have happened after they were received: clocks differ | exact
-- caveats: The time looked at is that of receipt. Imported old data count with their own times. Usage records and
--   metrics are sent when a scope or an interval ends.
WITH by_lag AS
    (
        SELECT
            'events' AS source,
            dateDiff('millisecond', time, received) AS lag_ms,
            sum(record) AS records, max(time) AS newest, max(t.received) AS newest_received
        FROM events AS t WHERE project = {project:UInt32}
            AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            AND t.record = 1
        GROUP BY lag_ms
        UNION ALL
        SELECT
            'query_usage' AS source,
            dateDiff('millisecond', time, received) AS lag_ms,
            sum(record) AS records, max(time) AS newest, max(t.received) AS newest_received
        FROM query_usage AS t WHERE project = {project:UInt32}
            AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            AND t.record = 1
        GROUP BY lag_ms
        UNION ALL
        SELECT
            'query_histograms' AS source,
            dateDiff('millisecond', time, received) AS lag_ms,
            sum(record) AS records, max(time) AS newest, max(t.received) AS newest_received
        FROM query_histograms AS t WHERE project = {project:UInt32}
            AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            AND t.record = 1
        GROUP BY lag_ms
        UNION ALL
        SELECT
            'query_samples' AS source,
            dateDiff('millisecond', time, received) AS lag_ms,
            sum(record) AS records, max(time) AS newest, max(t.received) AS newest_received
        FROM query_samples AS t WHERE project = {project:UInt32}
            AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            AND t.record = 1
        GROUP BY lag_ms
        UNION ALL
        SELECT
            'requests' AS source,
            dateDiff('millisecond', time, received) AS lag_ms,
            sum(record) AS records, max(time) AS newest, max(t.received) AS newest_received
        FROM requests AS t WHERE project = {project:UInt32}
            AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            AND t.record = 1
        GROUP BY lag_ms
    )
SELECT
    source,
    sum(b.records) AS records,
    toDateTime64(max(b.newest), 3, 'UTC') AS newest,
    dateDiff('millisecond', newest, {now:DateTime64(3, 'UTC')}) AS newest_age_ms,
    dateDiff('millisecond', max(b.newest_received), {now:DateTime64(3, 'UTC')}) AS received_age_ms,
    quantileExactWeighted(0.5)(b.lag_ms, b.records) AS lag_ms_p50,
    quantileExactWeighted(0.95)(b.lag_ms, b.records) AS lag_ms_p95,
    quantileExactWeighted(0.99)(b.lag_ms, b.records) AS lag_ms_p99,
    max(b.lag_ms) AS lag_ms_max,
    sumIf(b.records, b.lag_ms < 0) AS ahead
FROM by_lag AS b
GROUP BY source
ORDER BY source
