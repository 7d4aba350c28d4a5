//! Prepared statements and their rows.
//!
//! In: a statement of rusqlite and its text. Out: the same, each run of it counted when its rows end, fail or are dropped, less
//! what the caller does between two rows.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;

use ::rusqlite::{self as lite, Error, Params, Result, Row};

use super::super::timing::{Begin, Inside, QueryEnd, Running};
use super::ending::{begin, count, failure, first_row, only_row, run, run_row};

/// A prepared statement, by itself or in the cache of its connection.
enum Prepared<'c> {
    Own(lite::Statement<'c>),
    Cached(lite::CachedStatement<'c>),
}

/// A prepared statement whose runs are counted, each under the line that runs it.
///
/// Methods are rusqlite's of the same name; the rest of them is reached through `Deref`, uncounted.
///
/// # Examples
/// ```
/// # fn main() -> rusqlite::Result<()> {
/// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
/// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
/// let mut statement = db.prepare("SELECT title FROM card WHERE id = ?1")?;
/// assert_eq!(statement.parameter_count(), 1);
/// assert!(statement.exists([1])?);
/// # Ok(())
/// # }
/// ```
pub struct Statement<'c> {
    inner: Prepared<'c>,
    sql: Box<str>,
}

impl fmt::Debug for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may hold values.
        f.debug_struct("Statement").finish_non_exhaustive()
    }
}

impl<'c> Deref for Statement<'c> {
    type Target = lite::Statement<'c>;

    fn deref(&self) -> &Self::Target {
        match &self.inner {
            Prepared::Own(statement) => statement,
            Prepared::Cached(statement) => statement,
        }
    }
}

impl DerefMut for Statement<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match &mut self.inner {
            Prepared::Own(statement) => statement,
            Prepared::Cached(statement) => statement,
        }
    }
}

impl<'c> Statement<'c> {
    pub(super) fn own(statement: lite::Statement<'c>, sql: &str) -> Self {
        Self { inner: Prepared::Own(statement), sql: sql.into() }
    }

    pub(super) fn cached(statement: lite::CachedStatement<'c>, sql: &str) -> Self {
        Self { inner: Prepared::Cached(statement), sql: sql.into() }
    }

    /// The statement and its text.
    fn parts(&mut self) -> (&mut lite::Statement<'c>, &str) {
        let statement = match &mut self.inner {
            Prepared::Own(statement) => statement,
            Prepared::Cached(statement) => statement,
        };
        (statement, &self.sql)
    }

    /// Runs the statement; answers the rows it changed.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// assert_eq!(db.prepare("DELETE FROM card WHERE id = ?1")?.execute([1])?, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn execute<P: Params>(&mut self, params: P) -> Result<usize> {
        let (statement, sql) = self.parts();
        run(sql, Location::caller(), |rows| count(*rows), || statement.execute(params))
    }

    /// Runs an `INSERT`; answers the id of its row.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// assert_eq!(db.prepare("INSERT INTO card (title) VALUES (?1)")?.insert(["second"])?, 2);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn insert<P: Params>(&mut self, params: P) -> Result<i64> {
        let (statement, sql) = self.parts();
        run(sql, Location::caller(), |_| Some(1), || statement.insert(params))
    }

    /// Whether the query has a row.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// assert!(!db.prepare("SELECT id FROM card WHERE title = ?1")?.exists(["second"])?);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn exists<P: Params>(&mut self, params: P) -> Result<bool> {
        let (statement, sql) = self.parts();
        run(sql, Location::caller(), |exists| Some(u64::from(*exists)), || statement.exists(params))
    }

    /// Runs the query and gives its first row to `f`.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let title: String = db.prepare("SELECT title FROM card")?.query_row([], |row| row.get(0))?;
    /// assert_eq!(title, "first");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn query_row<T, P: Params, F: FnOnce(&Row<'_>) -> Result<T>>(&mut self, params: P, f: F) -> Result<T> {
        let (statement, sql) = self.parts();
        run_row(sql, Location::caller(), |running| first_row(running, statement.query(params)?, f))
    }

    /// Runs the query and gives its only row to `f`.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let title: String = db.prepare("SELECT title FROM card")?.query_one([], |row| row.get(0))?;
    /// assert_eq!(title, "first");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn query_one<T, P: Params, F: FnOnce(&Row<'_>) -> Result<T>>(&mut self, params: P, f: F) -> Result<T> {
        let (statement, sql) = self.parts();
        run_row(sql, Location::caller(), |running| only_row(running, statement.query(params)?, f))
    }

    /// Runs the statement with the parameters bound before; answers the rows it changed.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let mut delete = db.prepare("DELETE FROM card WHERE id = ?1")?;
    /// delete.raw_bind_parameter(1, 1)?;
    /// assert_eq!(delete.raw_execute()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn raw_execute(&mut self) -> Result<usize> {
        let (statement, sql) = self.parts();
        run(sql, Location::caller(), |rows| count(*rows), || statement.raw_execute())
    }

    /// Runs the query with the parameters bound before.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let mut select = db.prepare("SELECT title FROM card WHERE id = ?1")?;
    /// select.raw_bind_parameter(1, 1)?;
    /// assert!(select.raw_query().next()?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn raw_query(&mut self) -> Rows<'_> {
        let (statement, sql) = self.parts();
        let begin = begin(sql, Location::caller());
        Rows { inner: statement.raw_query(), begin, running: None, read: 0 }
    }

    /// Runs the query; it begins with the first row asked for.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let mut select = db.prepare("SELECT title FROM card")?;
    /// let mut rows = select.query([])?;
    /// while let Some(row) = rows.next()? {
    ///     assert_eq!(row.get::<_, String>(0)?, "first");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn query<P: Params>(&mut self, params: P) -> Result<Rows<'_>> {
        let (statement, sql) = self.parts();
        let begin = begin(sql, Location::caller());
        match statement.query(params) {
            Ok(inner) => Ok(Rows { inner, begin, running: None, read: 0 }),
            Err(error) => {
                begin.begin().end(failure(&error));
                Err(error)
            }
        }
    }

    /// Runs the query and maps its rows.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let mut select = db.prepare("SELECT title FROM card")?;
    /// let titles: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    /// assert_eq!(titles, ["first"]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn query_map<T, P: Params, F>(&mut self, params: P, f: F) -> Result<MappedRows<'_, F>>
    where
        F: FnMut(&Row<'_>) -> Result<T>,
    {
        Ok(self.query(params)?.mapped(f))
    }

    /// As [`query_map`](Self::query_map), for a closure with an error of its own.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// # #[derive(Debug)]
    /// # struct Trouble;
    /// # impl From<rusqlite::Error> for Trouble { fn from(_: rusqlite::Error) -> Self { Trouble } }
    /// let mut select = db.prepare("SELECT title FROM card")?;
    /// let mut ids = select.query_and_then([], |row| row.get::<_, String>(0)?.parse::<u64>().map_err(|_| Trouble))?;
    /// assert!(matches!(ids.next(), Some(Err(Trouble))), "`first` is no number");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn query_and_then<T, E, P, F>(&mut self, params: P, f: F) -> Result<MappedRows<'_, F>>
    where
        P: Params,
        E: From<Error>,
        F: FnMut(&Row<'_>) -> std::result::Result<T, E>,
    {
        Ok(MappedRows { rows: self.query(params)?, f })
    }
}

/// The rows of a query, which is counted when they end, fail, or are dropped.
///
/// # Examples
/// ```
/// # fn main() -> rusqlite::Result<()> {
/// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
/// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
/// let mut select = db.prepare("SELECT id FROM card")?;
/// let mut rows = select.query([])?;
/// assert!(rows.next()?.is_some());
/// // Enough: the query ends here, and well.
/// drop(rows);
/// # Ok(())
/// # }
/// ```
pub struct Rows<'s> {
    inner: lite::Rows<'s>,
    begin: Begin,
    /// Set from the first row on.
    running: Option<Running>,
    read: u64,
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("read", &self.read).finish_non_exhaustive()
    }
}

impl<'s> Rows<'s> {
    /// The next row.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let mut select = db.prepare("SELECT id FROM card")?;
    /// let mut rows = select.query([])?;
    /// assert!(rows.next()?.is_some() && rows.next()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[expect(clippy::should_implement_trait, reason = "a row borrows from its rows, as in rusqlite")]
    pub fn next(&mut self) -> Result<Option<&Row<'s>>> {
        let begin = self.begin;
        let running = self.running.get_or_insert_with(|| begin.begin());
        running.resume();
        let next = {
            let _inside = running.query().map(Inside::enter);
            self.inner.next()
        };
        match &next {
            Ok(Some(_)) => {
                self.read += 1;
                running.keep_scope();
                running.pause();
            }
            Ok(None) => running.end(QueryEnd::done(Some(self.read))),
            Err(error) => running.end(QueryEnd { rows: Some(self.read), ..failure(error) }),
        }
        next
    }

    /// An iterator over what `f` makes of the rows.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let mut select = db.prepare("SELECT id FROM card")?;
    /// let ids: Result<Vec<i64>, rusqlite::Error> = select.query([])?.mapped(|row| row.get(0)).collect();
    /// assert_eq!(ids?, [1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn mapped<T, F: FnMut(&Row<'_>) -> Result<T>>(self, f: F) -> MappedRows<'s, F> {
        MappedRows { rows: self, f }
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        // The reader has seen enough, which is no failure.
        if let Some(running) = &mut self.running
            && self.read > 0
        {
            running.end(QueryEnd::done(Some(self.read)));
        }
    }
}

/// The mapped rows of a query.
///
/// # Examples
/// ```
/// # fn main() -> rusqlite::Result<()> {
/// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
/// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
/// let mut select = db.prepare("SELECT id FROM card")?;
/// let ids = select.query_map([], |row| row.get::<_, i64>(0))?;
/// assert_eq!(ids.flatten().sum::<i64>(), 1);
/// # Ok(())
/// # }
/// ```
pub struct MappedRows<'s, F> {
    rows: Rows<'s>,
    f: F,
}

impl<F> fmt::Debug for MappedRows<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)
    }
}

impl<T, E: From<Error>, F: FnMut(&Row<'_>) -> std::result::Result<T, E>> Iterator for MappedRows<'_, F> {
    type Item = std::result::Result<T, E>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.rows.next() {
            Ok(row) => row.map(&mut self.f),
            Err(error) => Some(Err(error.into())),
        }
    }
}
