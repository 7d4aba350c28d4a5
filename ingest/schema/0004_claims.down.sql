-- Drops what 0003 added, and nothing else.

DROP TABLE IF EXISTS claims SYNC;
