-- Drops what 0002 added, and nothing else.

DROP TABLE IF EXISTS cohort_members SYNC;
DROP TABLE IF EXISTS saved SYNC;
