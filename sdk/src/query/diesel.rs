//! Exact capture of diesel queries: an instrumentation of its connections.
//!
//! In: diesel's events of a connection (or of diesel-async's). Out: every query counted, from its start until its last row
//! was read, with the kind of its error; `BEGIN` and `COMMIT` are queries like others. Diesel shows a query with the values
//! bound to it: what is read of it ends where they begin, before they are written, so none is ever seen here.
//!
//! What diesel does not tell: rows, which count as 0, and the database's own code for an error. The line of code is known
//! where the connection is passed as `connection.here()`. A query that never comes to an end, because its values could not
//! be sent, counts as `cancelled` when the next one begins or the connection goes.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use diesel::prelude::*;
//! use gemba::diesel::TimedExt as _;
//! // Once, before connections are made: all of them are counted.
//! gemba::diesel::install(gemba::query::Dialect::Sqlite)?;
//! let mut connection = SqliteConnection::establish(":memory:")?;
//! diesel::sql_query("CREATE TABLE card (id INTEGER PRIMARY KEY)").execute(&mut connection)?;
//! // With this line of code:
//! diesel::sql_query("DELETE FROM card").execute(connection.here())?;
//! # Ok(())
//! # }
//! ```

use std::fmt::{self, Write as _};
use std::panic::Location;

use ::diesel::connection::{Connection, Instrumentation, InstrumentationEvent, set_default_instrumentation};
use ::diesel::result::{DatabaseErrorKind, Error};

use super::Dialect;
use super::status;
use super::table::Code;
use super::timing::{QueryEnd, Running};
use super::wrap;

/// Counts the queries of one connection.
///
/// For a connection that exists: `connection.set_instrumentation(Timed::new(dialect))`, which replaces the one it had.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use diesel::prelude::*;
/// use gemba::{diesel::Timed, query::Dialect};
/// let mut connection = SqliteConnection::establish(":memory:")?;
/// connection.set_instrumentation(Timed::new(Dialect::Sqlite));
/// diesel::sql_query("CREATE TABLE card (id INTEGER PRIMARY KEY)").execute(&mut connection)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Timed {
    dialect: Dialect,
    /// The line of code of the next query.
    code: Code,
    running: Option<Running>,
    /// Memory for a query's text.
    text: String,
}

impl Timed {
    /// An instrumentation for a connection to a database of this dialect.
    ///
    /// # Examples
    /// ```
    /// let timed = gemba::diesel::Timed::new(gemba::query::Dialect::MySql);
    /// # drop(timed);
    /// ```
    pub const fn new(dialect: Dialect) -> Self {
        Self { dialect, code: Code { file: "", line: 0 }, running: None, text: String::new() }
    }

    fn start(&mut self, query: &dyn fmt::Display) {
        // One that never came to an end.
        self.running = None;
        let code = std::mem::take(&mut self.code);
        if !crate::state::is_recording() {
            return;
        }
        self.text.clear();
        let mut sink = WithoutValues { text: &mut self.text };
        // An error says only that the values began.
        let _values = write!(sink, "{query}");
        let mut running = wrap::begin(self.dialect, text_of(&self.text), code).begin();
        running.keep_scope();
        self.running = Some(running);
        // A list of thousands must not stay.
        self.text.shrink_to(MAX_KEPT_BYTES);
    }
}

/// Memory kept between two queries, in bytes. Chosen: most texts are shorter.
const MAX_KEPT_BYTES: usize = 4096;

/// What diesel writes between a query and its values.
const BEFORE_VALUES: &str = " -- binds: ";

/// The text of a query before its values. Looked for from the front, so that values which hold the mark hide nothing.
fn text_of(shown: &str) -> &str {
    shown.split_once(BEFORE_VALUES).map_or(shown, |(text, _)| text)
}

/// Takes what is written until the values begin, and refuses them.
struct WithoutValues<'a> {
    text: &'a mut String,
}

impl fmt::Write for WithoutValues<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // The mark may come in a piece of its own or behind the query; its last bytes may be missing still.
        let seen = self.text.len();
        self.text.push_str(piece);
        let from = self.text.floor_char_boundary(seen.saturating_sub(BEFORE_VALUES.len()));
        let ends = self.text.get(from..).is_some_and(|tail| tail.contains(BEFORE_VALUES));
        if ends { Err(fmt::Error) } else { Ok(()) }
    }
}

/// How a query with this error ended.
fn failure(error: &Error) -> QueryEnd {
    let kind = match error {
        Error::DatabaseError(kind, _) => match kind {
            DatabaseErrorKind::UniqueViolation => status::UNIQUE_VIOLATION,
            DatabaseErrorKind::ForeignKeyViolation => status::FOREIGN_KEY_VIOLATION,
            DatabaseErrorKind::NotNullViolation => status::NOT_NULL_VIOLATION,
            DatabaseErrorKind::CheckViolation => status::CHECK_VIOLATION,
            DatabaseErrorKind::ExclusionViolation => status::EXCLUSION_VIOLATION,
            DatabaseErrorKind::SerializationFailure => "serialization_failure",
            DatabaseErrorKind::ReadOnlyTransaction => "read_only_transaction",
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => status::IO,
            _ => status::DATABASE,
        },
        Error::InvalidCString(_) | Error::QueryBuilderError(_) => "invalid_query",
        Error::SerializationError(_) => status::ENCODE,
        Error::DeserializationError(_) => "decode",
        _ => status::OTHER,
    };
    QueryEnd::failed(kind, None)
}

impl Instrumentation for Timed {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { query, .. } => self.start(&query),
            InstrumentationEvent::FinishQuery { error, .. } => {
                if let Some(mut running) = self.running.take() {
                    running.end(error.map_or(QueryEnd::done(None), failure));
                }
            }
            _ => {}
        }
    }
}

/// Counts the queries of all connections made from now on, which go to databases of this dialect. A process with several
/// kinds gives each connection its own [`Timed`].
///
/// # Errors
/// Diesel's, when another thread panicked while it set a default instrumentation.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use diesel::prelude::*;
/// gemba::diesel::install(gemba::query::Dialect::Sqlite)?;
/// let connection = SqliteConnection::establish(":memory:")?;
/// # drop(connection);
/// # Ok(())
/// # }
/// ```
pub fn install(dialect: Dialect) -> Result<(), Error> {
    // Diesel takes a plain function, which cannot hold the dialect.
    let make: fn() -> Option<Box<dyn Instrumentation>> = match dialect {
        Dialect::Generic => || Some(Box::new(Timed::new(Dialect::Generic))),
        Dialect::Postgres => || Some(Box::new(Timed::new(Dialect::Postgres))),
        Dialect::MySql => || Some(Box::new(Timed::new(Dialect::MySql))),
        Dialect::Sqlite => || Some(Box::new(Timed::new(Dialect::Sqlite))),
        Dialect::ClickHouse => || Some(Box::new(Timed::new(Dialect::ClickHouse))),
        Dialect::SqlServer => || Some(Box::new(Timed::new(Dialect::SqlServer))),
    };
    set_default_instrumentation(make)
}

/// Adds [`here`](Self::here) to every connection of diesel.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use diesel::prelude::*;
/// use gemba::diesel::TimedExt as _;
/// gemba::diesel::install(gemba::query::Dialect::Sqlite)?;
/// let mut connection = SqliteConnection::establish(":memory:")?;
/// diesel::sql_query("CREATE TABLE card (id INTEGER PRIMARY KEY)").execute(connection.here())?;
/// # Ok(())
/// # }
/// ```
pub trait TimedExt: Connection + Sized {
    /// The connection, whose next query is counted under the line of this call. Without a [`Timed`] it changes nothing.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use diesel::prelude::*;
    /// use gemba::diesel::TimedExt as _;
    /// let mut connection = SqliteConnection::establish(":memory:")?;
    /// assert_eq!(diesel::select(1_i32.into_sql::<diesel::sql_types::Integer>()).get_result(connection.here()), Ok(1));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn here(&mut self) -> &mut Self {
        let code = Location::caller().into();
        if let Some(timed) = self.instrumentation().downcast_mut::<Timed>() {
            timed.code = code;
        }
        self
    }
}

impl<C: Connection> TimedExt for C {}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pieces: &[&str]) -> String {
        let mut text = String::new();
        let mut sink = WithoutValues { text: &mut text };
        for piece in pieces {
            if sink.write_str(piece).is_err() {
                break;
            }
        }
        text_of(&text).to_owned()
    }

    #[test]
    fn values_bound_to_a_query_are_never_read() {
        assert_eq!(seen(&["SELECT a", " -- binds: ", "[\"MARKER\"]"]), "SELECT a");
        assert_eq!(seen(&["SELECT a -- binds: [\"MARKER -- binds: \\n\"]"]), "SELECT a");
        assert_eq!(seen(&["SELECT a -- bi", "nds: ", "MARKER"]), "SELECT a");
        assert_eq!(seen(&["SELECT 'é' -", "- binds", ":", " MARKER"]), "SELECT 'é'");
        assert_eq!(seen(&["BEGIN"]), "BEGIN");
    }
}
