-- title: Active users
-- question: How many people use the product each day?
-- grain: one row per day of the time zone, days without any use included
-- param from: beginning of the time looked at, inclusive | default now - 30d
-- param to
-- param tz
-- column day: date | day in the time zone | exact
-- column users: count | people who did something that day; an anonymous session counts as a person until it is linked
--   to one | exact
-- column sessions: count | sessions with something done that day | exact
-- column events: count | uses, attempts begun, funnel steps and named events | exact
-- column events_without_user: count | those of them that carry neither user nor session | exact
-- caveats: The first and the last day hold only what lies in the time looked at.
-- ctes: links, used
WITH
    {from:DateTime64(3, 'UTC')} AS used_from,
    {to:DateTime64(3, 'UTC')} AS used_until,
    [used_from, used_until, used_until] AS used_apart
SELECT
    toDate(d.moment, {tz:String}) AS day,
    uniqExactIf(if(l.person != 0, l.person, d.unit), d.unit != 0) AS users,
    uniqExactIf(d.session, d.session != 0) AS sessions,
    sum(d.uses) AS events,
    sumIf(d.uses, d.unit = 0) AS events_without_user
FROM used AS d
LEFT JOIN links AS l ON l.anonymous = d.unit
GROUP BY day
ORDER BY day WITH FILL
    FROM toDate({from:DateTime64(3, 'UTC')}, {tz:String})
    TO toDate({to:DateTime64(3, 'UTC')} - toIntervalMillisecond(1), {tz:String}) + 1
