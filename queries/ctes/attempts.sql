-- Attempts begun in the time looked at and what became of each; needs attempt_events or attempt_events_of_release.
    -- What is wanted of the first beginning and of the first end are packed into a number each, milliseconds since 1900 first,
    -- so that the least of them is the one: argMin keeps value and time of each as generic values (measured, see DESIGN.md).
    (at) -> toUInt128(toUnixTimestamp64Milli(at) + 2208988800001) AS packed_time,
    (packed) -> fromUnixTimestamp64Milli(toInt64(packed) - 2208988800001, 'UTC') AS unpacked_time,
    -- One row per attempt. An end whose beginning never arrived tells when it began by its duration.
    attempts AS
    (
        SELECT
            p.name AS name,
            p.attempt AS attempt,
            toUInt64(bitAnd(p.beginning, 18446744073709551615)) AS unit,
            p.beginning < bitShiftLeft(toUInt128(1), 110) AS has_beginning,
            p.ending != 0 AS has_end,
            CAST(
                toInt8(bitAnd(bitShiftRight(p.ending, 66), 7)),
                'Enum8(\'\' = 0, \'completed\' = 1, \'failed\' = 2, \'abandoned\' = 3, \'cancelled\' = 4, \'panicked\' = 5)') AS outcome,
            -- Nobody gave up: the process stopped, or the application dropped the guard at once, a fault in its code.
            bitAnd(bitShiftRight(p.ending, 64), 3) != 0 AS is_nobodys,
            toUInt64(bitAnd(p.ending, 18446744073709551615)) AS duration_ns,
            if(has_beginning,
                unpacked_time(bitShiftRight(p.beginning, 64)),
                unpacked_time(bitShiftRight(p.ending, 69)) - toIntervalMillisecond(intDiv(duration_ns, 1000000))) AS begun_at,
            p.reason AS reason,
            p.error AS error
        FROM
        (
            SELECT
                e.name AS name,
                e.attempt AS attempt,
                -- Ends behind all beginnings.
                min(bitShiftLeft(packed_time(e.time) + if(e.kind = 'ended', bitShiftLeft(toUInt64(1), 46), 0), 64) + e.unit)
                    AS beginning,
                minIf(e.packed_end, e.kind = 'ended') AS ending,
                argMinIf(e.outcome_reason, e.packed_end, e.kind = 'ended') AS reason,
                argMinIf(e.error_type, e.packed_end, e.kind = 'ended') AS error
            FROM
            (
                SELECT
                    *,
                    bitShiftLeft(packed_time(time), 69) + bitShiftLeft(toUInt128(outcome), 66)
                        + bitShiftLeft(toUInt128(multiIf(
                            outcome = 'cancelled' AND outcome_reason = 'shutdown', 1,
                            outcome = 'abandoned' AND outcome_reason = 'ignored', 2,
                            0)), 64)
                        + duration_ns AS packed_end
                FROM attempt_events
            ) AS e
            -- An end without the identity of its attempt is an attempt of its own.
            GROUP BY name, attempt, if(e.attempt = 0, cityHash64(e.batch, e.time, e.seq, e.unit), 0)
        ) AS p
        WHERE begun_at >= {from:DateTime64(3, 'UTC')} AND begun_at < {to:DateTime64(3, 'UTC')}
    )
