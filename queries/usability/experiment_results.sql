-- title: Results of an experiment
-- question: Does a variant of a feature flag make more people reach the goal, and by more than chance?
-- grain: one row per variant, the control first, and one for people who saw several
-- param from: beginning of the time of the first exposure, inclusive | default now - 30d
-- param to
-- param flag: key of the feature flag | at most 256 bytes
-- param goal: name of the feature, FUNNEL.STEP or event that is the goal | at most 256 bytes
-- param control: the variant compared with; empty for the one most people saw, then the first by name | default "" | at most 256 bytes
-- param window_hours: time from exposure to goal, inclusive | default 336 | range 1..8760
-- column variant: name | the variant; (several): people who saw more than one, who are compared with nobody | exact
-- column users: count | people first exposed in the time looked at | exact
-- column open: count | those of them who have not reached the goal and still have time | exact
-- column converted: count | those of them who reached the goal after the exposure and in time | exact
-- column decided: count | those of them whose time is over, whether they reached the goal or not | exact
-- column decided_converted: count | those of them who reached it | exact
-- column rate: rate | decided_converted / decided; null: nobody's time is over | exact
-- column rate_low: rate | lower end of its 95 % interval (Wilson) | exact
-- column rate_high: rate | upper end | exact
-- column difference: rate | rate - rate of the control; null for the control itself | exact
-- column difference_low: rate | lower end of its 95 % interval (Newcombe) | exact
-- column difference_high: rate | upper end | exact
-- column verdict: name | control, more than chance, could be chance, or nothing to compare | exact
-- column hours_to_goal_p50: h | median time from exposure to goal, by nearest rank; null: nobody | exact
-- caveats: An exposure is an event feature_flag.evaluation of OpenTelemetry with feature_flag.key and
--   feature_flag.result.variant, of the user or session the record names: feature_flag.context.id is not read as the
--   person, and a record that names neither is no exposure. Each variant is judged by itself: with many variants some
--   difference looks like more than chance. Looking again and again until it does has the same effect. Rates are of those
--   whose time is over: of the others only who was quick is known, and a variant that began later has more of them.
-- ctes: links
WITH
    -- Wilson's interval of x of n.
    (x, n) -> greatest(0, (x / n + 1.920729410 / n
        - 1.959963985 * sqrt(x / n * (1 - x / n) / n + 0.960364705 / n / n)) / (1 + 3.841458821 / n)) AS wilson_low,
    (x, n) -> least(1, (x / n + 1.920729410 / n
        + 1.959963985 * sqrt(x / n * (1 - x / n) / n + 0.960364705 / n / n)) / (1 + 3.841458821 / n)) AS wilson_high,
    exposed AS
    (
        SELECT
            if(l.person != 0, l.person, e.unit) AS person,
            min(e.time) AS since,
            groupUniqArray(e.variant) AS variants
        FROM
        (
            SELECT
                unit, time,
                if(strings['feature_flag.result.variant'] = '', strings['feature_flag.variant'],
                    strings['feature_flag.result.variant']) AS variant
            -- By this name a condition on attributes of what people did is not asked of what they were shown.
            FROM events AS exposures WHERE project = {project:UInt32}
                AND name = 'feature_flag.evaluation' AND kind = 'event' AND unit != 0
                AND strings['feature_flag.key'] = {flag:String}
                AND time < {now:DateTime64(3, 'UTC')}
        ) AS e
        LEFT JOIN links AS l ON l.anonymous = e.unit
        WHERE e.variant != ''
        GROUP BY person
        HAVING since >= {from:DateTime64(3, 'UTC')} AND since < {to:DateTime64(3, 'UTC')}
    ),
    goals AS
    (
        SELECT if(l.person != 0, l.person, g.unit) AS person, groupArrayArray(g.moments) AS moments
        FROM
        (
            SELECT unit, groupArray(time) AS moments
            FROM events WHERE project = {project:UInt32}
                AND name = {goal:String} AND kind != 'ended' AND unit != 0
                AND time >= {from:DateTime64(3, 'UTC')} AND time < {now:DateTime64(3, 'UTC')}
            GROUP BY unit
        ) AS g
        LEFT JOIN links AS l ON l.anonymous = g.unit
        GROUP BY person
    ),
    people AS
    (
        SELECT
            if(length(x.variants) > 1, '(several)', x.variants[1]) AS seen,
            length(x.variants) > 1 AS is_several,
            x.since AS since,
            arraySort(arrayFilter(
                moment -> moment >= x.since AND moment <= x.since + toIntervalHour({window_hours:UInt32}), g.moments)) AS hits,
            x.since + toIntervalHour({window_hours:UInt32}) < {now:DateTime64(3, 'UTC')} AS is_over,
            empty(hits) AND NOT is_over AS is_open
        FROM exposed AS x
        LEFT JOIN goals AS g ON g.person = x.person
    ),
    counted AS
    (
        SELECT
            seen, is_several,
            count() AS people_seen, countIf(is_open) AS people_open, countIf(notEmpty(hits)) AS all_reached,
            countIf(is_over) AS decided, countIf(is_over AND notEmpty(hits)) AS reached,
            if(all_reached = 0, NULL,
                round(quantileExactLowIf(0.5)(dateDiff('millisecond', since, hits[1]), notEmpty(hits)) / 3600000, 3)) AS hours
        FROM people
        GROUP BY seen, is_several
    ),
    control AS
    (
        SELECT seen AS base, reached AS base_reached, decided AS base_decided
        FROM counted
        WHERE NOT is_several AND ({control:String} = '' OR seen = {control:String})
        ORDER BY people_seen DESC, base
        LIMIT 1
    ),
    compared AS
    (
        SELECT
            c.seen AS seen, c.is_several AS is_several, c.people_seen AS people_seen, c.people_open AS people_open,
            c.all_reached AS all_reached, c.reached AS reached, c.decided AS decided, c.hours AS hours,
            NOT c.is_several AND c.seen = b.base AS is_control,
            NOT c.is_several AND NOT is_control AND c.decided > 0 AND b.base_decided > 0 AS is_compared,
            c.reached / c.decided AS own,
            own - b.base_reached / b.base_decided AS apart,
            sqrt(pow(own - wilson_low(c.reached, c.decided), 2)
                + pow(wilson_high(b.base_reached, b.base_decided) - b.base_reached / b.base_decided, 2)) AS below,
            sqrt(pow(wilson_high(c.reached, c.decided) - own, 2)
                + pow(b.base_reached / b.base_decided - wilson_low(b.base_reached, b.base_decided), 2)) AS above
        FROM counted AS c
        LEFT JOIN control AS b ON 1 = 1
    )
SELECT
    seen AS variant,
    people_seen AS users,
    people_open AS open,
    all_reached AS converted,
    decided AS decided,
    reached AS decided_converted,
    if(decided = 0, NULL, round(own, 6)) AS rate,
    if(decided = 0, NULL, round(wilson_low(reached, decided), 6)) AS rate_low,
    if(decided = 0, NULL, round(wilson_high(reached, decided), 6)) AS rate_high,
    if(is_compared, round(apart, 6), NULL) AS difference,
    if(is_compared, round(apart - below, 6), NULL) AS difference_low,
    if(is_compared, round(apart + above, 6), NULL) AS difference_high,
    multiIf(is_control, 'control', NOT is_compared, 'nothing to compare',
        apart - below > 0 OR apart + above < 0, 'more than chance', 'could be chance') AS verdict,
    hours AS hours_to_goal_p50
FROM compared
ORDER BY is_several, NOT is_control, users DESC, variant
