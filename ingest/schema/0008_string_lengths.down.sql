-- ClickHouse's own default; parts are rewritten as they are merged.
ALTER TABLE events MODIFY SETTING string_serialization_version = 'with_size_stream';
