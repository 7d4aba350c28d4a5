-- The days of the time zone on which each person did something; needs links. Whoever reads it names the days looked at by
-- the aliases `active_from` and `active_to`, both inclusive.
    active_days AS
    (
        SELECT arraySort(arrayDistinct(arrayFlatten(groupArray(
            arrayMap(bit -> toDate(u.block * 64 + bit), bitPositionsToArray(u.bits)))))) AS active
        FROM
        (
            -- 64 days in a number take less memory than a set of days.
            SELECT
                unit,
                intDiv(toUInt16(toDate(time, {tz:String})), 64) AS block,
                groupBitOr(bitShiftLeft(toUInt64(1), toUInt16(toDate(time, {tz:String})) % 64)) AS bits
            FROM events WHERE project = {project:UInt32}
                AND kind != 'ended' AND unit != 0
                -- A day of a time zone lies within the three days of UTC around it.
                AND day >= active_from - 1 AND day <= active_to + 1
                AND time < {now:DateTime64(3, 'UTC')}
            GROUP BY unit, block
        ) AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY if(l.person != 0, l.person, u.unit)
    )
