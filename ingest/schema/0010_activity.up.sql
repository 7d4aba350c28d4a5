-- Who was there in which quarter of an hour, so that questions about active people need not read every event.
--
-- Quarters of an hour are the largest grain that the days of every time zone are made of. Numbers only: with service, release,
-- environment and tenant, which are words, an insert costs three times as much more. Questions read the projection itself
-- (queries/src/population.rs), where every part has it; parts that were there before get it in the background.
ALTER TABLE events ADD PROJECTION IF NOT EXISTS activity
(
    SELECT
        project, toStartOfFifteenMinutes(time) AS quarter_hour, unit, session,
        countIf(kind != 'ended') AS uses
    GROUP BY project, quarter_hour, unit, session
);
ALTER TABLE events MATERIALIZE PROJECTION activity SETTINGS mutations_sync = 0;
