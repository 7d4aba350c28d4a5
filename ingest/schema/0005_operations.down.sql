-- Undoes 0005_operations.up.sql.
ALTER TABLE ledger DROP COLUMN IF EXISTS bytes;
DROP TABLE IF EXISTS audit;
DROP TABLE IF EXISTS removals;
