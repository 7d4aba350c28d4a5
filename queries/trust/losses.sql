-- title: Losses
-- question: Is everything that was received accounted for, and what did the senders lose before?
-- grain: one row per term, reason and call site
-- param from: beginning of the time of receipt, inclusive | default 1970-01-01T00:00:00Z
-- param to
-- column term: name | received, stored, pending, rejected, set_aside, ignored, deduplicated, forgotten (removed for a
--   person who asked), expired (removed by retention), unexplained; then what SDKs report: sdk_dropped, sdk_unconfirmed,
--   sdk_spooled | exact
-- column reason: name | why, where there is a reason | exact
-- column callsite: name | call site of what an SDK dropped | exact
-- column records: count | records; unexplained = received - the sum of the other terms of the server, 0 when the
--   books balance | exact
-- column share: rate | part of the records received; for what SDKs report, part of those received and reported
--   together | exact
-- caveats: a record that was set aside and taken in again is told when it was taken in again; when it was set aside it counts
--   neither as received nor as set aside. Pending is counted now, whatever the range; what the server refused of a request
--   joins the books when the rest of it is stored. A cut stands in the books at the moment it was received, and a removal by
--   the hour of receipt, so a time range that begins or ends within one leaves a remainder; over all time there is none, at any
--   moment but while rows are being removed: those already gone show as unexplained until all are. sdk_unconfirmed may have
--   arrived; sdk_spooled arrives later.
WITH
    books AS
    (
        SELECT ended.term AS term, ended.reason AS reason, sum(ended.amount) AS records
        FROM
        (
            SELECT toString(fate) AS term, toString(ledger.reason) AS reason, toInt64(records) AS amount
            FROM ledger FINAL WHERE project = {project:UInt32}
                AND received >= {from:DateTime64(3, 'UTC')} AND received < {to:DateTime64(3, 'UTC')}
            UNION ALL
            -- What was set aside and taken in again stands in the ledger twice. It was taken in after it had been received, save
            -- that clocks may have been set meanwhile.
            SELECT 'set_aside' AS term, toString(retries.reason) AS reason, -toInt64(arraySum(mapValues(mapFilter(
                (at, n) -> at >= {from:DateTime64(3, 'UTC')} AND at < {to:DateTime64(3, 'UTC')}, set_aside_at)))) AS amount
            FROM retries FINAL WHERE project = {project:UInt32} AND received >= {from:DateTime64(3, 'UTC')} - INTERVAL 1 DAY
            UNION ALL
            SELECT 'received' AS term, '' AS reason, -toInt64(arraySum(mapValues(mapFilter(
                (at, n) -> at >= {from:DateTime64(3, 'UTC')} AND at < {to:DateTime64(3, 'UTC')}, set_aside_at)))) AS amount
            FROM retries FINAL WHERE project = {project:UInt32} AND received >= {from:DateTime64(3, 'UTC')} - INTERVAL 1 DAY
        ) AS ended
        GROUP BY term, reason HAVING records != 0
        UNION ALL
        -- What is pending enters the ledger with its cut, which is there before all of it is stored.
        SELECT 'received' AS term, '' AS reason, toInt64({pending:UInt64}) - toInt64({booked:UInt64}) AS records
        UNION ALL
        SELECT 'stored' AS term, '' AS reason, toInt64(sum(rows)) AS records
        FROM
        (
            SELECT sum(t.record) AS rows FROM events AS t WHERE project = {project:UInt32}
                AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            UNION ALL
            SELECT sum(t.record) AS rows FROM query_usage AS t WHERE project = {project:UInt32}
                AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            UNION ALL
            SELECT sum(t.record) AS rows FROM query_histograms AS t WHERE project = {project:UInt32}
                AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            UNION ALL
            SELECT sum(t.record) AS rows FROM query_texts AS t WHERE project = {project:UInt32}
                AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            UNION ALL
            SELECT sum(t.record) AS rows FROM query_samples AS t WHERE project = {project:UInt32}
                AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            UNION ALL
            SELECT sum(t.record) AS rows FROM requests AS t WHERE project = {project:UInt32}
                AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            UNION ALL
            SELECT sum(t.record) AS rows FROM identity_links AS t WHERE project = {project:UInt32}
                AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            UNION ALL
            SELECT sum(t.record) AS rows FROM properties AS t WHERE project = {project:UInt32}
                AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            UNION ALL
            SELECT sum(t.record) AS rows FROM catalog AS t WHERE project = {project:UInt32}
                AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
            UNION ALL
            SELECT sum(t.record) AS rows FROM sdk_reports AS t WHERE project = {project:UInt32}
                AND t.received >= {from:DateTime64(3, 'UTC')} AND t.received < {to:DateTime64(3, 'UTC')}
        )
        UNION ALL
        SELECT toString(removals.reason) AS term, '' AS reason, toInt64(sum(records)) AS records
        FROM removals FINAL WHERE project = {project:UInt32} AND state = 'done'
            AND received >= {from:DateTime64(3, 'UTC')} AND received < {to:DateTime64(3, 'UTC')}
        GROUP BY term
        UNION ALL
        SELECT 'pending' AS term, '' AS reason, toInt64({pending:UInt64}) AS records
    ),
    reports AS
    (
        SELECT 'sdk_dropped' AS term, toString(r.reason) AS reason, toString(r.callsite) AS callsite,
            sum(r.records) AS records
        FROM sdk_reports AS r WHERE project = {project:UInt32}
            AND r.kind = 'dropped'
            AND r.received >= {from:DateTime64(3, 'UTC')} AND r.received < {to:DateTime64(3, 'UTC')}
        GROUP BY reason, callsite
        UNION ALL
        SELECT 'sdk_unconfirmed' AS term, '' AS reason, '' AS callsite, sum(r.unconfirmed) AS records
        FROM sdk_reports AS r WHERE project = {project:UInt32}
            AND r.kind = 'stopped'
            AND r.received >= {from:DateTime64(3, 'UTC')} AND r.received < {to:DateTime64(3, 'UTC')}
        UNION ALL
        SELECT 'sdk_spooled' AS term, '' AS reason, '' AS callsite, sum(r.spooled) AS records
        FROM sdk_reports AS r WHERE project = {project:UInt32}
            AND r.kind = 'stopped'
            AND r.received >= {from:DateTime64(3, 'UTC')} AND r.received < {to:DateTime64(3, 'UTC')}
    ),
    (SELECT toUInt64(sum(records)) FROM books WHERE term = 'received') AS all_received,
    (SELECT sum(records) FROM reports) AS all_reported
SELECT
    term, reason, callsite,
    toInt64(amount) AS records,
    if(whole = 0, NULL, round(amount / whole, 9)) AS share
FROM
(
    SELECT
        b.term AS term, b.reason AS reason, '' AS callsite, toInt64(sum(b.records)) AS amount, all_received AS whole,
        indexOf(
            ['received', 'stored', 'pending', 'rejected', 'set_aside', 'ignored', 'deduplicated', 'forgotten', 'expired'],
            term
        ) AS place
    FROM books AS b
    GROUP BY term, reason
    UNION ALL
    SELECT
        'unexplained' AS term, '' AS reason, '' AS callsite,
        sum(if(u.term = 'received', toInt64(u.records), -toInt64(u.records))) AS amount,
        all_received AS whole, 10 AS place
    FROM books AS u
    UNION ALL
    SELECT
        r.term AS term, r.reason AS reason, r.callsite AS callsite, toInt64(r.records) AS amount,
        all_received + all_reported AS whole,
        indexOf(['sdk_dropped', 'sdk_unconfirmed', 'sdk_spooled'], term) + 10 AS place
    FROM reports AS r
)
ORDER BY place, amount DESC, reason, callsite
-- Rows of the books that are one have one time of receipt, so months outside of the range need not be read to merge them.
SETTINGS do_not_merge_across_partitions_select_final = 1
