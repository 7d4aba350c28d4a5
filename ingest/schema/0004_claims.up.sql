-- Which node of several on one store was first with a request, for requests sent to more than one of them.

-- A claim is never changed. ClickHouse numbers the inserts of a table in the order in which they become visible, and the
-- number stays with a row through merges, so of two claims of one key every reader sees the same one as the first.
-- One row for each request, about 20 bytes: keys of Gemba's SDK stay, since a batch may come from a spool any time later;
-- others are looked at for a day at most.
CREATE TABLE IF NOT EXISTS claims
(
    project UInt32,
    -- 1: a batch of Gemba's SDK, 2: another idempotency key, 3: a body without a key.
    kind UInt8,
    -- Instance of the SDK, or a hash.
    key_high UInt64,
    key_low UInt64,
    -- Number of the SDK's batch, else 0.
    number UInt64 CODEC(T64, ZSTD(1)),
    -- Whose claim: the node's log, and the position of the request in it.
    log UInt32,
    position UInt64 CODEC(T64, ZSTD(1)),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
-- Looked for by key, and by nothing else. Not partitioned: the inserts of all partitions are numbered apart.
ORDER BY (project, kind, key_high, key_low, number)
TTL toDateTime(received) + INTERVAL 2 DAY DELETE WHERE kind != 1
SETTINGS enable_block_number_column = 1, fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;
