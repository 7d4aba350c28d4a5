-- title: Usability targets
-- question: Which features and funnel steps are worth making easier, because most people would be kept?
-- grain: one row per feature or funnel step that is worth it; none when nothing stands out
-- param from
-- param to
-- param min_users: least people who must have begun | default 20 | range 1..1000000
-- param min_unfinished: least people who did not finish | default 5 | range 1..1000000
-- param min_excess: least share by which it must surely be worse than comparable ones | default 0.05 | range 0..1
-- param limit: most rows, the most worthwhile first | default 20 | range 1..1000
-- column kind: name | feature or step | exact
-- column name: name | name of the feature, or FUNNEL.STEP that was reached and not passed | exact
-- column next_step: name | the step they did not reach; empty for a feature | exact
-- column score: people per week | people who would be kept each week, see caveats | exact
-- column users: count | people who began the feature or reached the step; attempts of nobody count one each | exact
-- column users_per_week: people per week | the same per week | exact
-- column users_unfinished: count | those of them with an unfinished attempt, or lost at the step | exact
-- column begun: count | attempts, or people at a step, whose end is known | exact
-- column unfinished: count | those of them that did not finish, or did not reach the next step | exact
-- column unfinished_rate: rate | unfinished / begun | exact
-- column comparable_rate: rate | median of that rate over the comparable ones | exact
-- column excess_low: rate | the difference is not below this with 95 % confidence over all candidates together |
--   exact
-- column compared_with: count | how many it was compared with | exact
-- column failed: count | attempts that ended with an error | exact
-- column abandoned: count | attempts given up; at a step the people lost | exact
-- column cancelled: count | attempts dropped before the end, without shutdowns | exact
-- column panicked: count | attempts ended by a panic | exact
-- column expired: count | attempts without an end after 30 minutes | exact
-- column top_error: name | most frequent type of error | exact
-- column time_to_give_up_ms_p50: ms | median time from beginning to an end that was not completed, by nearest rank |
--   exact
-- caveats: Score = excess_low x users_per_week. The rate of a feature is over attempts and its uncertainty over
--   people, since one person's attempts are alike; the rate of a step is over people, within one day of the entry, and
--   steps done in one millisecond count in the funnel's order, whatever their own.
--   Comparable to what waits for a person (a funnel step; a feature half of whose attempts take 2 s or more) is what
--   does so too, to what does not, the same: a page that is shown cannot be given up. Of these the other features, or
--   the other steps; with fewer than three of a kind both; with fewer than three of both everything, and nothing is
--   named with fewer than three in all. To be named, excess_low must reach min_excess and twice the
--   spread (1.48 x the median absolute deviation) of the comparable rates.
-- ctes: links, attempt_events, attempts, funnel_levels, normal
WITH
    (toFloat64({to:DateTime64(3, 'UTC')}) - toFloat64({from:DateTime64(3, 'UTC')})) / 604800 AS weeks,
    -- Attempts whose end is known. Neither finished nor unfinished: still open, stopped with its process, or dropped at
    -- once by a fault in the application's code.
    known AS
    (
        SELECT name, attempt, unit, has_end, toString(t.outcome) AS outcome, duration_ns, error
        FROM attempts AS t
        WHERE (has_end OR begun_at < {now:DateTime64(3, 'UTC')} - toIntervalMinute(30))
            AND NOT is_nobodys
    ),
    by_unit AS
    (
        SELECT
            name, unit, if(unit = 0, attempt, 0) AS nobody,
            count() AS begun,
            countIf(has_end AND outcome = 'completed') AS completed,
            countIf(outcome = 'failed') AS failed,
            countIf(outcome = 'abandoned') AS abandoned,
            countIf(outcome = 'cancelled') AS cancelled,
            countIf(outcome = 'panicked') AS panicked,
            countIf(NOT has_end) AS expired,
            countIf(has_end) AS ends,
            countIf(has_end AND a.duration_ns >= 2000000000) AS long_ends,
            groupArrayIf(error, error != '') AS errors,
            groupArrayIf(a.duration_ns, has_end AND outcome != 'completed') AS durations_ns
        FROM known AS a
        GROUP BY name, unit, nobody
    ),
    by_person AS
    (
        SELECT
            u.name AS name,
            if(l.person != 0, l.person, u.unit) AS person, u.nobody AS nobody,
            sum(u.begun) AS begun,
            toUInt64(begun - sum(u.completed)) AS unfinished,
            sum(u.failed) AS failed, sum(u.abandoned) AS abandoned, sum(u.cancelled) AS cancelled,
            sum(u.panicked) AS panicked, sum(u.expired) AS expired,
            sum(u.ends) AS ends, sum(u.long_ends) AS long_ends,
            groupArrayArray(u.errors) AS errors,
            groupArrayArray(u.durations_ns) AS durations_ns
        FROM by_unit AS u
        LEFT JOIN links AS l ON l.anonymous = u.unit
        GROUP BY name, person, nobody
    ),
    candidates AS
    (
        SELECT
            'feature' AS kind, toString(f.name) AS name, '' AS next_step,
            -- A request ends within moments; what takes longer, or never ends, waits for a person.
            2 * sum(f.long_ends) >= sum(f.ends) AS waits_for_person,
            count() AS users,
            countIf(f.unfinished > 0) AS users_unfinished,
            sum(f.begun) AS begun,
            sum(f.unfinished) AS unfinished,
            unfinished / begun AS rate,
            -- Attempts count for as many as they would if all were of different people (ratio estimator).
            sum(pow(f.unfinished, 2)) - 2 * rate * sum(f.unfinished * f.begun) + rate * rate * sum(pow(f.begun, 2))
                AS clustered,
            begun / greatest(1, if(rate > 0 AND rate < 1, clustered / (begun * rate * (1 - rate)), begun / users))
                AS independent,
            sum(f.failed) AS failed, sum(f.abandoned) AS abandoned, sum(f.cancelled) AS cancelled,
            sum(f.panicked) AS panicked, sum(f.expired) AS expired,
            groupArrayArray(f.errors) AS errors,
            groupArrayArray(f.durations_ns) AS durations_ns
        FROM by_person AS f
        GROUP BY name
        UNION ALL
        SELECT
            'step' AS kind, s.name AS name, s.next_step AS next_step,
            1 AS waits_for_person,
            countIf(v.level >= s.place) AS users,
            countIf(v.level = s.place AND NOT v.is_open) AS users_unfinished,
            countIf(v.level >= s.place AND NOT (v.level = s.place AND v.is_open)) AS begun,
            countIf(v.level = s.place AND NOT v.is_open) AS unfinished,
            unfinished / begun AS rate,
            0 AS clustered,
            toFloat64(begun) AS independent,
            0 AS failed, unfinished AS abandoned, 0 AS cancelled, 0 AS panicked, 0 AS expired,
            [] AS errors,
            [] AS durations_ns
        FROM
        (
            SELECT funnel, toString(name) AS name, place, steps,
                toString(any(name) OVER (PARTITION BY funnel ORDER BY place ROWS BETWEEN 1 FOLLOWING AND 1 FOLLOWING))
                    AS next_step
            FROM steps
        ) AS s
        INNER JOIN levels AS v ON v.funnel = s.funnel
        WHERE s.place < s.steps
        GROUP BY name, next_step
        HAVING begun > 0
    ),
    compared AS
    (
        SELECT
            *,
            -- Newcombe's interval for the difference, from Wilson's for each rate.
            (rate + z * z / (2 * independent)
                - z * sqrt(rate * (1 - rate) / independent + z * z / (4 * independent * independent)))
                / (1 + z * z / independent) AS rate_low,
            (median + z * z / (2 * others_independent)
                + z * sqrt(median * (1 - median) / others_independent
                    + z * z / (4 * others_independent * others_independent)))
                / (1 + z * z / others_independent) AS median_high
        FROM
        (
            SELECT
                *,
                normal(error) AS z,
                arraySort(arrayMap(x -> abs(x - median), rates)) AS deviations,
                1.4826 * (deviations[intDiv(length(rates) + 1, 2)] + deviations[intDiv(length(rates), 2) + 1]) / 2
                    AS spread,
                -- A median is as uncertain as a mean of 1 / 1.57 of the observations.
                arraySum(arrayMap(other -> other.4, others)) / 1.57 AS others_independent
            FROM
            (
                SELECT
                    *,
                    arraySort(arrayMap(other -> other.3, others)) AS rates,
                    (rates[intDiv(length(rates) + 1, 2)] + rates[intDiv(length(rates), 2) + 1]) / 2 AS median
                FROM
                (
                    SELECT
                        *,
                        multiIf(
                            length(alike_of_kind) >= 3, alike_of_kind,
                            length(alike) >= 3, alike,
                            length(of_kind) >= 3, of_kind,
                            all_others) AS others
                    FROM
                    (
                        SELECT
                            *,
                            0.05 / count() OVER () AS error,
                            arrayFilter(other -> (other.1, other.2) != (kind, name),
                                groupArray((kind, name, rate, independent, waits_for_person)) OVER ()) AS all_others,
                            arrayFilter(other -> other.1 = kind, all_others) AS of_kind,
                            arrayFilter(other -> other.5 = waits_for_person, all_others) AS alike,
                            arrayFilter(other -> other.5 = waits_for_person, of_kind) AS alike_of_kind
                        FROM candidates
                    )
                )
            )
        )
    )
SELECT
    kind,
    name,
    next_step,
    round(excess_low * users / weeks, 3) AS score,
    users,
    round(users / weeks, 3) AS users_per_week,
    users_unfinished,
    begun,
    unfinished,
    round(rate, 6) AS unfinished_rate,
    round(median, 6) AS comparable_rate,
    round(c.excess_low, 6) AS excess_low,
    length(others) AS compared_with,
    failed,
    abandoned,
    cancelled,
    panicked,
    expired,
    arraySort(x -> (-countEqual(errors, x), x), arrayDistinct(errors))[1] AS top_error,
    if(empty(durations_ns), NULL, round(arraySort(durations_ns)[intDiv(length(durations_ns) + 1, 2)] / 1e6, 3))
        AS time_to_give_up_ms_p50
FROM
(
    SELECT *, rate - median - sqrt(pow(rate - rate_low, 2) + pow(median_high - median, 2)) AS excess_low FROM compared
) AS c
WHERE length(others) >= 3 AND users >= {min_users:UInt32} AND users_unfinished >= {min_unfinished:UInt32}
    AND c.excess_low > 0 AND c.excess_low >= {min_excess:Float64} AND c.excess_low >= 2 * spread
ORDER BY score DESC, kind, name
LIMIT {limit:UInt32}
