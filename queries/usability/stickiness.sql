-- title: Stickiness
-- question: How many people are active in a day, a week and a month, and how regularly do they come?
-- grain: one row per day of the time zone, days without any use included
-- param from: beginning of the time looked at, inclusive | default now - 30d
-- param to
-- param tz
-- column day: date | day in the time zone | exact
-- column daily_users: count | people active that day | exact
-- column weekly_users: count | people active that day or in the 6 days before | exact
-- column monthly_users: count | people active that day or in the 29 days before | exact
-- column stickiness: rate | daily_users / monthly_users; null: nobody in a month | exact
-- caveats: Active means a use, an attempt begun, a funnel step or a named event. The first and the last day are counted as
--   a whole, even where the time looked at begins or ends within them.
-- ctes: links
WITH
    toDate({from:DateTime64(3, 'UTC')}, {tz:String}) AS first_day,
    toDate({to:DateTime64(3, 'UTC')} - toIntervalMillisecond(1), {tz:String}) AS last_day,
    people AS
    (
        SELECT arrayDistinct(arrayFlatten(groupArray(u.days))) AS active
        FROM
        (
            SELECT unit, groupUniqArray(toDate(time, {tz:String})) AS days
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0
                -- A day of a time zone lies within the three days of UTC around it.
                AND day >= first_day - 30 AND day <= last_day + 1
                AND time < {now:DateTime64(3, 'UTC')}
            GROUP BY unit
        ) AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY if(l.person != 0, l.person, u.unit)
    ),
    -- Each day within as many days after an active one, once a person.
    counted AS
    (
        SELECT arrayJoin(range(toUInt32(last_day - first_day) + 1)) + first_day AS day, 0 AS width
        UNION ALL
        SELECT
            arrayJoin(arrayDistinct(arrayFlatten(arrayMap(
                active_day -> arrayMap(n -> active_day + n, range(widths)), active)))) AS day,
            widths AS width
        FROM people
        ARRAY JOIN [1, 7, 30] AS widths
    )
SELECT
    day,
    countIf(width = 1) AS daily_users,
    countIf(width = 7) AS weekly_users,
    countIf(width = 30) AS monthly_users,
    if(monthly_users = 0, NULL, round(daily_users / monthly_users, 6)) AS stickiness
FROM counted
WHERE day >= first_day AND day <= last_day
GROUP BY day
ORDER BY day
