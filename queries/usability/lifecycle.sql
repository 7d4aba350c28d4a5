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
-- ctes: links, periods
WITH
    people AS
    (
        SELECT
            person,
            arraySort(arrayDistinct(arrayFlatten(groupArray(periods)))) AS active
        FROM
        (
            SELECT
                if(l.person != 0, l.person, u.unit) AS person,
                u.periods AS periods
            FROM
            (
                SELECT
                    unit,
                    groupUniqArray(period_of(time)) AS periods
                FROM events WHERE project = {project:UInt32}
                    AND kind != 'ended' AND unit != 0
                    AND time < least({to:DateTime64(3, 'UTC')} + toIntervalMonth(1), {now:DateTime64(3, 'UTC')})
                GROUP BY unit
            ) AS u
            LEFT JOIN links AS l ON l.anonymous = u.unit
        )
        GROUP BY person
    ),
    -- The time looked at, in whole periods.
    period_of({from:DateTime64(3, 'UTC')}) AS first_period,
    period_of({to:DateTime64(3, 'UTC')} - toIntervalMillisecond(1)) AS last_period,
    moves AS
    (
        SELECT
            arrayJoin(arrayConcat(
                arrayMap(
                    (day, place) -> (day, multiIf(
                        place = 1, 'new',
                        active[place - 1] = period_after(day, -1), 'returning',
                        'resurrected')),
                    active, arrayEnumerate(active)),
                arrayMap(
                    day -> (period_after(day, 1), 'dormant'),
                    arrayFilter(day -> NOT has(active, period_after(day, 1)), active)))) AS move
        FROM people
    ),
    counted AS
    (
        SELECT
            move.1 AS day,
            countIf(move.2 = 'new') AS new,
            countIf(move.2 = 'returning') AS returning,
            countIf(move.2 = 'resurrected') AS resurrected,
            countIf(move.2 = 'dormant') AS dormant
        FROM moves
        WHERE day >= first_period AND day <= last_period
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
GROUP BY day
ORDER BY day
