-- The durations of each query in each release; needs calls.
    -- Calls in order of duration, with a running count.
    distributions AS
    (
        SELECT
            fingerprint, service, release,
            sum(r.calls) AS calls,
            arraySort(range -> (range.1, range.2), groupArray((r.low, r.high, r.calls))) AS ordered,
            arrayCumSum(range -> range.3, ordered) AS running
        FROM ranges AS r
        GROUP BY fingerprint, service, release
    ),
    -- The range that holds the call of this rank; weights may leave less calls than ranks.
    (ordered, running, rank) ->
        ordered[arrayFirstIndex(count -> count >= least(rank, running[-1]) - 1e-6, running)] AS at_rank
