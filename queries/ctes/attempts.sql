-- Attempts begun in the time looked at and what became of each; needs attempt_events or attempt_events_of_release.
    -- One row per attempt. An end whose beginning never arrived tells when it began by its duration.
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
        FROM attempt_events AS e
        -- An end without the identity of its attempt is an attempt of its own.
        GROUP BY name, attempt, if(e.attempt = 0, cityHash64(e.batch, e.time, e.seq, e.unit), 0)
        HAVING begun_at >= {from:DateTime64(3, 'UTC')} AND begun_at < {to:DateTime64(3, 'UTC')}
    )
