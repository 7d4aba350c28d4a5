-- How queries are shown: the latest name, summary and text known of each.
    texts AS
    (
        SELECT
            q.fingerprint AS fingerprint,
            argMax(q.name, (q.name != '', q.time)) AS name,
            argMax(q.summary, (q.summary != '', q.time)) AS summary,
            argMax(q.text, (q.text != '', q.time)) AS text
        FROM query_texts AS q WHERE project = {project:UInt32}
        GROUP BY fingerprint
    )
