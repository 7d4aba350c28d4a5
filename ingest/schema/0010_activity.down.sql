-- Questions read the events themselves again. What still makes the projection stands in the way of dropping it.
KILL MUTATION WHERE database = currentDatabase() AND table = 'events' AND command LIKE '%PROJECTION activity%' SYNC;
ALTER TABLE events DROP PROJECTION IF EXISTS activity;
