-- Who did something when, ends of attempts left out: `moment`, `unit`, `session`, and how often (`uses`). Moments are quarters of an
-- hour as a rule, which the days of every time zone are made of; whoever reads it names the time looked at by the aliases
-- `since` (inclusive) and `until`, and by `apart`, a list of three, the instants that are within no quarter of an hour: in those that
-- hold one of them moments are exact.
    used AS
    (
        SELECT moment, unit, session, uses
        FROM presence WHERE project = {project:UInt32}
            AND moment >= since AND moment < until
            AND toStartOfFifteenMinutes(moment) NOT IN (
                toStartOfFifteenMinutes(apart[1]), toStartOfFifteenMinutes(apart[2]), toStartOfFifteenMinutes(apart[3]))
        UNION ALL
        SELECT time AS moment, unit, session, toUInt64(1) AS uses
        FROM events WHERE project = {project:UInt32}
            AND kind != 'ended'
            AND time >= since AND time < until
            -- One after the other, so that the sorting key finds them.
            AND (time >= toStartOfFifteenMinutes(apart[1])
                    AND time < toStartOfFifteenMinutes(apart[1]) + toIntervalMinute(15)
                OR time >= toStartOfFifteenMinutes(apart[2])
                    AND time < toStartOfFifteenMinutes(apart[2]) + toIntervalMinute(15)
                OR time >= toStartOfFifteenMinutes(apart[3])
                    AND time < toStartOfFifteenMinutes(apart[3]) + toIntervalMinute(15))
    )
