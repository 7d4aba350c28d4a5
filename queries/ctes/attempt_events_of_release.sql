-- Beginnings and ends of attempts that may have begun in the time looked at, by the parameter release (empty for all).
    -- One second of slack, since the duration of an end is finer than the time of its row.
    attempt_events AS
    (
        SELECT name, attempt, unit, kind, time, seq, batch, outcome, outcome_reason, duration_ns, error_type
        -- By this name a condition on attributes is asked of the attempt, of which only one row knows them.
        FROM events AS attempt_rows WHERE project = {project:UInt32}
            AND kind IN ('started', 'ended')
            AND ({release:String} = '' OR release = {release:String})
            AND day >= toDate({from:DateTime64(3, 'UTC')} - toIntervalSecond(1))
            AND time >= {from:DateTime64(3, 'UTC')} - toIntervalSecond(1)
            AND (kind = 'ended' OR time < {to:DateTime64(3, 'UTC')})
    )
