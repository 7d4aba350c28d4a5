-- title: Retention
-- question: Of the people who began in a period, how many come back in the periods after?
-- grain: one row per cohort and number of periods later, 0 being the cohort's own
-- param from: beginning of the first cohort, inclusive | default now - 56d
-- param to: end of the last cohort, exclusive; returns are looked for until now | default now
-- param tz
-- param period: length of a period; weeks begin on Monday | default week | one of day, week, month
-- param start: name of the event that begins, empty for any | default "" | at most 256 bytes
-- param returns: names of the events that are a return, separated by commas, or as a JSON list; empty for any | default "" | at most 4000 bytes
-- param cohort_by: which start puts a person into a cohort | default first_ever | one of first_ever, first_in_range,
--   recurring
-- param mode: what counts as a return for a period | default on | one of on, on_or_after
-- param periods: most periods to look ahead | default 8 | range 1..60
-- column cohort: date | first day of the period in which they began | exact
-- column period: count | periods later | exact
-- column users: count | people in the cohort | exact
-- column returned: count | those of them who came back in that period, or then or later | exact
-- column rate: rate | returned / users | exact
-- column is_open: flag | 1: the period is not over, so the figure can still grow | exact
-- caveats: A return is another event than the start, in its period or a later one; in the start's own period it may lie
--   before it. Two events of one name and millisecond count as one where their sender gives no order. With recurring a person is in the cohort of each period with a start.
-- ctes: links, periods
WITH
    if(startsWith({returns:String}, '['),
        JSONExtract({returns:String}, 'Array(String)'),
        arrayFilter(name -> name != '', arrayMap(name -> trim(name), splitByChar(',', {returns:String})))) AS return_names,
    -- What each unit did in each period: its first start, its earliest and its last return, as (time, order, name).
    by_unit AS
    (
        SELECT
            unit, period_day,
            minIf(moment, is_start) AS first_start,
            countIf(is_start) AS starts,
            minIf(moment, is_return) AS early_return,
            maxIf(moment, is_return) AS last_return,
            countIf(is_return) AS all_returns
        FROM
        (
            SELECT
                unit,
                (time, seq, toString(name)) AS moment,
                period_of(time) AS period_day,
                ({start:String} = '' OR name = {start:String}) AND time < {to:DateTime64(3, 'UTC')} AS is_start,
                empty(return_names) OR has(return_names, toString(name)) AS is_return
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0
                AND ({start:String} = '' OR empty(return_names) OR has(arrayPushBack(return_names, {start:String}), toString(name)))
                AND time < {now:DateTime64(3, 'UTC')}
                AND ({cohort_by:String} = 'first_ever' OR time >= {from:DateTime64(3, 'UTC')})
        )
        GROUP BY unit, period_day
    ),
    people AS
    (
        SELECT
            person,
            arraySort(groupArrayIf((period_day, first_start), starts > 0)) AS begun,
            groupArrayIf((period_day, early_return, last_return), all_returns > 0) AS came_back
        FROM
        (
            SELECT
                if(l.person != 0, l.person, u.unit) AS person,
                u.period_day AS period_day,
                minIf(u.first_start, u.starts > 0) AS first_start,
                sum(u.starts) AS starts,
                minIf(u.early_return, u.all_returns > 0) AS early_return,
                maxIf(u.last_return, u.all_returns > 0) AS last_return,
                sum(u.all_returns) AS all_returns
            FROM by_unit AS u
            LEFT JOIN links AS l ON l.anonymous = u.unit
            GROUP BY person, period_day
        )
        GROUP BY person
        HAVING notEmpty(begun)
    ),
    -- One row for each cohort a person is in, with the numbers of periods after which they came back.
    members AS
    (
        SELECT
            chosen.1 AS cohort,
            chosen.2 AS began,
            arrayMap(
                back -> periods_between(cohort, back.1),
                arrayFilter(back -> back.1 >= cohort AND (back.2 != began OR back.3 != began), came_back)) AS later
        FROM people
        ARRAY JOIN if({cohort_by:String} = 'recurring', begun, [begun[1]]) AS chosen
        WHERE began.1 >= {from:DateTime64(3, 'UTC')}
    )
SELECT
    cohort,
    toUInt32(ahead) AS period,
    count() AS users,
    countIf(if({mode:String} = 'on', has(later, ahead), arrayExists(k -> k >= ahead, later))) AS returned,
    round(returned / users, 6) AS rate,
    is_open_period(period_after(cohort, ahead)) AS is_open
FROM members
ARRAY JOIN range(0, {periods:UInt32} + 1) AS ahead
WHERE toDateTime64(period_after(cohort, ahead), 3, {tz:String}) < {now:DateTime64(3, 'UTC')}
GROUP BY cohort, ahead
ORDER BY cohort, ahead
