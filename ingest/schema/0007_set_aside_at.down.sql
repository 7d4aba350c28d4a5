-- Undoes 0007_set_aside_at.up.sql.
ALTER TABLE retries DROP COLUMN IF EXISTS set_aside_at;
