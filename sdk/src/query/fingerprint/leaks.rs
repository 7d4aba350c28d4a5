//! No value of any statement reaches its normal form: statements of every dialect, written by a grammar, with marked values.
//!
//! A statement's structure comes from one seed, its values, comments and their forms from another. So two claims can be made of
//! each: no mark is found in text or summary, and other values give the same hash. Cases: 3,000 here; `.ci/long` sets
//! `GEMBA_LEAK_CASES`.

use proptest::prelude::*;

use super::Dialect::{ClickHouse, Generic, MySql, Postgres, SqlServer, Sqlite};
use super::*;

/// Stands in every string, comment and named parameter.
const MARK: &str = "zqMARK";
/// Begins every number.
const DIGITS: &str = "73291";

/// Numbers without an end (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % limit as u64).unwrap()
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

/// Writes one statement.
struct Writer {
    dialect: Dialect,
    structure: Dice,
    values: Dice,
    sql: String,
    depth: usize,
}

impl Writer {
    fn statement(dialect: Dialect, structure: u64, values: u64) -> String {
        let mut writer =
            Self { dialect, structure: Dice(structure), values: Dice(values), sql: String::new(), depth: 0 };
        for _ in 0..=writer.structure.below(2) {
            writer.one_statement();
            writer.word(";");
        }
        writer.sql
    }

    /// A piece of the structure, and what may stand between two of them.
    fn word(&mut self, word: &str) {
        self.sql.push_str(word);
        match self.values.below(12) {
            0 => self.sql.push_str("\n\t "),
            1 => self.comment(),
            _ => self.sql.push(' '),
        }
    }

    fn comment(&mut self) {
        let inside = self.values.pick(&["", "'", "\"", "`", "it's", "$$", "[", "\\", ";", "--"]);
        let nests = !matches!(self.dialect, MySql | Sqlite);
        let text = match self.values.below(4) {
            0 => format!(" -- {MARK} {inside}\n"),
            1 if self.dialect == MySql => format!(" # {MARK} {inside}\n"),
            2 if nests => format!("/* {MARK} /* {inside} */ {MARK} */"),
            _ => format!("/* {MARK} {inside}*/"),
        };
        self.sql.push_str(&text);
    }

    /// What stands inside a string, as the dialect writes it between quotes of this kind.
    fn content(&mut self, quote: char) -> String {
        let backslashes = matches!(self.dialect, MySql | ClickHouse);
        let hostile = self.values.pick(&[
            "", "'", "\"", "`", "--", "/*", "*/", "\\", "\\'", "$$", "$1", "]", "[", ")", "(", ",", ";", "\n", "é’",
            "?", "::", " OR ", "NULL", "#", "{a:", "%s", ":x", "FROM t ",
        ]);
        let mut text = format!("{hostile} {MARK}{}{hostile}", self.values.below(1000));
        if backslashes {
            text = text.replace('\\', "\\\\");
            if self.values.below(2) == 0 {
                return text.replace(quote, &format!("\\{quote}"));
            }
        }
        text.replace(quote, &format!("{quote}{quote}"))
    }

    fn string(&mut self) -> String {
        let plain = self.content('\'');
        let number = self.values.below(1000);
        match (self.dialect, self.values.below(5)) {
            (Postgres | Generic | ClickHouse, 0) => format!("$m${plain}$m$"),
            (Postgres | Generic, 1) => format!("E'{}'", self.content('\'').replace('\\', "\\\\")),
            (Postgres | Generic, 2) => format!("U&'{plain}'"),
            (MySql, 0) => format!("\"{}\"", self.content('"')),
            (MySql, 1) => format!("_utf8mb4'{plain}'"),
            (ClickHouse, 1) => format!("‘{MARK} ' {number}’"),
            (SqlServer | MySql, 2) => format!("N'{plain}'"),
            (_, 3) => format!("X'{DIGITS}{number}'"),
            _ => format!("'{plain}'"),
        }
    }

    fn number(&mut self) -> String {
        let number = format!("{DIGITS}{}", self.values.below(1000));
        match self.values.below(9) {
            0 => format!("-{number}"),
            1 => format!("+{number}.25"),
            2 => format!("{number}.{DIGITS}e-7"),
            3 => format!("{number}E+7"),
            4 => format!("0x{number}aF"),
            5 => format!(".{number}"),
            6 if self.dialect == SqlServer => format!("${number}.50"),
            7 if self.dialect == Postgres => format!("1_{number}"),
            _ => number,
        }
    }

    fn parameter(&mut self) -> String {
        let name = format!("{MARK}{}", self.values.below(100));
        match (self.dialect, self.values.below(6)) {
            (_, 0) => "?".to_owned(),
            (_, 1) => "$1".to_owned(),
            (ClickHouse, 2) => format!("{{{name}:Array(String)}}"),
            (Sqlite, 2) => format!("${name}"),
            (_, 3) => format!("%({name})s"),
            (_, 4) => format!("@{name}"),
            _ => format!(":{name}"),
        }
    }

    /// Any value where an operand is due.
    fn value(&mut self) {
        let value = match self.values.below(8) {
            0 => self.values.pick(&["NULL", "TRUE", "false"]).to_owned(),
            1 => self.parameter(),
            2 | 3 => self.number(),
            _ => self.string(),
        };
        self.word(&value);
    }

    /// A value that must be a string.
    fn text(&mut self) {
        let text = self.string();
        self.word(&text);
    }

    fn name(&mut self) {
        let plain = self.structure.pick(&["a", "t1.b", "c3po", "orders", "x.y.z", "größe"]);
        let quoted = match self.dialect {
            MySql | ClickHouse => "`it's`",
            SqlServer => "[it's]",
            _ => "\"it's\"",
        };
        let name = if self.structure.below(6) == 0 { quoted } else { plain };
        self.word(name);
    }

    fn list(&mut self, item: fn(&mut Self)) {
        for at in 0..=self.structure.below(3) {
            if at > 0 {
                self.word(",");
            }
            item(self);
        }
    }

    fn expression(&mut self) {
        self.depth += 1;
        let kind = if self.depth > 4 { self.structure.below(3) } else { self.structure.below(20) };
        match kind {
            0 => self.name(),
            1 | 2 => self.value(),
            3 | 4 => {
                self.expression();
                let operator = self.structure.pick(&["=", "<>", "+", "-", "*", "||", "AND", "OR", ">="]);
                self.word(operator);
                self.expression();
            }
            5 => self.around("f (", |writer| writer.list(Self::expression)),
            6 => self.around("(", Self::expression),
            7 => self.around("( SELECT", Self::rest_of_select),
            8 => self.infix("IN (", |writer| writer.list(Self::value), ")"),
            9 => self.infix("NOT IN (", |writer| writer.list(Self::expression), ")"),
            10 => {
                self.name();
                self.word("BETWEEN");
                self.value();
                self.word("AND");
                self.value();
            }
            11 => self.infix("LIKE", Self::text, ""),
            12 => {
                self.word("CASE WHEN");
                self.expression();
                self.word("THEN");
                self.value();
                self.word("ELSE");
                self.value();
                self.word("END");
            }
            13 => self.around("CAST (", |writer| {
                writer.value();
                writer.word("AS varchar");
            }),
            14 => self.around("extract ( year FROM", Self::text),
            15 => self.around("trim ( both", |writer| {
                writer.text();
                writer.word("FROM");
                writer.text();
            }),
            16 => self.infix("IS DISTINCT FROM", Self::value, ""),
            17 => {
                let kind = self.structure.pick(&["DATE", "TIMESTAMP", "INTERVAL"]);
                self.word(kind);
                self.text();
            }
            18 if matches!(self.dialect, Postgres | ClickHouse) => {
                let open = if self.dialect == Postgres { "ARRAY [" } else { "[" };
                self.word(open);
                self.list(Self::value);
                self.word("]");
            }
            _ => self.infix("IS NOT NULL", |_| {}, ""),
        }
        self.depth -= 1;
    }

    fn around(&mut self, open: &str, inside: impl FnOnce(&mut Self)) {
        self.word(open);
        inside(self);
        self.word(")");
    }

    fn infix(&mut self, operator: &str, right: impl FnOnce(&mut Self), close: &str) {
        self.name();
        self.word(operator);
        right(self);
        self.word(close);
    }

    fn rest_of_select(&mut self) {
        self.list(Self::expression);
        self.word("FROM");
        self.list(Self::name);
        if self.structure.below(3) == 0 {
            self.word("LEFT JOIN");
            self.name();
            self.word("ON");
            self.expression();
        }
        if self.structure.below(3) > 0 {
            self.word("WHERE");
            self.expression();
        }
        if self.structure.below(4) == 0 {
            self.word("ORDER BY");
            self.name();
            self.word("LIMIT");
            self.value();
        }
    }

    fn one_statement(&mut self) {
        match self.structure.below(10) {
            0..4 => {
                self.word("SELECT");
                self.rest_of_select();
            }
            4 => {
                self.word("INSERT INTO t ( a , b ) VALUES");
                let columns = 1 + self.structure.below(3);
                for row in 0..=self.structure.below(3) {
                    self.word(if row > 0 { ", (" } else { "(" });
                    for column in 0..columns {
                        if column > 0 {
                            self.word(",");
                        }
                        self.value();
                    }
                    self.word(")");
                }
            }
            5 => {
                self.word("UPDATE t SET a =");
                self.expression();
                self.word(", b =");
                self.value();
                self.word("WHERE");
                self.expression();
            }
            6 => {
                self.word("DELETE FROM t WHERE");
                self.expression();
            }
            7 => {
                self.word("WITH q AS ( SELECT");
                self.rest_of_select();
                self.word(") SELECT");
                self.rest_of_select();
            }
            8 => {
                self.word("CREATE TABLE t ( a int DEFAULT");
                self.value();
                self.word("CHECK (");
                self.expression();
                self.word(") )");
            }
            _ => self.secret(),
        }
    }

    /// Passwords, quoted and not; in the normal form each is one value.
    fn secret(&mut self) {
        let before: &[&str] = match self.dialect {
            Postgres => &["ALTER ROLE bob WITH PASSWORD", "CREATE USER bob ENCRYPTED PASSWORD"],
            MySql => &["CREATE USER bob IDENTIFIED BY", "ALTER USER bob IDENTIFIED WITH sha256_password BY"],
            Sqlite => &["PRAGMA key =", "PRAGMA rekey ="],
            ClickHouse => &["CREATE USER bob IDENTIFIED WITH plaintext_password BY"],
            SqlServer => &["CREATE LOGIN bob WITH PASSWORD =", "ALTER LOGIN bob WITH PASSWORD ="],
            Generic => &["CREATE USER bob IDENTIFIED BY", "ALTER ROLE bob PASSWORD"],
        };
        let before = self.structure.pick(before);
        self.word(before);
        let secret =
            if self.values.below(3) == 0 { format!("{MARK}{}", self.values.below(100)) } else { self.string() };
        self.word(&secret);
    }
}

fn cases() -> u32 {
    let asked = std::env::var("GEMBA_LEAK_CASES").ok();
    asked.map_or(3000, |cases| cases.parse().expect("GEMBA_LEAK_CASES is a number of cases"))
}

fn leaks(print: &Fingerprint) -> bool {
    [&print.text, &print.summary].iter().any(|text| text.contains("zqM") || text.contains(DIGITS))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn no_marked_value_survives_and_other_values_are_the_same_query(
        dialect in prop::sample::select(Dialect::ALL),
        structure in any::<u64>(),
        values in any::<[u64; 2]>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let sql = Writer::statement(dialect, structure, values[0]);
        let print = fingerprint(dialect, &sql);
        prop_assert!(!leaks(&print), "{dialect:?} {sql}\n{}\n{}", print.text, print.summary);
        let other = Writer::statement(dialect, structure, values[1]);
        let same = fingerprint(dialect, &other);
        prop_assert_eq!(print.hash, same.hash, "{:?}\n{}\n{}\n{}\n{}", dialect, sql, other, print.text, same.text);
        let again = fingerprint(dialect, &print.text);
        prop_assert_eq!(print.hash, again.hash, "{:?}\n{}\n{}\n{}", dialect, sql, print.text, again.text);
        // A log that cut the text off must not turn its last value into words.
        let end = sql.floor_char_boundary(cut.index(sql.len()));
        let cut = fingerprint(dialect, &sql[..end]);
        prop_assert!(!leaks(&cut), "{dialect:?} {}\n{}\n{}", &sql[..end], cut.text, cut.summary);
    }
}
