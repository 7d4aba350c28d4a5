-- Whom an anonymous id turned out to be: the first person ever linked to it.
    links AS
    (
        SELECT anonymous, argMin(person, (time, person)) AS person
        FROM identity_links WHERE project = {project:UInt32}
        GROUP BY anonymous
    )
