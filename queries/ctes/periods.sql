-- Days, Monday weeks or months of the time zone, by the parameter period; a period is named by its first day.
    (day) -> multiIf(
        {period:String} = 'day', day,
        {period:String} = 'week', toMonday(day),
        toStartOfMonth(day)) AS period_of_day,
    (moment) -> period_of_day(toDate(moment, {tz:String})) AS period_of,
    (day, n) -> multiIf(
        {period:String} = 'day', day + toIntervalDay(n),
        {period:String} = 'week', day + toIntervalWeek(n),
        day + toIntervalMonth(n)) AS period_after,
    -- How many periods lie between the first days of two.
    (day, later) -> toInt64(multiIf(
        {period:String} = 'day', later - day,
        {period:String} = 'week', intDiv(later - day, 7),
        dateDiff('month', day, later))) AS periods_between,
    -- Periods are counted from the one that holds 1970-01-01.
    (day) -> toUInt32(multiIf(
        {period:String} = 'day', toUInt16(day),
        {period:String} = 'week', intDiv(toUInt16(day) + 3, 7),
        toYear(day) * 12 + toMonth(day) - 23641)) AS number_of_period,
    -- The first day of the one of this number.
    (number) -> multiIf(
        {period:String} = 'day', toDate('1970-01-01') + toIntervalDay(number),
        {period:String} = 'week', toDate('1970-01-01') + toIntervalDay(greatest(number * 7, 3) - 3),
        toDate('1970-01-01') + toIntervalMonth(number)) AS period_numbered,
    (day) -> toUInt8(toDateTime64(period_after(day, 1), 3, {tz:String}) > {now:DateTime64(3, 'UTC')}) AS is_open_period
