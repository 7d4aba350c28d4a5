-- Names and tenants that would break pasted SQL or a text table, and another project that uses the same ones. By
-- hand: of project 1 there are 2 uses of the quoted name (one per tenant) and one of the other.
INSERT INTO events (project, name, kind, day, unit, time, tenant) VALUES
    (1, 'it''s "quoted" \\ \t tab', 'event', '2026-03-02', 1, '2026-03-02 10:00:00', '\'; DROP TABLE events; --'),
    (1, 'it''s "quoted" \\ \t tab', 'event', '2026-03-02', 1, '2026-03-02 10:00:00', 'größe 漢字 🙂'),
    (1, '', 'event', '2026-03-02', 1, '2026-03-02 10:00:00', '{project:UInt32}'),
    (2, 'it''s "quoted" \\ \t tab', 'event', '2026-03-02', 1, '2026-03-02 10:00:00', 'other'),
    (2, 'theirs', 'event', '2026-03-02', 1, '2026-03-02 10:00:00', 'other');
INSERT INTO identity_links (project, anonymous, person, time) VALUES (2, 1, 77, '2026-03-01 00:00:00');
