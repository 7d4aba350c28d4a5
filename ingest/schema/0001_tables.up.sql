-- The tables of Gemba.
--
-- What all counted tables share:
--   * PARTITION BY (retention_class, week of `received`): late data, imports and replay touch one partition, and
--     retention drops whole partitions. Retention counts from `received`, so old data can be imported.
--   * `batch` names the insert that wrote a row (log id in the upper 24 bits, number of the insert in the lower 40).
--     Counting rows by `batch` is the proof that an insert is stored; `record` is 1 on the first row of each record and
--     0 on its further rows, so that sum(record) counts records.
--   * the durability settings: a default insert is not fsynced, and parts merged away are deleted at once.
-- `project` leads every sorting key, so one project's data lie together and a query never reads another's.

CREATE TABLE IF NOT EXISTS events
(
    project UInt32,
    retention_class UInt8,
    name LowCardinality(String),
    kind Enum8('used' = 1, 'started' = 2, 'ended' = 3, 'step' = 4, 'event' = 5),
    day Date CODEC(Delta, ZSTD(1)),
    unit UInt64 CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    instance LowCardinality(UInt64),
    resource LowCardinality(UInt64),
    -- Random, but a session's events lie near each other: seen a megabyte at a time they are found again.
    session UInt64 CODEC(ZSTD(3)) SETTINGS (min_compress_block_size = 1048576, max_compress_block_size = 1048576),
    tenant LowCardinality(String),
    feature LowCardinality(String),
    attempt UInt64 CODEC(ZSTD(1)),
    outcome Enum8('' = 0, 'completed' = 1, 'failed' = 2, 'abandoned' = 3, 'cancelled' = 4, 'panicked' = 5),
    outcome_inferred Bool,
    outcome_reason LowCardinality(String),
    duration_ns UInt64 CODEC(T64, ZSTD(1)),
    error_type LowCardinality(String),
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id UInt64 CODEC(ZSTD(1)),
    strings Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    numbers Map(LowCardinality(String), Float64) CODEC(ZSTD(1)),
    bools Map(LowCardinality(String), Bool) CODEC(ZSTD(1)),
    flags UInt8,
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1)),
    -- Counts at a grain that every time zone's hours and days are made of (+5:45 included).
    PROJECTION usage_by_quarter_hour
    (
        SELECT
            project, name, kind, toStartOfFifteenMinutes(time) AS quarter_hour,
            service, release, environment, outcome,
            count() AS events
        GROUP BY project, name, kind, quarter_hour, service, release, environment, outcome
    )
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
-- One event's rows lie together, minute by minute: a question reads only its names and its days. Within a minute they stay
-- in the order of receipt, so that merging parts copies runs instead of single rows, and what a batch has in common
-- (resource, service, received) compresses as runs (measured, see ingest/DESIGN.md).
ORDER BY (project, name, toStartOfMinute(time))
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, allow_suspicious_low_cardinality_types = 1,
    -- Merging costs more than inserting, so each pass takes at least ten parts; the default is content with fewer, which
    -- merges an event half as often again.
    min_parts_to_merge_at_once = 10,
    lightweight_mutation_projection_mode = 'rebuild', deduplicate_merge_projection_mode = 'rebuild';

CREATE TABLE IF NOT EXISTS query_usage
(
    project UInt32,
    retention_class UInt8,
    fingerprint UInt64,
    day Date CODEC(Delta, ZSTD(1)),
    unit UInt64 CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    session UInt64 CODEC(ZSTD(1)),
    tenant LowCardinality(String),
    feature LowCardinality(String),
    funnel_step LowCardinality(String),
    attempt UInt64 CODEC(ZSTD(1)),
    route LowCardinality(String),
    code LowCardinality(String),
    calls UInt32 CODEC(T64, ZSTD(1)),
    total_ns UInt64 CODEC(T64, ZSTD(1)),
    max_ns UInt64 CODEC(T64, ZSTD(1)),
    rows UInt64 CODEC(T64, ZSTD(1)),
    errors UInt32 CODEC(T64, ZSTD(1)),
    instance LowCardinality(UInt64),
    resource LowCardinality(UInt64),
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
-- "Whom does this query make wait, and where" reads one fingerprint.
ORDER BY (project, fingerprint, day, unit, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, allow_suspicious_low_cardinality_types = 1;

CREATE TABLE IF NOT EXISTS query_histograms
(
    project UInt32,
    retention_class UInt8,
    fingerprint UInt64,
    day Date CODEC(Delta, ZSTD(1)),
    -- End and start of the interval the point covers.
    time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    start DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    -- Hash of everything that makes the point's stream: resource and point attributes.
    stream UInt64,
    source Enum8('sdk' = 1, 'metric' = 2),
    temporality Enum8('delta' = 1, 'cumulative' = 2),
    feature LowCardinality(String),
    funnel_step LowCardinality(String),
    route LowCardinality(String),
    code LowCardinality(String),
    system LowCardinality(String),
    namespace LowCardinality(String),
    error_type LowCardinality(String),
    count UInt64 CODEC(T64, ZSTD(1)),
    -- Nanoseconds; exact as sent by our SDK, from seconds otherwise.
    sum_ns Float64 CODEC(ZSTD(1)),
    min_ns Float64 CODEC(ZSTD(1)),
    max_ns Float64 CODEC(ZSTD(1)),
    -- Exponential buckets at scale 6 over seconds: index i counts values in (2^(i/64), 2^((i+1)/64)]; finer scales are
    -- folded down exactly when stored, coarser ones are kept as explicit bounds. Index -2147483648 is the zero bucket.
    buckets Map(Int32, UInt64) CODEC(ZSTD(1)),
    -- Explicit bounds in seconds, upper bounds inclusive; bound_counts has one entry more than bounds.
    bounds Array(Float64) CODEC(ZSTD(1)),
    bound_counts Array(UInt64) CODEC(ZSTD(1)),
    instance LowCardinality(UInt64),
    resource LowCardinality(UInt64),
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
ORDER BY (project, fingerprint, day, stream, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, allow_suspicious_low_cardinality_types = 1;

CREATE TABLE IF NOT EXISTS query_texts
(
    project UInt32,
    retention_class UInt8,
    fingerprint UInt64,
    version UInt16,
    system LowCardinality(String),
    name LowCardinality(String),
    summary String CODEC(ZSTD(1)),
    text String CODEC(ZSTD(1)),
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
ORDER BY (project, fingerprint, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

CREATE TABLE IF NOT EXISTS query_samples
(
    project UInt32,
    retention_class UInt8,
    fingerprint UInt64,
    day Date CODEC(Delta, ZSTD(1)),
    -- Start of the span.
    time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ns UInt64 CODEC(T64, ZSTD(1)),
    -- 'sdk': a sample beside the exact histograms, never counted; 'span': a foreign span, counted with its weight
    -- unless its (instance, system, namespace) also sends metrics.
    source Enum8('sdk' = 1, 'span' = 2),
    weight Float32,
    sample LowCardinality(String),
    unit UInt64 CODEC(ZSTD(1)),
    session UInt64 CODEC(ZSTD(1)),
    tenant LowCardinality(String),
    feature LowCardinality(String),
    funnel_step LowCardinality(String),
    attempt UInt64 CODEC(ZSTD(1)),
    route LowCardinality(String),
    code LowCardinality(String),
    system LowCardinality(String),
    namespace LowCardinality(String),
    -- Rows the query returned; -1 where the span does not say.
    rows Int64 CODEC(T64, ZSTD(1)),
    failed Bool,
    error_type LowCardinality(String),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id UInt64 CODEC(ZSTD(1)),
    parent_span_id UInt64 CODEC(ZSTD(1)),
    instance LowCardinality(UInt64),
    resource LowCardinality(UInt64),
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
ORDER BY (project, fingerprint, day, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, allow_suspicious_low_cardinality_types = 1;

CREATE TABLE IF NOT EXISTS requests
(
    project UInt32,
    retention_class UInt8,
    route LowCardinality(String),
    method LowCardinality(String),
    day Date CODEC(Delta, ZSTD(1)),
    time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ns UInt64 CODEC(T64, ZSTD(1)),
    status_code UInt16,
    failed Bool,
    error_type LowCardinality(String),
    weight Float32,
    unit UInt64 CODEC(ZSTD(1)),
    session UInt64 CODEC(ZSTD(1)),
    tenant LowCardinality(String),
    feature LowCardinality(String),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id UInt64 CODEC(ZSTD(1)),
    parent_span_id UInt64 CODEC(ZSTD(1)),
    instance LowCardinality(UInt64),
    resource LowCardinality(UInt64),
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
ORDER BY (project, route, day, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, allow_suspicious_low_cardinality_types = 1;

CREATE TABLE IF NOT EXISTS identity_links
(
    project UInt32,
    retention_class UInt8,
    -- The unit that was anonymous (of a session or an anonymous id) and the unit of the user it turned out to be.
    anonymous UInt64,
    person UInt64,
    time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
ORDER BY (project, anonymous, time, person)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

CREATE TABLE IF NOT EXISTS properties
(
    project UInt32,
    retention_class UInt8,
    subject Enum8('user' = 1, 'tenant' = 2),
    -- The user's unit, or 0 for a tenant.
    unit UInt64,
    tenant LowCardinality(String),
    time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    strings Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    numbers Map(LowCardinality(String), Float64) CODEC(ZSTD(1)),
    bools Map(LowCardinality(String), Bool) CODEC(ZSTD(1)),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
ORDER BY (project, subject, tenant, unit, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

CREATE TABLE IF NOT EXISTS catalog
(
    project UInt32,
    retention_class UInt8,
    kind Enum8('feature' = 1, 'step' = 2, 'query' = 3),
    name String,
    -- For a step: its funnel and its position from 0.
    funnel LowCardinality(String),
    position UInt16,
    was String,
    code LowCardinality(String),
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
ORDER BY (project, kind, name, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

CREATE TABLE IF NOT EXISTS sdk_reports
(
    project UInt32,
    retention_class UInt8,
    time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    -- 'dropped': `records` were dropped for `reason`; 'stopped': an orderly end, `records` recorded in all.
    kind Enum8('dropped' = 1, 'stopped' = 2),
    reason LowCardinality(String),
    callsite LowCardinality(String),
    records UInt64 CODEC(T64, ZSTD(1)),
    delivered UInt64,
    spooled UInt64,
    unconfirmed UInt64,
    instance UInt64,
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
ORDER BY (project, kind, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- Records that could not become rows but may hold something of worth, each with the reason; can be listed.
CREATE TABLE IF NOT EXISTS set_aside
(
    project UInt32,
    retention_class UInt8,
    time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    signal LowCardinality(String),
    reason LowCardinality(String),
    detail String CODEC(ZSTD(1)),
    -- The record as OTLP JSON, cut to 64 KiB.
    body String CODEC(ZSTD(1)),
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    record UInt8,
    batch UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_class, toMonday(received))
ORDER BY (project, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- Below: tables where writing the same row twice changes nothing; they are not counted by batch.

-- Which id a unit stands for.
CREATE TABLE IF NOT EXISTS units
(
    project UInt32,
    unit UInt64,
    kind Enum8('user' = 1, 'session' = 2, 'anonymous' = 3),
    id String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (project, unit)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- Resource attributes, once per distinct set instead of on every row.
CREATE TABLE IF NOT EXISTS resources
(
    project UInt32,
    resource UInt64,
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    instance String,
    attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    last_seen Date
)
ENGINE = ReplacingMergeTree(last_seen)
ORDER BY (project, resource)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- What became of the records of each cut: one row per fate and reason. `stored` is not written here: it is counted in
-- the tables, by batch.
CREATE TABLE IF NOT EXISTS ledger
(
    project UInt32,
    log UInt32,
    cut UInt64,
    fate Enum8('received' = 1, 'rejected' = 2, 'set_aside' = 3, 'ignored' = 4, 'deduplicated' = 5),
    signal LowCardinality(String),
    reason LowCardinality(String),
    records UInt64,
    received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received)
ORDER BY (project, log, cut, fate, signal, reason)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- Projects, keys, quotas, tombstones: append-only, the highest version of a (kind, id) holds.
CREATE TABLE IF NOT EXISTS control
(
    kind LowCardinality(String),
    id String,
    version UInt64,
    payload String CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (kind, id, version)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;
