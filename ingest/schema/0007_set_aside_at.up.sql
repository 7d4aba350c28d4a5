-- What was set aside and taken in again is taken off where it stood in the books.

-- When the records had been received that were set aside, and how many of them then. Before this migration nobody wrote it
-- down: there it is when they were taken in again.
ALTER TABLE retries ADD COLUMN IF NOT EXISTS set_aside_at Map(DateTime64(3, 'UTC'), UInt64) DEFAULT map(received, records) CODEC(ZSTD(1)) AFTER records;
