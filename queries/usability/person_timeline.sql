-- title: A person's timeline
-- question: What did this person do, in order?
-- grain: one row per event of the person, also those before they were known
-- param from
-- param to
-- param user: the user.id as the application sent it, or another id | at most 256 bytes
-- param id_kind: what the id is | default user | one of user, session, anonymous
-- param limit: most rows, the latest | default 1000 | range 1..10000
-- column time: time | when it happened | exact
-- column kind: name | used, started, ended, step or event | exact
-- column name: name | feature, FUNNEL.STEP or event | exact
-- column feature: name | feature it happened in, or empty | exact
-- column outcome: name | of what ended: completed, failed, abandoned, cancelled or panicked | exact
-- column duration_ms: ms | of what ended: how long it took; null: nothing ended | exact
-- column session: id | the session, or empty | exact
-- column release: name | release of the service | exact
-- column attributes: name | all attributes, as JSON | exact
-- caveats: The person is everything sent with this user.id, and every session or anonymous id whose first link leads to it. Asked
--   for a session or an anonymous id, it is the person it turned out to be, where there is one, and all that was done in the session.
-- ctes: links
WITH
    ids AS
    (
        SELECT unit, kind, id FROM units FINAL WHERE project = {project:UInt32}
    ),
    asked AS
    (
        SELECT unit FROM ids WHERE toString(kind) = {id_kind:String} AND id = {user:String}
    ),
    person AS
    (
        SELECT if(l.person != 0, l.person, a.unit) AS unit
        FROM asked AS a
        LEFT JOIN links AS l ON l.anonymous = a.unit
    ),
    happened AS
    (
        SELECT
            time, seq, toString(kind) AS of_kind, name, feature, outcome, duration_ns, session, release,
            strings, numbers, bools
        FROM events WHERE project = {project:UInt32}
            AND (unit IN (SELECT unit FROM person)
                OR unit IN (SELECT anonymous FROM links WHERE person IN (SELECT unit FROM person))
                OR session IN (SELECT unit FROM asked WHERE {id_kind:String} = 'session'))
            AND day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
            AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
        ORDER BY time DESC, seq DESC, name DESC, of_kind DESC
        LIMIT {limit:UInt32}
    )
SELECT
    h.time AS time,
    h.of_kind AS kind,
    toString(h.name) AS name,
    toString(h.feature) AS feature,
    toString(h.outcome) AS outcome,
    if(h.of_kind = 'ended', h.duration_ns / 1000000, NULL) AS duration_ms,
    if(h.session = 0, '', s.id) AS session,
    toString(h.release) AS release,
    concat('{', arrayStringConcat(arraySort(arrayConcat(
        arrayMap((key, value) -> concat(toJSONString(key), ':', toJSONString(value)), mapKeys(h.strings), mapValues(h.strings)),
        arrayMap((key, value) -> concat(toJSONString(key), ':', toJSONString(value)), mapKeys(h.numbers), mapValues(h.numbers)),
        arrayMap((key, value) -> concat(toJSONString(key), ':', toJSONString(value)), mapKeys(h.bools), mapValues(h.bools)))),
        ','), '}') AS attributes
FROM happened AS h
LEFT JOIN (SELECT unit, id FROM ids) AS s ON s.unit = h.session
ORDER BY time, h.seq, name, kind
