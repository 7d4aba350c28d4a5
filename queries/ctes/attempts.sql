-- Attempts begun in the time looked at, by the parameter release (empty for all), and what became of each.
    -- One row per attempt. An end whose beginning never arrived tells when it began by its duration; one second of
    -- slack, since the duration is finer than the time of the row.
    attempts AS
    (
        SELECT
            e.name AS name,
            e.attempt AS attempt,
            argMin(e.unit, (e.kind, e.time)) AS unit,
            if(countIf(e.kind = 'started') > 0,
                minIf(e.time, e.kind = 'started'),
                min(e.time - toIntervalMillisecond(intDiv(e.duration_ns, 1000000)))) AS begun_at,
            countIf(e.kind = 'ended') > 0 AS has_end,
            argMinIf(e.outcome, e.time, e.kind = 'ended') AS outcome,
            argMinIf(e.outcome_reason, e.time, e.kind = 'ended') AS reason,
            argMinIf(e.duration_ns, e.time, e.kind = 'ended') AS duration_ns,
            argMinIf(e.error_type, e.time, e.kind = 'ended') AS error
        FROM events AS e WHERE project = {project:UInt32}
            AND e.kind IN ('started', 'ended')
            AND ({release:String} = '' OR e.release = {release:String})
            AND e.day >= toDate({from:DateTime64(3, 'UTC')} - toIntervalSecond(1))
            AND e.time >= {from:DateTime64(3, 'UTC')} - toIntervalSecond(1)
            AND (e.kind = 'ended' OR e.time < {to:DateTime64(3, 'UTC')})
        -- An end without the identity of its attempt is an attempt of its own.
        GROUP BY name, attempt, if(e.attempt = 0, cityHash64(e.batch, e.time, e.seq, e.unit), 0)
        HAVING begun_at >= {from:DateTime64(3, 'UTC')} AND begun_at < {to:DateTime64(3, 'UTC')}
    )
