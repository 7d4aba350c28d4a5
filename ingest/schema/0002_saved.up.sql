-- What a project keeps beside its data: saved questions, cohorts and the filter that leaves out internal users.
--
-- Append-only like `control`: the highest version of a (project, kind, name) holds, an empty payload is a deletion. Unlike
-- `control` it is read when it is asked for and never needed to take data, so no node keeps a snapshot of it.
CREATE TABLE IF NOT EXISTS saved
(
    project UInt32,
    kind Enum8('question' = 1, 'cohort' = 2, 'filter' = 3),
    name String,
    version UInt64,
    payload String CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (project, kind, name, version)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- Who is in a cohort, by the units known when it was made; `version` is the moment of its making, in milliseconds, which
-- the payload in `saved` names. Ids are not kept: a person who is forgotten leaves no name here.
CREATE TABLE IF NOT EXISTS cohort_members
(
    project UInt32,
    cohort LowCardinality(String),
    version UInt64,
    unit UInt64
)
ENGINE = MergeTree
-- A question reads one version of one cohort.
ORDER BY (project, cohort, version, unit)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;
