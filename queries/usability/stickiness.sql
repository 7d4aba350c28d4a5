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
-- ctes: links, active_days
WITH
    toDate({from:DateTime64(3, 'UTC')}, {tz:String}) AS first_day,
    toDate({to:DateTime64(3, 'UTC')} - toIntervalMillisecond(1), {tz:String}) AS last_day,
    -- Days are counted from 1970.
    toDate(greatest(toInt32(toUInt16(first_day)) - 29, 1)) AS active_from,
    last_day AS active_to,
    -- How many people were active on a day and next on another: all that follows needs no more than this.
    spans AS
    (
        SELECT day, next_day, count() AS people
        FROM active_days
        ARRAY JOIN active AS day, arrayPushBack(arrayPopFront(active), toDate('2149-06-06')) AS next_day
        GROUP BY day, next_day
    ),
    -- Each day within as many days after an active one, once a person: up to the next active one.
    counted AS
    (
        SELECT arrayJoin(range(toUInt32(last_day - first_day) + 1)) + first_day AS day, 0 AS width, 0 AS people
        UNION ALL
        SELECT
            arrayJoin(arrayMap(n -> s.day + n, range(least(widths, toUInt16(s.next_day - s.day))))) AS day,
            widths AS width,
            s.people AS people
        FROM spans AS s
        ARRAY JOIN [1, 7, 30] AS widths
    )
SELECT
    day,
    sumIf(people, width = 1) AS daily_users,
    sumIf(people, width = 7) AS weekly_users,
    sumIf(people, width = 30) AS monthly_users,
    if(monthly_users = 0, NULL, round(daily_users / monthly_users, 6)) AS stickiness
FROM counted
WHERE day >= first_day AND day <= last_day
GROUP BY day
ORDER BY day
