-- Records that were set aside can be taken in again.

-- The export request a record came in, as OTLP JSON up to the place of the record: its resource and scope, of a data point
-- its metric. Empty where the record or this could not be kept whole, and in rows written before this migration.
ALTER TABLE set_aside ADD COLUMN IF NOT EXISTS context String CODEC(ZSTD(1)) AFTER body;

-- How many records of a cut had been set aside before, by the reason they were set aside for. The ledger counts such a
-- record twice as received and once as set aside; what stands here is taken off both, so that the books count it once.
CREATE TABLE IF NOT EXISTS retries
(
    project UInt32,
    log UInt32,
    cut UInt64,
    signal LowCardinality(String),
    reason LowCardinality(String),
    records UInt64,
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received)
ORDER BY (project, log, cut, signal, reason)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;
