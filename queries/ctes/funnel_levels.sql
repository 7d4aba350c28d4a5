-- How far each person came in each declared funnel; needs links.
    -- The steps of each funnel as its service's latest release declares them, in order.
    steps AS
    (
        SELECT
            name, funnel, position,
            row_number() OVER (PARTITION BY funnel ORDER BY position, name) AS place,
            count() OVER (PARTITION BY funnel) AS steps
        FROM
        (
            SELECT
                name, argMax(d.funnel, d.time) AS funnel, argMax(d.position, d.time) AS position
            FROM catalog AS d WHERE project = {project:UInt32}
                AND d.kind = 'step'
                AND (d.service, d.release) IN
                (
                    SELECT service, argMax(release, seen)
                    FROM
                    (
                        SELECT service, release, min(c.time) AS seen
                        FROM catalog AS c WHERE project = {project:UInt32} AND c.time < {to:DateTime64(3, 'UTC')}
                        GROUP BY service, release
                    )
                    GROUP BY service
                )
            GROUP BY name
        )
    ),
    -- How far each person came: the longest chain of steps in order within the window, entered in the time looked at.
    levels AS
    (
        SELECT
            s.funnel AS funnel,
            if(l.person != 0, l.person, e.unit) AS person,
            any(s.steps) AS steps,
            windowFunnel(86400000)(
                at_ms,
                s.place = 1 AND e.time < {to:DateTime64(3, 'UTC')},
                s.place = 2, s.place = 3, s.place = 4, s.place = 5, s.place = 6, s.place = 7,
                s.place = 8, s.place = 9, s.place = 10, s.place = 11, s.place = 12, s.place = 13,
                s.place = 14, s.place = 15, s.place = 16, s.place = 17, s.place = 18, s.place = 19,
                s.place = 20, s.place = 21, s.place = 22, s.place = 23, s.place = 24, s.place = 25,
                s.place = 26, s.place = 27, s.place = 28, s.place = 29, s.place = 30, s.place = 31,
                s.place = 32) AS level,
            maxIf(e.time, s.place = 1 AND e.time < {to:DateTime64(3, 'UTC')}) AS last_entry,
            -- Nobody is lost while a try can still go on.
            level < steps AND last_entry + toIntervalDay(1) >= {now:DateTime64(3, 'UTC')} AS is_open,
            groupArray((s.place, e.time)) AS visits
        FROM
        (
            SELECT name, unit, time, toUInt64(toUnixTimestamp64Milli(time)) AS at_ms
            FROM events WHERE project = {project:UInt32}
                AND kind = 'step' AND unit != 0
                AND name IN (SELECT name FROM steps)
                AND day >= toDate({from:DateTime64(3, 'UTC')})
                AND day <= toDate({to:DateTime64(3, 'UTC')} + toIntervalDay(1))
                AND time >= {from:DateTime64(3, 'UTC')} AND time <= {to:DateTime64(3, 'UTC')} + toIntervalDay(1)
        ) AS e
        INNER JOIN steps AS s ON s.name = e.name
        LEFT JOIN links AS l ON l.anonymous = e.unit
        GROUP BY funnel, person
        HAVING level > 0
    )
