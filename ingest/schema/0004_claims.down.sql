-- Drops what 0004_claims.up.sql added, and nothing else.

DROP TABLE IF EXISTS claims SYNC;
