//! What a wrapped connection may be.

use ::rusqlite::{Connection, Savepoint, Transaction};

/// What leads to a connection: itself, a transaction, a savepoint, or a reference to one of them.
///
/// # Examples
/// ```
/// use gemba::rusqlite::{Connected, Timed};
/// fn count_cards(db: &Timed<impl Connected>) -> rusqlite::Result<i64> {
///     db.query_row("SELECT count(*) FROM card", [], |row| row.get(0))
/// }
/// # fn main() -> rusqlite::Result<()> {
/// let mut db = Timed::new(rusqlite::Connection::open_in_memory()?);
/// db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY)")?;
/// assert_eq!(count_cards(&db)?, 0);
/// assert_eq!(count_cards(&db.transaction()?)?, 0);
/// # Ok(())
/// # }
/// ```
pub trait Connected {
    /// The connection, not counted.
    ///
    /// # Examples
    /// ```
    /// use gemba::rusqlite::{Connected as _, Timed};
    /// # fn main() -> rusqlite::Result<()> {
    /// let db = Timed::new(rusqlite::Connection::open_in_memory()?);
    /// assert!(db.connection().is_autocommit());
    /// # Ok(())
    /// # }
    /// ```
    fn connection(&self) -> &Connection;
}

impl Connected for Connection {
    fn connection(&self) -> &Connection {
        self
    }
}

impl Connected for Transaction<'_> {
    fn connection(&self) -> &Connection {
        self
    }
}

impl Connected for Savepoint<'_> {
    fn connection(&self) -> &Connection {
        self
    }
}

impl<C: Connected + ?Sized> Connected for &C {
    fn connection(&self) -> &Connection {
        (**self).connection()
    }
}

impl<C: Connected + ?Sized> Connected for &mut C {
    fn connection(&self) -> &Connection {
        (**self).connection()
    }
}
