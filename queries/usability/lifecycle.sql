-- title: Lifecycle
-- question: Of the people active in each period, who is new, who came back, and how many fell silent?
-- grain: one row per period of the time zone, periods without any use included
-- param from: beginning of the time looked at, inclusive | default now - 56d
-- param to
-- param tz
-- param period: length of a period; weeks begin on Monday | default week | one of day, week, month
-- column period_day: date | first day of the period | exact
-- column active: count | people active in this period: new, returning and resurrected | exact
-- column new: count | people whose first activity ever is in this period | exact
-- column returning: count | people active in this period and in the one before | exact
-- column resurrected: count | people active in this period, not in the one before, and before that | exact
-- column dormant: count | people active in the period before and not in this one | exact
-- column is_open: flag | 1: the period is not over, so the figures can still change | exact
-- caveats: Active means a use, an attempt begun, a funnel step or a named event. The first and the last period are
--   counted as a whole, even where the time looked at begins or ends within them. Before what the project retains
--   everybody is unknown, so the first retained period holds nobody but new people.
-- ctes: links, active_days, periods
WITH
    toDate('1970-01-02') AS active_from,
    toDate({to:DateTime64(3, 'UTC')} + toIntervalMonth(1), {tz:String}) AS active_to,
    -- The time looked at, in whole periods.
    period_of({from:DateTime64(3, 'UTC')}) AS first_period,
    period_of({to:DateTime64(3, 'UTC')} - toIntervalMillisecond(1)) AS last_period,
    -- How many people were active in a period and, before and after it, last and next in others.
    spans AS
    (
        SELECT period_day, last_period_day, next_period_day, count() AS people
        FROM (SELECT arrayDistinct(arrayMap(day -> period_of_day(day), active)) AS active_periods FROM active_days)
        ARRAY JOIN
            active_periods AS period_day,
            arrayPushFront(arrayPopBack(active_periods), toDate('1970-01-01')) AS last_period_day,
            arrayPushBack(arrayPopFront(active_periods), toDate('2149-06-06')) AS next_period_day
        GROUP BY period_day, last_period_day, next_period_day
    ),
    counted AS
    (
        SELECT
            if(is_after, period_after(s.period_day, 1), s.period_day) AS day,
            sumIf(s.people, NOT is_after AND s.last_period_day = '1970-01-01') AS new,
            sumIf(s.people, NOT is_after AND s.last_period_day = period_after(s.period_day, -1)) AS returning,
            sumIf(s.people, NOT is_after) - new - returning AS resurrected,
            sumIf(s.people, is_after AND s.next_period_day != period_after(s.period_day, 1)) AS dormant
        FROM spans AS s
        ARRAY JOIN [false, true] AS is_after
        GROUP BY day
        UNION ALL
        SELECT
            period_after(first_period, arrayJoin(range(toUInt32(periods_between(first_period, last_period)) + 1))) AS day,
            0, 0, 0, 0
    )
SELECT
    day AS period_day,
    new + returning + resurrected AS active,
    sum(c.new) AS new,
    sum(c.returning) AS returning,
    sum(c.resurrected) AS resurrected,
    sum(c.dormant) AS dormant,
    is_open_period(day) AS is_open
FROM counted AS c
WHERE day >= first_period AND day <= last_period
GROUP BY day
ORDER BY day
