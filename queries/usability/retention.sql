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
--   before it. Where several events come first at once, without an order between them, the start is the one that is a
--   return, if there is one. With recurring a person is in the cohort of each period with a start.
-- ctes: links, periods
WITH
    if(startsWith({returns:String}, '['),
        JSONExtract({returns:String}, 'Array(String)'),
        arrayFilter(name -> name != '', arrayMap(name -> trim(name), splitByChar(',', {returns:String})))) AS return_names,
    -- What each unit did in each period. A moment is one number: milliseconds since 1900, the sequence number, and a last bit
    -- that is 0 for a return; so the least of them is the start. 0: there is none.
    by_unit AS
    (
        SELECT
            unit,
            period_of(time) AS period_day,
            minIf(moment, is_start) AS began,
            countIf(is_return) AS returns
        FROM
        (
            SELECT
                unit, time,
                ({start:String} = '' OR name = {start:String}) AND time < {to:DateTime64(3, 'UTC')} AS is_start,
                empty(return_names) OR has(return_names, name) AS is_return,
                bitShiftLeft(toUInt128(toUnixTimestamp64Milli(time) + 2208988800001), 65)
                    + bitShiftLeft(toUInt128(seq), 1) + NOT is_return AS moment
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0
                AND ({start:String} = '' OR empty(return_names) OR has(arrayPushBack(return_names, {start:String}), name))
                AND time < {now:DateTime64(3, 'UTC')}
                AND ({cohort_by:String} = 'first_ever' OR time >= {from:DateTime64(3, 'UTC')})
        )
        GROUP BY unit, period_day
    ),
    people AS
    (
        SELECT
            groupArray(u.period_day) AS period_days,
            groupArray(u.began) AS began_in,
            groupArray(u.returns) AS returns_in
        FROM by_unit AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY if(l.person != 0, l.person, u.unit)
    ),
    -- One row for each cohort a person is in, with the periods in which they came back.
    members AS
    (
        SELECT
            period_cohort AS cohort,
            arrayMin(arrayFilter((moment, day) -> moment != 0 AND day = cohort, began_in, period_days)) AS began,
            arraySum((returns, day) -> if(day = cohort, returns, 0), returns_in, period_days) AS own_returns,
            -- The start itself is no return.
            own_returns > if(bitAnd(began, 1) = 0, 1, 0) AS is_back_at_once,
            arrayDistinct(arrayFilter(
                (day, returns) -> returns > 0 AND (day > cohort OR day = cohort AND is_back_at_once),
                period_days, returns_in)) AS back
        FROM people
        ARRAY JOIN arraySlice(
            arraySort(arrayDistinct(arrayFilter((day, moment) -> moment != 0, period_days, began_in))),
            1, if({cohort_by:String} = 'recurring', 65535, 1)) AS period_cohort
        WHERE began >= bitShiftLeft(toUInt128(toUnixTimestamp64Milli({from:DateTime64(3, 'UTC')}) + 2208988800001), 65)
    ),
    -- How many people of a cohort came back in a period, or came back in it last; 1970 stands for all of them.
    counted AS
    (
        SELECT cohort, back_day, count() AS people
        FROM members
        ARRAY JOIN arrayPushFront(
            if({mode:String} = 'on' OR empty(back), back, [arrayMax(back)]),
            toDate('1970-01-01')) AS back_day
        GROUP BY cohort, back_day
    ),
    cohorts AS
    (
        SELECT c.cohort AS cohort, sumIf(c.people, back_day = '1970-01-01') AS users, groupArray((back_day, c.people)) AS back
        FROM counted AS c
        GROUP BY cohort
    )
SELECT
    cohort,
    toUInt32(ahead) AS period,
    users,
    arraySum(arrayMap(
        one -> if(if({mode:String} = 'on', one.1 = period_after(cohort, ahead), one.1 >= period_after(cohort, ahead)), one.2, 0),
        back)) AS returned,
    round(returned / users, 6) AS rate,
    is_open_period(period_after(cohort, ahead)) AS is_open
FROM cohorts
ARRAY JOIN range(0, {periods:UInt32} + 1) AS ahead
WHERE toDateTime64(period_after(cohort, ahead), 3, {tz:String}) < {now:DateTime64(3, 'UTC')}
ORDER BY cohort, ahead
