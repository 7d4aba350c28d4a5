//! Texts of any length and any bytes: the work stays linear, and nothing that was a value survives.

use proptest::prelude::*;

use super::*;

/// Steps that the fingerprint of a text takes.
fn steps(dialect: Dialect, sql: &str) -> usize {
    WORK.with(|work| work.set(0));
    fingerprint(dialect, sql);
    WORK.with(std::cell::Cell::get)
}

#[test]
fn the_work_is_linear_in_the_length_of_the_text() {
    let repeated = [
        "1, ",
        "'a', ",
        "?,",
        "(1, 'x'), ",
        "(",
        "[",
        "((1),",
        ")",
        "ARRAY[",
        "- ",
        "+-",
        "a.",
        "%(a",
        "%(a)",
        "{a",
        "{a:",
        "$a$ ",
        "$$",
        "$",
        "E'a' ",
        "E'a'\n'b' ",
        "E'",
        "''",
        "'\\",
        "\"\"",
        "`",
        "/*",
        "/* */",
        "*/",
        "-- a\n",
        "#",
        "q'[",
        "nq'",
        "@",
        "@a",
        ":",
        ":a",
        "?1",
        "‘",
        "“",
        " ",
        "\n",
        "0x",
        "1e+",
        ".5",
        "1.",
        "é",
        "a ",
        "NOT ",
        "NULL ",
        "IS NOT NULL AND ",
        "VALUES (1), ",
        "SELECT a FROM b JOIN ",
        "UNION SELECT ",
        "IDENTIFIED BY x ",
        ";",
        "; CREATE USER a PASSWORD 'x'",
        "x'",
        "_utf8'a'",
        "a AS (SELECT 1 FROM b), ",
        "FROM a, ",
    ];
    for start in ["", "SELECT a FROM t WHERE b IN (", "INSERT INTO t VALUES ", "WITH "] {
        for piece in repeated {
            for dialect in Dialect::ALL {
                let text = |bytes: usize| format!("{start}{}", piece.repeat(bytes / piece.len()));
                let (short, long) = (text(512), text(8 * 512));
                let (few, many) = (steps(*dialect, &short), steps(*dialect, &long));
                assert!(many <= 10 * few, "{dialect:?} {start}{piece}..: {few} steps, then {many}");
                assert!(many <= 30 * long.len(), "{dialect:?} {start}{piece}..: {many} steps for {} bytes", long.len());
            }
        }
    }
    // Names of common table expressions, each looked up again.
    let queries: Vec<String> = (0..2000).map(|number| format!("q{number} AS ()")).collect();
    let uses: Vec<String> = (0..8000).map(|number| format!("q{}", number % 2000)).collect();
    let sql = format!("WITH {} SELECT 1 FROM {}", queries.join(", "), uses.join(", "));
    assert!(steps(Postgres, &sql) <= 30 * sql.len());
    assert_eq!(fingerprint(Postgres, &sql).summary, "SELECT");
}

#[test]
fn a_hundred_thousand_values_are_one() {
    let values = vec!["'x'"; 100_000].join(", ");
    let sql = format!("SELECT a FROM t WHERE b IN ({values})");
    assert!(steps(Postgres, &sql) <= 30 * sql.len());
    text(Postgres, &sql, "SELECT a FROM t WHERE b IN (?)");
    let rows = vec!["(1, 'x', NULL)"; 100_000].join(", ");
    text(MySql, &format!("INSERT INTO t VALUES {rows}"), "INSERT INTO t VALUES (?, ?, ?)");
}

/// What a planted literal looks like in every dialect, with `MARKER` inside.
fn planted(dialect: Dialect) -> Vec<&'static str> {
    let mut all = vec![
        "'zqMARKERzq'",
        "'it''s zqMARKERzq'",
        "'-- zqMARKERzq'",
        "'/* zqMARKERzq'",
        "'\"zqMARKERzq'",
        "'`zqMARKERzq'",
        "'a, b) zqMARKERzq'",
        "N'zqMARKERzq'",
        "X'zqMARKERzq'",
        "'\nzqMARKERzq\n'",
        "'é zqMARKERzq ü'",
        "/* zqMARKERzq ' */ 1",
        "1 -- zqMARKERzq\n",
        "-12345.zqMARKERzq",
        "0xzqMARKERzq",
        ":zqMARKERzq",
        "%(zqMARKERzq)s",
    ];
    let own: &[&str] = match dialect {
        Postgres => &[
            r"E'\' zqMARKERzq'",
            "$$ ' zqMARKERzq $$",
            "$a$ $$ zqMARKERzq $b$ $a$",
            r"'zqMARKERzq\'",
            "U&'zqMARKERzq'",
            "/* /* */ zqMARKERzq */ 1",
            "E'a'\n'\\' zqMARKERzq'",
        ],
        MySql => &[
            r"'\' zqMARKERzq'",
            "\"zqMARKERzq\"",
            "\"'zqMARKERzq\"",
            "1 # ' zqMARKERzq\n",
            r#""\" zqMARKERzq""#,
            "_utf8'zqMARKERzq'",
        ],
        Sqlite => &[r"'zqMARKERzq\'", "@zqMARKERzq", "$zqMARKERzq"],
        ClickHouse => &[r"'\' zqMARKERzq'", "‘zqMARKERzq’", "{zqMARKERzq:String}", "$x$ ' zqMARKERzq $x$"],
        SqlServer => &[r"'zqMARKERzq\'", "@zqMARKERzq", "/* /* */ zqMARKERzq */ 1"],
        Generic => &[r"'zqMARKERzq\'", "q'[it's zqMARKERzq]'", "$$ zqMARKERzq $$", "/* /* */ zqMARKERzq */ 1"],
    };
    all.extend(own);
    // A number in MySQL ends at its letters: what begins with a digit there is an identifier, as the server sees it.
    if dialect == MySql {
        all.retain(|literal| !literal.starts_with("0x") && !literal.starts_with("-1"));
    }
    all
}

fn pieces() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("SELECT"),
        Just("FROM t"),
        Just("WHERE a ="),
        Just("IN ("),
        Just(")"),
        Just("("),
        Just(","),
        Just("VALUES"),
        Just("["),
        Just("]"),
        Just("ARRAY["),
        Just("-"),
        Just("+"),
        Just("NULL"),
        Just("IS"),
        Just("NOT"),
        Just("AND"),
        Just("\"id\""),
        Just("`id`"),
        Just("a.b"),
        Just("1"),
        Just("'x'"),
        Just("?"),
        Just("INSERT INTO t"),
        Just(";"),
        Just("CREATE USER"),
        Just("PASSWORD"),
        Just("IDENTIFIED BY"),
        Just("::"),
        Just("%"),
        Just("||"),
        Just("é"),
        Just("WITH x AS ("),
        Just("JOIN"),
        Just("UNION"),
        Just("/* c */"),
        Just("-- c\n"),
        Just("*"),
        Just("@"),
        Just(":"),
    ]
    .prop_map(str::to_owned)
}

fn dialects() -> impl Strategy<Value = Dialect> {
    prop::sample::select(Dialect::ALL)
}

proptest! {
    #![proptest_config(super::super::super::cases(500))]

    #[test]
    fn no_literal_reaches_text_or_summary(
        dialect in dialects(),
        parts in prop::collection::vec((pieces(), any::<prop::sample::Index>(), any::<bool>()), 1..24),
    ) {
        let literals = planted(dialect);
        let mut sql = String::new();
        let has_bracket_names = matches!(dialect, Sqlite | SqlServer);
        let has_string_names = matches!(dialect, Generic | MySql | Sqlite);
        let mut may_be_due = false;
        for (piece, index, plant) in parts {
            // What stands between brackets is an identifier there.
            let piece = if has_bracket_names { piece.replace(['[', ']'], "") } else { piece };
            sql.push_str(&piece);
            sql.push(' ');
            // A comment, or nothing, lets what comes follow at once.
            let is_nothing = piece.is_empty() || piece.contains(" c");
            may_be_due = matches!(piece.as_str(), "," | "JOIN") || may_be_due && is_nothing;
            if plant {
                // Where a table is due, a plain string is its name to these dialects, as in the conventions' examples. That
                // values are none is what `leaks` claims, whose statements are grammatical.
                let is_name = |literal: &str| {
                    has_string_names && may_be_due && matches!(literal, "'zqMARKERzq'" | "\"zqMARKERzq\"")
                };
                // Behind a string with escapes and the end of a line it is the rest of that string, escapes and all.
                let is_rest =
                    |literal: &str| dialect == Postgres && piece.starts_with("--") && literal == r"'zqMARKERzq\'";
                let could_be: Vec<_> =
                    literals.iter().filter(|literal| !is_name(literal) && !is_rest(literal)).collect();
                let literal: &&&str = index.get(&could_be);
                sql.push_str(literal);
                sql.push(' ');
                may_be_due = false;
            }
        }
        let print = fingerprint(dialect, &sql);
        prop_assert!(!print.text.contains("MARKER"), "{sql}\n{}", print.text);
        prop_assert!(!print.summary.contains("MARKER"), "{sql}\n{}", print.summary);
    }

    #[test]
    fn a_truncated_text_leaks_nothing(dialect in dialects(), index in any::<prop::sample::Index>(), cut in 0_usize..40) {
        let literals = planted(dialect);
        let sql = format!("SELECT a FROM t WHERE b = {}", index.get(&literals));
        let end = sql.char_indices().map(|(at, _)| at).nth_back(cut).unwrap_or(0);
        let print = fingerprint(dialect, &sql[..end]);
        prop_assert!(!print.text.contains("MARK"), "{}\n{}", &sql[..end], print.text);
    }

    #[test]
    fn any_text_has_a_normal_form_that_is_its_own(dialect in dialects(), parts in prop::collection::vec(pieces(), 0..40), glue in any::<bool>()) {
        let sql = parts.join(if glue { "" } else { " " });
        let print = fingerprint(dialect, &sql);
        let again = fingerprint(dialect, &print.text);
        prop_assert_eq!(print.hash, again.hash, "{}\n{}\n{}", sql, print.text, again.text);
    }

    #[test]
    fn no_text_panics(dialect in dialects(), sql in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = String::from_utf8_lossy(&bytes);
        for text in [sql.as_str(), bytes.as_ref()] {
            let print = fingerprint(dialect, text);
            prop_assert!(print.summary.chars().count() <= 255);
            prop_assert_ne!(print.hash, 0);
        }
    }
}
