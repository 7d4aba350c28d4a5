-- Who did something when, ends of attempts left out: `moment`, `unit`, `session`, and how often (`uses`). Moments are quarters of an
-- hour as a rule, which the days of every time zone are made of; whoever reads it names the time looked at by the aliases
-- `used_from` (inclusive) and `used_until`, and by `used_apart`, a list of three, the instants that are within no quarter of an hour: in
-- those that hold one of them moments are exact.
    -- Nothing is stored for later than that, and ClickHouse counts quarters of an hour to 2106 only.
    (instant) -> toStartOfFifteenMinutes(least(instant, toDateTime64('2106-01-01', 3, 'UTC'))) AS quarter_of,
    quarter_of(used_apart[1]) AS used_quarter_1,
    quarter_of(used_apart[2]) AS used_quarter_2,
    quarter_of(used_apart[3]) AS used_quarter_3,
    used AS
    (
        SELECT moment, unit, session, uses
        FROM unit_presence WHERE project = {project:UInt32}
            AND moment >= used_from AND moment < used_until
            AND toStartOfFifteenMinutes(moment) NOT IN (used_quarter_1, used_quarter_2, used_quarter_3)
        UNION ALL
        SELECT time AS moment, unit, session, toUInt64(1) AS uses
        FROM events WHERE project = {project:UInt32}
            AND kind != 'ended'
            AND time >= used_from AND time < used_until
            -- One after the other, so that the sorting key finds them.
            AND (time >= used_quarter_1 AND time < used_quarter_1 + toIntervalMinute(15)
                OR time >= used_quarter_2 AND time < used_quarter_2 + toIntervalMinute(15)
                OR time >= used_quarter_3 AND time < used_quarter_3 + toIntervalMinute(15))
    )
