-- title: Sampling
-- question: Which services record only a share of their people, and how many people do their figures stand for?
-- grain: one row per service, release and sample rate that recorded in the time looked at
-- param from
-- param to
-- column service: name | name of the service | exact
-- column release: name | release that recorded | exact
-- column sample_rate: rate | part of the people that are recorded | exact
-- column events: count | uses, beginnings and ends of attempts, and funnel steps of people in the sample | exact
-- column users: count | people in the sample; an anonymous session counts as a person | exact
-- column users_estimated: count | people the sample stands for: users / sample_rate, rounded; how far it may be off says
--   users_error | exact
-- column users_error: rate | half the width of the 95 % interval of users_estimated, as a part of it; of use from about
--   10 users on | exact
-- caveats: All other answers count what was recorded. Counts of these services stand for 1 / sample_rate times as many;
--   rates, such as a completion or conversion rate, need no correction, because a person is in the sample as a whole.
--   Queries, requests and events of nobody are never sampled.
WITH
    rates AS
    (
        SELECT r.resource AS resource, max(toFloat64OrZero(r.attributes['gemba.sample_rate'])) AS rate
        FROM resources AS r WHERE project = {project:UInt32}
        GROUP BY resource
        HAVING rate > 0 AND rate < 1
    ),
    by_unit AS
    (
        SELECT e.service AS service, e.release AS release, toUInt64(e.resource) AS resource, e.unit AS unit, count() AS events
        FROM events AS e WHERE project = {project:UInt32}
            AND e.kind IN ('used', 'started', 'ended', 'step')
            AND e.unit != 0
            AND e.day >= toDate({from:DateTime64(3, 'UTC')}) AND e.day <= toDate({to:DateTime64(3, 'UTC')})
            AND e.time >= {from:DateTime64(3, 'UTC')} AND e.time < {to:DateTime64(3, 'UTC')}
            AND e.resource IN (SELECT resource FROM rates)
        GROUP BY service, release, resource, unit
    )
SELECT
    u.service AS service,
    u.release AS release,
    s.rate AS sample_rate,
    sum(u.events) AS events,
    uniqExact(u.unit) AS users,
    toUInt64(round(users / sample_rate)) AS users_estimated,
    round(1.96 * sqrt((1 - sample_rate) / users), 6) AS users_error
FROM by_unit AS u
INNER JOIN rates AS s ON s.resource = u.resource
GROUP BY service, release, sample_rate
ORDER BY service, release, sample_rate
