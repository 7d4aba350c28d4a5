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
SELECT
    a.name AS feature,
    count() AS begun,
    countIf(a.has_end AND a.outcome = 'completed') AS completed,
    countIf(a.has_end AND a.outcome = 'failed') AS failed,
    countIf(a.has_end AND a.outcome = 'abandoned') AS abandoned,
    countIf(a.has_end AND a.outcome = 'cancelled') AS cancelled,
    countIf(a.has_end AND a.outcome = 'panicked') AS panicked,
    countIf(NOT a.has_end) AS open,
    countIf(is_expired) AS open_expired,
    countIf(a.is_nobodys AND a.outcome = 'cancelled') AS cancelled_by_shutdown,
    countIf(a.is_nobodys AND a.outcome = 'abandoned') AS ignored,
    countIf(is_unfinished) AS unfinished,
    if(completed + unfinished = 0, NULL, round(completed / (completed + unfinished), 6)) AS completion_rate,
    if(completed + unfinished = 0, NULL, round(unfinished / (completed + unfinished), 6)) AS unfinished_rate,
    uniqExactIf(person, person != 0) AS users,
    uniqExactIf(person, person != 0 AND is_unfinished) AS users_unfinished,
    if(completed = 0, NULL, round(
        quantileExactLowIf(0.5)(a.duration_ns, a.has_end AND a.outcome = 'completed') / 1e6, 3)) AS time_to_finish_ms_p50
FROM
(
    SELECT
        t.name AS name, t.has_end AS has_end, t.outcome AS outcome, t.is_nobodys AS is_nobodys, t.duration_ns AS duration_ns,
        NOT t.has_end AND t.begun_at < {now:DateTime64(3, 'UTC')} - toIntervalMinute(30) AS is_expired,
        is_expired OR (t.has_end AND t.outcome != 'completed' AND NOT t.is_nobodys) AS is_unfinished,
        if(l.person != 0, l.person, t.unit) AS person
    FROM attempts AS t
    LEFT JOIN links AS l ON l.anonymous = t.unit
) AS a
GROUP BY feature
ORDER BY unfinished DESC, begun DESC, feature
LIMIT {limit:UInt32}
