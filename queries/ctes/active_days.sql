-- The days of the time zone on which each person did something. Whoever reads it names the days looked at by
-- the aliases `active_from` and `active_to`, both inclusive.
    -- A day of a time zone lies within the three days of UTC around it.
    toDateTime64(active_from - 1, 3, 'UTC') AS used_from,
    least({now:DateTime64(3, 'UTC')}, toDateTime64(active_to + 2, 3, 'UTC')) AS used_until,
    [used_from, used_until, used_until] AS used_apart,
    -- Days are counted from the first that can be met, so that most questions need one number a person.
    toInt32(toUInt16(active_from)) - 2 AS active_day_0,
    active_days AS
    (
        SELECT arraySort(arrayDistinct(arrayFlatten(arrayMap(
            (block, bits) -> arrayMap(bit -> toDate(active_day_0 + block * 128 + bit), bitPositionsToArray(bits)),
            groupArray(u.block),
            groupArray(u.bits))))) AS active
        FROM
        (
            -- 128 days in a number take less memory than a set of days.
            SELECT unit, intDiv(number, 128) AS block, groupBitOr(bitShiftLeft(toUInt128(1), number % 128)) AS bits
            FROM (SELECT unit, toInt32(toUInt16(toDate(moment, {tz:String}))) - active_day_0 AS number FROM used WHERE unit != 0)
            GROUP BY unit, block
        ) AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY if(l.person != 0, l.person, u.unit)
    )
