-- What every question reads, times and units, is kept so that it is quick to read.
--
-- Rows of a minute lie in the order of receipt, so differences of times are as irregular as the times themselves, and ZSTD spells each
-- out; as the bits they need they are smaller and read in a quarter of the time. Units are hashes: what ZSTD finds in them beyond
-- LZ4 is little and dear to read. Parts are rewritten as they are merged.
ALTER TABLE events
    MODIFY COLUMN time DateTime64(3, 'UTC') CODEC(T64, Default),
    MODIFY COLUMN unit UInt64 CODEC(LZ4);
