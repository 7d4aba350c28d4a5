-- Parts that were just inserted are read once or twice and then merged, so what is spent on making them small is lost.
--
-- `Default` is what the server's configuration says for a part of its size. The embedded engine's says LZ4 for what is
-- inserted and ZSTD(1) for what is merged (src/engine/process.rs); a ClickHouse server without such a configuration
-- compresses all parts with LZ4, which takes a sixth more room. `session` keeps its own codec.
ALTER TABLE events
    MODIFY COLUMN day Date CODEC(Delta, Default),
    MODIFY COLUMN unit UInt64 CODEC(Default),
    MODIFY COLUMN time DateTime64(3, 'UTC') CODEC(Delta, Default),
    MODIFY COLUMN seq UInt64 CODEC(Delta, Default),
    MODIFY COLUMN attempt UInt64 CODEC(Default),
    MODIFY COLUMN duration_ns UInt64 CODEC(T64, Default),
    MODIFY COLUMN trace_id FixedString(16) CODEC(Default),
    MODIFY COLUMN span_id UInt64 CODEC(Default),
    MODIFY COLUMN strings Map(LowCardinality(String), String) CODEC(Default),
    MODIFY COLUMN numbers Map(LowCardinality(String), Float64) CODEC(Default),
    MODIFY COLUMN bools Map(LowCardinality(String), Bool) CODEC(Default),
    MODIFY COLUMN received DateTime64(3, 'UTC') CODEC(Delta, Default),
    MODIFY COLUMN batch UInt64 CODEC(Delta, Default);

-- A part of one file is written with one sync, not with one for each of ninety; merged parts are larger than this.
ALTER TABLE events MODIFY SETTING min_bytes_for_wide_part = 134217728;
