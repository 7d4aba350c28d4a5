-- Which release came after which.
    -- Releases by service in the order they were first seen: declared, or measured in the time looked at.
    releases AS
    (
        SELECT service, release, min(time) AS first_seen
        FROM
        (
            SELECT service, release, min(c.time) AS time
            FROM catalog AS c WHERE project = {project:UInt32} AND c.time < {to:DateTime64(3, 'UTC')}
            GROUP BY service, release
            UNION ALL
            SELECT service, release, min(h.time) AS time
            FROM query_histograms AS h WHERE project = {project:UInt32}
                AND h.day >= toDate({from:DateTime64(3, 'UTC')}) AND h.day <= toDate({to:DateTime64(3, 'UTC')})
                AND h.time >= {from:DateTime64(3, 'UTC')} AND h.time < {to:DateTime64(3, 'UTC')}
            GROUP BY service, release
            UNION ALL
            SELECT service, release, min(q.time) AS time
            FROM query_samples AS q WHERE project = {project:UInt32}
                AND q.day >= toDate({from:DateTime64(3, 'UTC')}) AND q.day <= toDate({to:DateTime64(3, 'UTC')})
                AND q.time >= {from:DateTime64(3, 'UTC')} AND q.time < {to:DateTime64(3, 'UTC')}
            GROUP BY service, release
        )
        GROUP BY service, release
    )
