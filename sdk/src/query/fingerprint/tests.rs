//! Claims about the normal form, text in and text out.

mod hostile;

use super::Dialect::{ClickHouse, Generic, MySql, Postgres, SqlServer, Sqlite};
use super::*;

fn check(dialect: Dialect, sql: &str, text: &str, summary: &str) {
    let print = fingerprint(dialect, sql);
    assert_eq!(print.text, text, "text of {sql}");
    assert_eq!(print.summary, summary, "summary of {sql}");
    let again = fingerprint(dialect, &print.text);
    assert_eq!(again.hash, print.hash, "the normal form of {sql} is not its own normal form: {}", again.text);
}

fn text(dialect: Dialect, sql: &str, expected: &str) {
    let print = fingerprint(dialect, sql);
    assert_eq!(print.text, expected, "text of {sql}");
    let again = fingerprint(dialect, &print.text);
    assert_eq!(again.hash, print.hash, "the normal form of {sql} is not its own normal form: {}", again.text);
}

fn summary(sql: &str, expected: &str) {
    assert_eq!(fingerprint(Generic, sql).summary, expected, "summary of {sql}");
}

fn same(dialect: Dialect, one: &str, two: &str) {
    let (a, b) = (fingerprint(dialect, one), fingerprint(dialect, two));
    assert_eq!(a.hash, b.hash, "{} and {}", a.text, b.text);
}

fn different(dialect: Dialect, one: &str, two: &str) {
    let (a, b) = (fingerprint(dialect, one), fingerprint(dialect, two));
    assert_ne!(a.hash, b.hash, "{} and {}", a.text, b.text);
}

#[test]
fn a_sign_goes_with_its_number_after_operators_and_keywords_only() {
    check(Postgres, "UPDATE t SET a = a + -1073 WHERE b = 1;", "UPDATE t SET a = a + ? WHERE b = ?;", "UPDATE t");
    same(Postgres, "UPDATE t SET a = a + -1073 WHERE b = 1;", "update T set a = a + 1183 where b = 2");
    text(Postgres, "SELECT 12, -12, +12, .5, -1.5e-3, 0xFF, 1_000", "SELECT ?, ?, ?, ?, ?, ?, ?");
    text(Postgres, "SELECT a-1, a - 1, (a)-1, a -1", "SELECT a-?, a - ?, (a)-?, a -?");
    text(Postgres, "WHERE a BETWEEN -1 AND -2 OR a IN (-1, +2)", "WHERE a BETWEEN ? AND ? OR a IN (?)");
    text(Postgres, "SELECT - -5, a - -5, -a, -$1, a->-1", "SELECT ?, a - ?, -a, -?, a->?");
    text(Postgres, "SELECT 99+100", "SELECT ?+?");
    text(Postgres, "LIMIT -1 OFFSET -2", "LIMIT ? OFFSET ?");
}

#[test]
fn every_kind_of_parameter_is_a_value() {
    for sql in [
        "SELECT a FROM t WHERE b = 1",
        "SELECT a FROM t WHERE b = $1",
        "SELECT a FROM t WHERE b = ?",
        "SELECT a FROM t WHERE b = ?1",
        "SELECT a FROM t WHERE b = :x",
        "SELECT a FROM t WHERE b = :1",
        "SELECT a FROM t WHERE b = @p",
        "SELECT a FROM t WHERE b = %s",
        "SELECT a FROM t WHERE b = %(x)s",
        "SELECT a FROM t WHERE b = 'x'",
        "SELECT a FROM t WHERE b = TRUE",
        "SELECT a FROM t WHERE b = NULL",
        "SELECT a FROM t WHERE b=-12.5e+10",
    ] {
        for dialect in Dialect::ALL {
            same(*dialect, sql, "SELECT a FROM t WHERE b = ?");
        }
    }
    text(ClickHouse, "SELECT {a:UInt32}, {b:Array(String)}", "SELECT ?, ?");
    text(Sqlite, "SELECT $a, $b::c, ?12", "SELECT ?, ?, ?");
    text(SqlServer, "SELECT $12.50, @@ROWCOUNT, @x", "SELECT ?, @@ROWCOUNT, ?");
    text(Postgres, "SELECT a::int, b[1:2], c[lo:hi], x := 1", "SELECT a::int, b[?:?], c[lo:hi], x := ?");
    text(Postgres, "SELECT a%s, a % b, 5 % 3", "SELECT a%s, a % b, ? % ?");
    text(
        Postgres,
        "SELECT a @> b, a <@b, a @@ q, j ? 'k', j ?| array['a','b']",
        "SELECT a @> b, a <@b, a @@ q, j ? ?, j ?| array[?]",
    );
}

#[test]
fn strings_end_where_their_dialect_ends_them() {
    text(Postgres, r"SELECT 'a\', b", "SELECT ?, b");
    text(MySql, r"SELECT 'a\', b', c", "SELECT ?, c");
    text(ClickHouse, r"SELECT 'a\', b', c", "SELECT ?, c");
    text(Postgres, r"SELECT E'a\', b', c", "SELECT ?, c");
    text(Postgres, "SELECT E'a'\n 'b\\' c', d", "SELECT ?, d");
    text(Postgres, "SELECT E'a' -- it's\n 'b\\' c', d", "SELECT ?, d");
    // Another comment ends it: the next string is one of its own, without escapes.
    text(Postgres, "SELECT E'a'\n /* c */ 'b\\', c", "SELECT ?, c");
    text(Postgres, "SELECT 1 -- it's\r, 'a\nb', c", "SELECT ? , ?, c");
    text(Sqlite, r"SELECT 'it''s', b", "SELECT ?, b");
    text(Postgres, "SELECT 'a' 'b', 'c'\n'd'", "SELECT ?, ?");
    text(Postgres, r#"SELECT "a b", U&"d\0061", U&'x' UESCAPE '!'"#, r#"SELECT "a b", U&"d\0061", ? UESCAPE ?"#);
    text(MySql, r#"SELECT "a", _utf8mb4'x', N'y', x'00', b'1' FROM `t a`"#, "SELECT ?, ?, ?, ?, ? FROM `t a`");
    text(Postgres, "SELECT $$a 'b$$, $x$ $$ $y$ $x$, a$b$c", "SELECT ?, ?, a$b$c");
    text(ClickHouse, "SELECT $doc$ it's $doc$, ‘x’, “y”", "SELECT ?, ?, “y”");
    text(SqlServer, "SELECT [a]]'b], N'x' FROM [dbo].[T 1]", "SELECT [a]]'b], ? FROM [dbo].[T 1]");
    text(Sqlite, "SELECT [a'b], 'x'", "SELECT [a'b], ?");
    text(Generic, "SELECT q'[it's]', nq'{a'}', q'!x!'", "SELECT ?, ?, ?");
}

#[test]
fn comments_go_and_nest_where_the_dialect_nests_them() {
    check(Postgres, "/* a /* b */ c */ SELECT 1 -- d\n, 2", "SELECT ? , ?", "SELECT");
    text(MySql, "/* a /* b */ SELECT 1 # it's\n, 2 -- it's\n, 3", "SELECT ? , ? , ?");
    text(MySql, "SELECT 5--1", "SELECT ?-?");
    text(Sqlite, "SELECT a/**/b/* ' */, 'c'", "SELECT a b , ?");
    text(Postgres, "SELECT a # b, '{1}'::jsonb #>> '{a}'", "SELECT a # b, ?::jsonb #>> ?");
    text(MySql, "SELECT /*+ MAX_EXECUTION_TIME(1000) */ /*!40001 SQL_NO_CACHE */ a", "SELECT a");
    text(SqlServer, "SELECT * FROM #tmp -- x", "SELECT * FROM #tmp");
    text(Postgres, "SELECT 1 --", "SELECT ?");
}

#[test]
fn what_is_left_open_ends_with_the_text() {
    for dialect in Dialect::ALL {
        for sql in ["SELECT a, 'MARKER b", "SELECT a, /* MARKER", "SELECT a, -- MARKER", "SELECT a, \"MARKER b"] {
            let print = fingerprint(*dialect, sql);
            assert!(!print.text.contains("MARKER"), "{dialect:?} {sql}: {}", print.text);
        }
    }
    text(Postgres, "SELECT $a$ MARKER $b$", "SELECT ?");
    text(SqlServer, "SELECT [MARKER", "SELECT ?");
    text(ClickHouse, "SELECT {MARKER:String", "SELECT ?");
    text(MySql, r"SELECT 'a\", "SELECT ?");
    text(Postgres, "", "");
    text(Postgres, " ;; ", ";;");
}

#[test]
fn null_true_and_false_are_values_save_in_predicates() {
    text(Postgres, "WHERE a IS NULL AND b IS NOT NULL AND c = NULL", "WHERE a IS NULL AND b IS NOT NULL AND c = ?");
    text(Postgres, "WHERE a IS TRUE AND b IS NOT FALSE AND NOT TRUE", "WHERE a IS TRUE AND b IS NOT FALSE AND NOT ?");
    text(Postgres, "WHERE a IS DISTINCT FROM NULL", "WHERE a IS DISTINCT FROM ?");
    text(
        Postgres,
        "CREATE TABLE t (a int NOT NULL, b int NULL, c int DEFAULT NULL)",
        "CREATE TABLE t (a int NOT NULL, b int NULL, c int DEFAULT ?)",
    );
    text(Postgres, "ON DELETE SET NULL", "ON DELETE SET NULL");
    text(Postgres, "SELECT t.null, NULL, COALESCE(a, NULL)", "SELECT t.null, ?, COALESCE(a, ?)");
}

#[test]
fn lists_of_plain_values_keep_one() {
    check(Postgres, "SELECT * FROM t WHERE a IN (1, 2, 'x', NULL, $4)", "SELECT * FROM t WHERE a IN (?)", "SELECT t");
    text(Postgres, "a NOT IN(1,2)", "a NOT IN(?)");
    text(Postgres, "a IN (1, lower('x'), 2)", "a IN (?, lower(?), ?)");
    text(Postgres, "a IN (1, b)", "a IN (?, b)");
    text(Postgres, "(a, b) IN ((1, 2), (3, 4))", "(a, b) IN ((?, ?))");
    text(Postgres, "a = ANY(ARRAY[1, 2]) OR b = ARRAY[[1,2],[3,4]]", "a = ANY(ARRAY[?]) OR b = ARRAY[[?]]");
    text(Postgres, "a = ARRAY[1, b]", "a = ARRAY[?, b]");
    text(ClickHouse, "SELECT [1, 2, 3], hasAny(a, ['x', 'y'])", "SELECT [?], hasAny(a, [?])");
    text(Postgres, "SELECT f(1, 2, 3)", "SELECT f(?, ?, ?)");
    same(MySql, "INSERT INTO t VALUES (1,2),(3,4),(5,6)", "insert into t values (1, 'x');");
    text(
        MySql,
        "INSERT INTO t (a) VALUES (1),(2) ON DUPLICATE KEY UPDATE a = VALUES(a)",
        "INSERT INTO t (a) VALUES (?) ON DUPLICATE KEY UPDATE a = VALUES(a)",
    );
    text(MySql, "VALUES ROW(1,2), ROW(3,4)", "VALUES ROW(?,?)");
    text(Postgres, "INSERT INTO t VALUES (1, DEFAULT), (2, DEFAULT)", "INSERT INTO t VALUES (?, DEFAULT)");
    text(Postgres, "INSERT INTO t VALUES (1, now()), (2, now())", "INSERT INTO t VALUES (?, now()), (?, now())");
    text(Postgres, "INSERT INTO t VALUES (1, ARRAY[1,2]), (2, ARRAY[1])", "INSERT INTO t VALUES (?, ARRAY[?])");
    text(
        ClickHouse,
        "INSERT INTO t VALUES (1, [1,2], (3, 4)) (2, [], (5, 6))",
        "INSERT INTO t VALUES (?, [?], (?, ?)) (?, [], (?, ?))",
    );
    text(Sqlite, "WHERE a IN ()", "WHERE a IN ()");
    text(Postgres, "a IN (SELECT 1)", "a IN (SELECT ?)");
}

#[test]
fn the_hash_folds_case_and_blanks_and_the_text_does_not() {
    same(Postgres, "SELECT A FROM T", "select\n\ta  from t ; ");
    same(Postgres, "SELECT a=1", "SELECT a = 1");
    different(Postgres, "SELECT \"A\"", "SELECT \"a\"");
    different(Postgres, "SELECT t1", "SELECT t2");
    different(Postgres, "SELECT a b", "SELECT ab");
    check(
        Generic,
        "SELECT c3po, r2d2 FROM covid19 WHERE n1h1=1234",
        "SELECT c3po, r2d2 FROM covid19 WHERE n1h1=?",
        "SELECT covid19",
    );
    text(
        MySql,
        "SELECT 2fa FROM db1.3tables WHERE a = 0x1F AND b = 1e5",
        "SELECT 2fa FROM db1.3tables WHERE a = ? AND b = ?",
    );
}

#[test]
fn passwords_go_in_every_form() {
    for (dialect, sql) in [
        (Postgres, "ALTER ROLE bob WITH PASSWORD 'MARKER'"),
        (Postgres, "ALTER ROLE bob PASSWORD \"MARKER\""),
        (Postgres, "CREATE USER bob ENCRYPTED PASSWORD $$MARKER$$ VALID UNTIL '2030'"),
        (Generic, "CREATE USER bob IDENTIFIED BY MARKER"),
        (Generic, "CREATE USER bob IDENTIFIED BY \"MARKER\" DEFAULT TABLESPACE x"),
        (Generic, "alter user bob identified by tiger#MARKER!x replace old"),
        (MySql, "CREATE USER 'bob'@'%' IDENTIFIED WITH caching_sha2_password BY 'MARKER'"),
        (MySql, "CREATE USER bob IDENTIFIED BY PASSWORD '*MARKER'"),
        (MySql, "SET PASSWORD FOR bob = 'MARKER'"),
        (MySql, "SET PASSWORD FOR bob = PASSWORD('MARKER')"),
        (MySql, "SET PASSWORD = MARKER"),
        (MySql, "GRANT ALL ON *.* TO bob IDENTIFIED BY 'MARKER'"),
        (SqlServer, "CREATE LOGIN bob WITH PASSWORD = N'MARKER'"),
        (SqlServer, "ALTER LOGIN bob WITH PASSWORD = MARKER OLD_PASSWORD = 'MARKER'"),
        (ClickHouse, "CREATE USER bob IDENTIFIED WITH plaintext_password BY 'MARKER'"),
        (Generic, "CREATE DATABASE LINK l CONNECT TO scott IDENTIFIED BY MARKER USING 'x'"),
        (Sqlite, "PRAGMA key = MARKER"),
        (Sqlite, "PRAGMA main.rekey(\"MARKER\")"),
        (Sqlite, "ATTACH DATABASE 'x' AS y KEY MARKER"),
    ] {
        let print = fingerprint(dialect, sql);
        assert!(!print.text.contains("MARKER"), "{sql}: {}", print.text);
        assert!(!print.summary.contains("MARKER"), "{sql}: {}", print.summary);
    }
    text(Postgres, "SELECT password FROM users WHERE password = x", "SELECT password FROM users WHERE password = x");
    text(Postgres, "ALTER TABLE users ADD password text", "ALTER TABLE users ADD password text");
    text(Postgres, "ALTER ROLE a WITH PASSWORD 'x' LOGIN", "ALTER ROLE a WITH PASSWORD ? LOGIN");
}

#[test]
fn rows_behind_a_statement_go() {
    text(ClickHouse, "INSERT INTO t FORMAT CSV 1,MARKER\n2,x", "INSERT INTO t FORMAT CSV");
    text(Generic, "INSERT INTO t FORMAT JSONEachRow {\"a\":\"MARKER\"}", "INSERT INTO t FORMAT JSONEachRow");
    text(Postgres, "COPY t FROM STDIN;\nMARKER\tx\n\\.\n", "COPY t FROM STDIN;");
    text(ClickHouse, "SELECT 1 FORMAT JSON", "SELECT ? FORMAT JSON");
}

#[test]
fn the_summary_follows_the_examples_of_the_conventions() {
    summary("SELECT *\nFROM wuser_table\nWHERE username = ?", "SELECT wuser_table");
    summary(
        "INSERT INTO shipping_details (order_id, address) SELECT order_id, address FROM orders WHERE order_id = ?",
        "INSERT shipping_details SELECT orders",
    );
    summary("SELECT * FROM songs, artists WHERE songs.artist_id == artists.id", "SELECT songs artists");
    summary(
        "SELEcT order_date FROM (sELECT * FROM orders o JOIN customers c ON o.customer_id = c.customer_id)",
        "SELEcT sELECT orders customers",
    );
    summary("SELECT * FROM \"song list\", 'artists'", "SELECT \"song list\" 'artists'");
    summary("SELECT a FROM dbo.Table JOIN dbo.AnotherTable", "SELECT dbo.Table dbo.AnotherTable");
    summary("CREATE  TABLE MyTable (ID NOT NULL IDENTITY(1,1) PRIMARY KEY)", "CREATE TABLE MyTable");
    summary("ALTER TABLE MyTable ADD Name varchar(255)", "ALTER TABLE MyTable");
    summary("DROP TABLE IF EXISTS MyTable", "DROP TABLE MyTable");
    summary("CREATE UNIQUE CLUSTERED INDEX IX_E ON Employees (Email);", "CREATE INDEX IX_E");
    summary("CREATE TABLE IF NOT EXISTS Users (Id INT)", "CREATE TABLE Users");
    summary("CREATE VIEW ActiveUsers AS SELECT * FROM Users", "CREATE VIEW ActiveUsers");
    summary("CREATE TRIGGER trg ON Orders AFTER UPDATE AS BEGIN UPDATE Orders SET a = 1; END;", "CREATE TRIGGER trg");
    summary("SELECT Id FROM Customers UNION SELECT Id FROM Suppliers ORDER BY Name;", "SELECT Customers Suppliers");
    summary("EXEC sp_rename 'OldTable', 'NewTable';", "EXEC sp_rename");
    summary("EXEC @r = GetEmployeeById @EmployeeId = 42;", "EXEC GetEmployeeById");
    summary("CREATE USER johndoe WITH PASSWORD = 'password';", "CREATE USER johndoe");
    summary("ALTER INDEX IX_Employee_Email ON Employees REBUILD;", "ALTER INDEX IX_Employee_Email");
    summary("SELECT DISTINCT o.Id FROM Orders o JOIN Customers c ON o.C = c.Id", "SELECT Orders Customers");
    summary("SELECT TOP (10) * FROM Employees", "SELECT Employees");
    summary("SELECT name, (SELECT COUNT(*) FROM orders) FROM customers c", "SELECT SELECT orders customers");
    summary("SELECT CAST((123) AS INT);", "SELECT");
}

#[test]
fn the_summary_names_what_a_statement_works_on() {
    // Broken, and a string behind its end is a value.
    summary("(SELECT a FROM t JOIN ; 'secret'", "SELECT t");
    summary("SELECT a FROM t, ) 'secret'", "SELECT t");
    summary("SELECT a FROM t JOIN LATERAL ('secret')", "SELECT t");
    summary("DELETE FROM t1 USING t2 WHERE t1.id = t2.id", "DELETE t1");
    summary("DELETE t1 FROM t1 JOIN t2 ON t1.id = t2.id", "DELETE t1");
    summary("UPDATE t1 SET a = t2.b FROM t2", "UPDATE t1");
    summary("INSERT INTO users (id) VALUES (?) ON CONFLICT (id) DO UPDATE SET name = ?", "INSERT users");
    summary("MERGE INTO target t USING source s ON t.id = s.id WHEN MATCHED THEN UPDATE SET a = 1", "MERGE target");
    summary("SELECT * FROM jobs WHERE id = ? FOR UPDATE", "SELECT jobs");
    summary(
        "WITH recent AS (SELECT * FROM orders) SELECT * FROM recent JOIN books ON true",
        "SELECT orders SELECT books",
    );
    summary(
        "WITH RECURSIVE a(x) AS (SELECT 1 FROM b), c AS (SELECT 2 FROM d) DELETE FROM e",
        "SELECT b SELECT d DELETE e",
    );
    summary("SELECT extract(year FROM created), trim(both FROM name) FROM users", "SELECT users");
    summary("SELECT a IS DISTINCT FROM b FROM users", "SELECT users");
    summary("SELECT * FROM a LEFT JOIN b ON a.x = b.x, LATERAL (SELECT 1 FROM c) d", "SELECT a b SELECT c");
    summary("SELECT * FROM (a JOIN b ON a.x = b.x) WHERE y IN (SELECT z FROM d)", "SELECT a b SELECT d");
    summary("SELECT * FROM get_orders(?) WHERE a = ?", "SELECT get_orders");
    summary("TRUNCATE TABLE a, b", "TRUNCATE TABLE a b");
    summary("BEGIN", "BEGIN");
    summary("SET LOCAL synchronous_commit TO LOCAL", "SET");
    summary("GRANT SELECT ON t TO bob", "GRANT");
    summary("EXPLAIN ANALYZE SELECT * FROM t", "EXPLAIN SELECT t");
    summary("COPY (SELECT a FROM t) TO STDOUT", "COPY SELECT t");
    summary("SELECT 1; SELECT a FROM t; ", "SELECT SELECT t");
    summary("", "");
    let long = format!("SELECT * FROM {}, b", "a".repeat(300));
    summary(&long, "SELECT");
    let many = format!("SELECT * FROM {}", vec!["table_name"; 50].join(", "));
    let summed = fingerprint(Generic, &many).summary;
    assert!(summed.len() <= 255 && summed.ends_with(" table_name"), "{summed}");
}
