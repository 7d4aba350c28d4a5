-- The codecs and the setting of 0001; parts are rewritten as they are merged.

ALTER TABLE events
    MODIFY COLUMN day Date CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN unit UInt64 CODEC(ZSTD(1)),
    MODIFY COLUMN time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN seq UInt64 CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN attempt UInt64 CODEC(ZSTD(1)),
    MODIFY COLUMN duration_ns UInt64 CODEC(T64, ZSTD(1)),
    MODIFY COLUMN trace_id FixedString(16) CODEC(ZSTD(1)),
    MODIFY COLUMN span_id UInt64 CODEC(ZSTD(1)),
    MODIFY COLUMN strings Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    MODIFY COLUMN numbers Map(LowCardinality(String), Float64) CODEC(ZSTD(1)),
    MODIFY COLUMN bools Map(LowCardinality(String), Bool) CODEC(ZSTD(1)),
    MODIFY COLUMN received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN batch UInt64 CODEC(Delta, ZSTD(1));

-- ClickHouse's own default.
ALTER TABLE events MODIFY SETTING min_bytes_for_wide_part = 10485760;
