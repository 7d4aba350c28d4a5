-- The codecs of 0003; parts are rewritten as they are merged.
ALTER TABLE events
    MODIFY COLUMN time DateTime64(3, 'UTC') CODEC(Delta, Default),
    MODIFY COLUMN unit UInt64 CODEC(Default);
