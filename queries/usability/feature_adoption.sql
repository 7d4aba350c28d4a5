-- title: Feature adoption
-- question: Who tried each feature since it was first declared, how soon, and who came back to it?
-- grain: one row per feature declared
-- param from: only features first declared at or after this | default now - 90d
-- param to: only features first declared before this; uses are counted until now | default now
-- param tz
-- param limit: most rows, the newest feature first | default 100 | range 1..10000
-- column feature: name | name of the feature | exact
-- column service: name | service that declared it first | exact
-- column release: name | release that declared it first | exact
-- column declared_since: time | when it was first declared | exact
-- column active_users: count | people active in the project since then | exact
-- column users: count | those of them who used it | exact
-- column adoption_rate: rate | users / active_users; null: nobody was active | exact
-- column users_again: count | those of them who used it on two days or more | exact
-- column again_rate: rate | users_again / users; null: nobody used it | exact
-- column hours_to_first_use_p50: h | median time from a person's first activity since then to the first use, by nearest
--   rank; null: nobody used it | exact
-- caveats: A renamed feature begins anew under its new name. A feature first declared when recording began was not new
--   then. Who began lately had less time to come back. On the day of the declaration itself a person counts as active
--   from that moment, if anything of theirs came later that day.
-- ctes: links
WITH
    declared AS
    (
        SELECT
            c.name AS feature,
            min(c.time) AS since,
            argMin(c.service, c.time) AS service,
            argMin(c.release, c.time) AS release
        FROM catalog AS c WHERE project = {project:UInt32} AND c.kind = 'feature'
        GROUP BY feature
        HAVING since >= {from:DateTime64(3, 'UTC')} AND since < {to:DateTime64(3, 'UTC')}
    ),
    -- Each person's days, with the first and the last moment of each.
    active AS
    (
        SELECT
            if(l.person != 0, l.person, u.unit) AS person,
            arraySort(groupArray((u.first_time, u.last_time))) AS days
        FROM
        (
            SELECT unit, day, min(time) AS first_time, max(time) AS last_time
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0
                AND time < {now:DateTime64(3, 'UTC')}
                -- Nothing is read where nothing is declared.
                AND day >= (SELECT if(count() = 0, toDate('2149-06-06'), toDate(min(since))) FROM declared)
            GROUP BY unit, day
        ) AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY person
    ),
    used AS
    (
        SELECT
            if(l.person != 0, l.person, u.unit) AS person,
            u.feature AS feature,
            min(u.first_use) AS first_use,
            uniqExactArray(u.days) AS days_used
        FROM
        (
            SELECT e.unit AS unit, e.name AS feature, min(e.time) AS first_use, groupUniqArray(toDate(e.time, {tz:String})) AS days
            FROM
            (
                SELECT unit, name, time
                FROM events WHERE project = {project:UInt32}
                    AND kind IN ('used', 'started') AND unit != 0
                    AND name IN (SELECT feature FROM declared)
                    AND time < {now:DateTime64(3, 'UTC')}
            ) AS e
            INNER JOIN declared AS d ON d.feature = e.name
            WHERE e.time >= d.since
            GROUP BY unit, feature
        ) AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY person, feature
    ),
    reached AS
    (
        SELECT
            person,
            declaration.1 AS feature,
            arrayFirst(day -> day.2 >= declaration.2, days) AS first_day,
            greatest(first_day.1, declaration.2) AS active_since
        FROM active
        ARRAY JOIN (SELECT groupArray((feature, since)) FROM declared) AS declaration
        WHERE days[-1].2 >= declaration.2
    )
SELECT
    d.feature AS feature,
    any(d.service) AS service,
    any(d.release) AS release,
    any(d.since) AS declared_since,
    countIf(r.person != 0) AS active_users,
    countIf(u.person != 0) AS users,
    if(active_users = 0, NULL, round(users / active_users, 6)) AS adoption_rate,
    countIf(u.days_used >= 2) AS users_again,
    if(users = 0, NULL, round(users_again / users, 6)) AS again_rate,
    if(users = 0, NULL, round(
        arraySort(groupArrayIf(dateDiff('millisecond', r.active_since, u.first_use), u.person != 0))[intDiv(users + 1, 2)]
            / 3600000, 3)) AS hours_to_first_use_p50
FROM declared AS d
LEFT JOIN reached AS r ON r.feature = d.feature
LEFT JOIN used AS u ON u.feature = r.feature AND u.person = r.person
GROUP BY feature
ORDER BY declared_since DESC, feature
LIMIT {limit:UInt32}
