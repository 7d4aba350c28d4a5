-- What people who run Gemba do: rows they removed, and the record of every administrative act.

-- Rows removed by `forget` and by retention, so that the books still balance. One row per removal, table and hour of
-- receipt; the highest `state` of it holds. `intended` is written before anything is removed and counts nothing yet.
CREATE TABLE IF NOT EXISTS removals
(
    project UInt32,
    reason Enum8('forgotten' = 1, 'expired' = 2),
    -- Number of the removal; also stands in the statement that removes, which is how an interrupted one is found.
    pass UInt64,
    table_name LowCardinality(String),
    -- Partition, where whole ones are dropped.
    partition LowCardinality(String),
    -- Hour of receipt of the rows removed.
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    records UInt64,
    rows UInt64,
    state Enum8('intended' = 1, 'done' = 2, 'void' = 3),
    version UInt8 MATERIALIZED CAST(state, 'UInt8'),
    at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (project, reason, pass, table_name, partition, received)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- Who did what and how it ended. Has no column `project` on purpose: it outlives the projects it speaks of.
CREATE TABLE IF NOT EXISTS audit
(
    at DateTime64(3, 'UTC'),
    id UInt64,
    -- Kind of the credential and the first digits of its hash, or `shell` for a command on the server's own machine.
    actor LowCardinality(String),
    action LowCardinality(String),
    subject String,
    detail String CODEC(ZSTD(1)),
    -- `begun`, then `done` or a word for what went wrong.
    outcome LowCardinality(String),
    version UInt8
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (at, id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- Bytes of the bodies received, inflated; beside the fate `received` only.
ALTER TABLE ledger ADD COLUMN IF NOT EXISTS bytes UInt64 AFTER records;
