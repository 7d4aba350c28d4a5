-- title: Retention
-- question: Of the people who began in a period, how many come back in the periods after?
-- grain: one row per cohort and number of periods later, 0 being the cohort's own
-- param from: beginning of the first cohort, inclusive | default now - 56d
-- param to: end of the last cohort, exclusive; returns are looked for until now | default now
-- param tz
-- param period: length of a period; weeks begin on Monday | default week | one of day, week, month
-- param start: name of the event that begins, empty for any | default "" | at most 256 bytes
-- param returns: names of the events that are a return, separated by commas, or as a JSON list; empty for any | default "" | at most 4000 bytes
-- param cohort_by: which start puts a person into a cohort | default first_ever | one of first_ever, first_in_range,
--   recurring
-- param mode: what counts as a return for a period | default on | one of on, on_or_after
-- param periods: most periods to look ahead | default 8 | range 1..60
-- column cohort: date | first day of the period in which they began | exact
-- column period: count | periods later | exact
-- column users: count | people in the cohort | exact
-- column returned: count | those of them who came back in that period, or then or later | exact
-- column rate: rate | returned / users | exact
-- column is_open: flag | 1: the period is not over, so the figure can still grow | exact
-- caveats: A return is another event than the start, in its period or a later one; in the start's own period it may lie
--   before it. Where several events come first at once, without an order between them, the start is the one that is a
--   return, if there is one. With recurring a person is in the cohort of each period with a start.
-- ctes: links, used, periods
WITH
    if(startsWith({returns:String}, '['),
        JSONExtract({returns:String}, 'Array(String)'),
        arrayFilter(name -> name != '', arrayMap(name -> trim(name), splitByChar(',', {returns:String})))) AS return_names,
    -- Whether some starts are returns and some are not: only then it matters which of them was the first.
    {start:String} = '' AND notEmpty(return_names) AS is_mixed,
    -- Whether all that people did is a start and a return: then it is enough to know who was there.
    {start:String} = '' AND empty(return_names) AS is_any,
    if({cohort_by:String} = 'first_ever', toDateTime64('1970-01-01', 3, 'UTC'), {from:DateTime64(3, 'UTC')}) AS used_from,
    {now:DateTime64(3, 'UTC')} AS used_until,
    [{from:DateTime64(3, 'UTC')}, {to:DateTime64(3, 'UTC')}, used_until] AS used_apart,
    -- As many periods share a number, three bits each; the first of them is that of `from`. Where every period with a start makes
    -- a cohort, each is looked at by itself.
    if({cohort_by:String} = 'recurring', 1, 21) AS width,
    width - number_of_period(toDate({from:DateTime64(3, 'UTC')}, {tz:String})) % width AS shift,
    -- What each unit did: the periods with a start, those with a start that is a return, those with another return.
    by_unit AS
    (
        SELECT
            unit,
            intDiv(number, width) AS block,
            groupBitOr(bits) AS did,
            -- Of the starts that are returns, in the first period with one: the least number of a row, and the least counted
            -- downwards. They tell whether there are two.
            min(if(is_both, bitShiftLeft(number, 48) + row, 18446744073709551615)) AS first_row,
            min(if(is_both, bitShiftLeft(number, 48) + bitXor(last, 281474976710655), 18446744073709551615)) AS last_row,
            minIf(ordered, is_mixed AND is_start) AS began
        FROM
        (
            SELECT
                unit,
                toUInt64(number_of_period(toDate(moment, {tz:String})) + shift) AS number,
                -- A row that stands for several has two numbers.
                2 * toUInt64(rowNumberInAllBlocks()) AS row,
                row + (uses > 1) AS last,
                ({start:String} = '' OR name = {start:String}) AND moment < {to:DateTime64(3, 'UTC')} AS is_start,
                empty(return_names) OR has(return_names, name) AS is_return,
                is_start AND is_return AS is_both,
                bitShiftLeft(
                    toUInt64(is_start) + bitShiftLeft(toUInt64(is_both), 21)
                        + bitShiftLeft(toUInt64(is_return AND NOT is_start), 42),
                    number % width)
                    -- Who began before `from` is in no cohort.
                    + bitShiftLeft(toUInt64(is_start AND moment < {from:DateTime64(3, 'UTC')}), 63) AS bits,
                -- One number: milliseconds since 1900, the sequence number, and a last bit that is 0 for a return. So the least
                -- of them is the start.
                if(is_mixed,
                    bitShiftLeft(toUInt128(toUnixTimestamp64Milli(moment) + 2208988800001), 65)
                        + bitShiftLeft(toUInt128(seq), 1) + NOT is_return,
                    toUInt128(0)) AS ordered
            FROM
            (
                SELECT unit, moment, CAST('', 'LowCardinality(String)') AS name, toUInt64(0) AS seq, uses
                FROM used
                WHERE is_any AND unit != 0
                UNION ALL
                SELECT unit, time AS moment, name, seq, toUInt64(1) AS uses
                FROM events WHERE project = {project:UInt32}
                    AND NOT is_any
                    AND kind != 'ended' AND unit != 0
                    AND ({start:String} = '' OR empty(return_names) OR has(arrayPushBack(return_names, {start:String}), name))
                    AND time >= used_from AND time < used_until
            )
        )
        GROUP BY unit, block
    ),
    by_person AS
    (
        SELECT
            if(l.person != 0, l.person, u.unit) AS person,
            u.block AS block,
            groupBitOr(u.did) AS did,
            min(u.first_row) AS first_row,
            min(u.last_row) AS last_row,
            minIf(u.began, u.began != 0) AS began
        FROM by_unit AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY person, block
    ),
    -- The same as one number, by which people who did the same are counted together: block, whether they began before `from`, whether
    -- they came back in the period they began in, periods with a start, periods with a return.
    told AS
    (
        SELECT
            person,
            bitAnd(did, 2097151) AS starts,
            bitAnd(bitShiftRight(did, 21), 2097151) AS both,
            bitAnd(bitShiftRight(did, 42), 2097151) AS others,
            -- The lowest bit.
            bitAnd(starts, bitNot(starts) + 1) AS own,
            -- The start itself is no return.
            if(if(is_mixed, bitAnd(began, 1) = 0, bitAnd(both, own) != 0),
                bitAnd(others, own) != 0
                    OR bitAnd(first_row, 281474976710655) + bitAnd(last_row, 281474976710655) != 281474976710655,
                bitAnd(bitOr(both, others), own) != 0) AS is_back_at_once,
            bitShiftLeft(toUInt64(block), 44) + bitShiftLeft(toUInt64(bitTest(did, 63)), 43)
                + bitShiftLeft(toUInt64(is_back_at_once), 42) + bitShiftLeft(starts, 21) + bitOr(both, others) AS block_told
        FROM by_person
    ),
    patterns AS
    (
        SELECT told, count() AS people
        FROM (SELECT arraySort(groupArray(block_told)) AS told FROM told GROUP BY person)
        GROUP BY told
    ),
    -- Numbers of the periods whose bits begin at this one.
    (told, first_bit) -> arrayFlatten(arrayMap(
        one -> arrayMap(
            bit -> toInt64(bitShiftRight(one, 44) * width + bit - shift),
            bitPositionsToArray(bitAnd(bitShiftRight(one, first_bit), 2097151))),
        told)) AS periods_told,
    -- One row for each cohort that people are in, with how many periods later they came back.
    members AS
    (
        SELECT
            cohort_number,
            people,
            arrayMap(number -> number - cohort_number, arrayFilter(
                number -> number > cohort_number OR number = cohort_number
                    AND arrayExists(
                        one -> bitTest(one, 42) AND bitShiftRight(one, 44) = intDiv(cohort_number + shift, width),
                        told),
                periods_told(told, 0))) AS back
        FROM patterns
        ARRAY JOIN arraySlice(
            periods_told(told, 21), 1, if({cohort_by:String} = 'recurring', 65535, 1)) AS cohort_number
        WHERE NOT arrayExists(one -> bitTest(one, 43), told)
    ),
    -- How many people of a cohort came back so many periods later, or came back then last; -1 stands for all of them.
    counted AS
    (
        SELECT cohort_number, back_after, sum(m.people) AS people
        FROM members AS m
        ARRAY JOIN arrayPushFront(
            if({mode:String} = 'on' OR empty(back), back, [arrayMax(back)]),
            -1) AS back_after
        GROUP BY cohort_number, back_after
    ),
    cohorts AS
    (
        SELECT
            period_numbered(cohort_number) AS cohort,
            sumIf(c.people, back_after = -1) AS users,
            groupArray((back_after, c.people)) AS back
        FROM counted AS c
        GROUP BY cohort_number
    )
SELECT
    cohort,
    toUInt32(ahead) AS period,
    users,
    arraySum(arrayMap(
        one -> if(if({mode:String} = 'on', one.1 = ahead, one.1 >= ahead), one.2, 0),
        back)) AS returned,
    round(returned / users, 6) AS rate,
    is_open_period(period_after(cohort, ahead)) AS is_open
FROM cohorts
ARRAY JOIN range(0, {periods:UInt32} + 1) AS ahead
WHERE toDateTime64(period_after(cohort, ahead), 3, {tz:String}) < {now:DateTime64(3, 'UTC')}
ORDER BY cohort, ahead
