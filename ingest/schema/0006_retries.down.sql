-- Undoes 0006_retries.up.sql. The books balance as before; a record that was taken in again counts twice as received.
DROP TABLE IF EXISTS retries;
ALTER TABLE set_aside DROP COLUMN IF EXISTS context;
