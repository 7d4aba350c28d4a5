-- title: Feature completion
-- question: Of those who begin something, how many finish it, how long does it take, and what becomes of the rest?
-- grain: one row per feature with attempts begun in the time looked at
-- param from
-- param to
-- param release: only attempts of this release, empty for all | default "" | at most 256 bytes
-- param limit: most rows, the most unfinished first | default 1000 | range 1..10000
-- column feature: name | name of the feature | exact
-- column begun: count | attempts begun = completed + failed + abandoned + cancelled + panicked + open | exact
-- column completed: count | ended as the user wanted | exact
-- column failed: count | ended with an error | exact
-- column abandoned: count | given up by the user, or left without a verdict | exact
-- column cancelled: count | dropped before the end, such as when a client goes away | exact
-- column panicked: count | ended by a panic | exact
-- column open: count | without an end so far | exact
-- column open_expired: count | those of them older than 30 minutes, which count as unfinished | exact
-- column cancelled_by_shutdown: count | those cancelled because the process stopped, which nobody gave up | exact
-- column ignored: count | those abandoned because the application dropped the guard at once, a fault in its code that the
--   SDK told it about | exact
-- column unfinished: count | failed + abandoned + cancelled + panicked + open_expired - cancelled_by_shutdown - ignored |
--   exact
-- column completion_rate: rate | completed / (completed + unfinished) | exact
-- column unfinished_rate: rate | unfinished / (completed + unfinished) | exact
-- column users: count | people who began one | exact
-- column users_unfinished: count | people with an unfinished one | exact
-- column time_to_finish_ms_p50: ms | median time of the completed ones, by nearest rank | exact
-- caveats: An attempt belongs to the moment it begins; its end may lie after the time looked at. Attempts whose
--   process died stay open.
-- ctes: links, attempt_events_of_release, attempts
WITH
    by_unit AS
    (
        SELECT
            name,
            unit,
            count() AS begun,
            countIf(has_end AND outcome = 'completed') AS completed,
            countIf(has_end AND outcome = 'failed') AS failed,
            countIf(has_end AND outcome = 'abandoned') AS abandoned,
            countIf(has_end AND outcome = 'cancelled') AS cancelled,
            countIf(has_end AND outcome = 'panicked') AS panicked,
            countIf(NOT has_end) AS open,
            countIf(NOT has_end AND begun_at < {now:DateTime64(3, 'UTC')} - toIntervalMinute(30)) AS open_expired,
            countIf(has_end AND outcome = 'cancelled' AND reason = 'shutdown') AS cancelled_by_shutdown,
            countIf(has_end AND outcome = 'abandoned' AND reason = 'ignored') AS ignored,
            failed + abandoned + cancelled + panicked + open_expired - cancelled_by_shutdown - ignored AS unfinished,
            groupArrayIf(duration_ns, has_end AND outcome = 'completed') AS durations_ns
        FROM attempts
        GROUP BY name, unit
    )
SELECT
    name AS feature,
    sum(u.begun) AS begun,
    sum(u.completed) AS completed,
    sum(u.failed) AS failed,
    sum(u.abandoned) AS abandoned,
    sum(u.cancelled) AS cancelled,
    sum(u.panicked) AS panicked,
    sum(u.open) AS open,
    sum(u.open_expired) AS open_expired,
    sum(u.cancelled_by_shutdown) AS cancelled_by_shutdown,
    sum(u.ignored) AS ignored,
    sum(u.unfinished) AS unfinished,
    if(completed + unfinished = 0, NULL, round(completed / (completed + unfinished), 6)) AS completion_rate,
    if(completed + unfinished = 0, NULL, round(unfinished / (completed + unfinished), 6)) AS unfinished_rate,
    uniqExactIf(if(l.person != 0, l.person, u.unit), u.unit != 0) AS users,
    uniqExactIf(if(l.person != 0, l.person, u.unit), u.unit != 0 AND u.unfinished > 0) AS users_unfinished,
    if(completed = 0, NULL, round(quantileExactLowArray(0.5)(u.durations_ns) / 1e6, 3)) AS time_to_finish_ms_p50
FROM by_unit AS u
LEFT JOIN links AS l ON l.anonymous = u.unit
GROUP BY feature
ORDER BY unfinished DESC, begun DESC, feature
LIMIT {limit:UInt32}
