//! The code a database gave for a failure, in a word of the machine.
//!
//! In: the text of an SQLSTATE or number. Out: [`StatusCode`], which is copied, compared and hashed without a look at any
//! text. It holds no message: what is longer than a code or holds anything but letters and digits is none.

use std::fmt;
use std::num::NonZeroU64;

/// A database's own code for how a query ended: an SQLSTATE (`23505`), or SQLite's extended number (`2067`).
///
/// OpenTelemetry's `db.response.status_code`.
///
/// # Examples
/// ```
/// use gemba::query::StatusCode;
/// assert_eq!(StatusCode::new("23505").map(|code| code.to_string()).as_deref(), Some("23505"));
/// assert_eq!(StatusCode::new("duplicate key (user)=(ann)"), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusCode(NonZeroU64);

/// Longest code, in bytes: an SQLSTATE has 5, numbers of SQLite and MySQL at most 5.
const MAX_BYTES: usize = 8;

impl StatusCode {
    /// The code with this text: 1 to 8 ASCII letters and digits. `None` for any other text.
    ///
    /// # Examples
    /// ```
    /// use gemba::query::StatusCode;
    /// assert!(StatusCode::new("23P01").is_some());
    /// assert_eq!(StatusCode::new("no such table"), None);
    /// ```
    pub fn new(code: &str) -> Option<Self> {
        let bytes = code.as_bytes();
        if bytes.len() > MAX_BYTES || !bytes.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut word = [0_u8; MAX_BYTES];
        for (to, from) in word.iter_mut().zip(bytes) {
            *to = *from;
        }
        NonZeroU64::new(u64::from_le_bytes(word)).map(Self)
    }

    /// The code as a word, for keys.
    pub(crate) fn word(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let bytes = self.0.get().to_le_bytes();
        bytes.iter().take_while(|byte| **byte != 0).try_for_each(|byte| f.write_char(char::from(*byte)))
    }
}

impl fmt::Debug for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatusCode({self})")
    }
}

/// What a violated constraint is called in `error.type`, by its SQLSTATE; `database` for every other code, which
/// `db.response.status_code` tells. The words are sqlx's kinds, so that a failure is the same through every wrapper.
#[cfg(any(feature = "tokio-postgres", test))]
pub(crate) fn kind_of_sqlstate(code: &str) -> &'static str {
    match code {
        "23505" => UNIQUE_VIOLATION,
        "23503" => FOREIGN_KEY_VIOLATION,
        "23502" => NOT_NULL_VIOLATION,
        "23514" => CHECK_VIOLATION,
        "23P01" => EXCLUSION_VIOLATION,
        _ => DATABASE,
    }
}

/// The words of `error.type` that wrappers share.
#[cfg(any(feature = "diesel", feature = "rusqlite", feature = "sqlx", feature = "tokio-postgres", test))]
#[allow(dead_code, reason = "each wrapper uses some of them")]
mod kinds {
    pub(crate) const UNIQUE_VIOLATION: &str = "unique_violation";
    pub(crate) const FOREIGN_KEY_VIOLATION: &str = "foreign_key_violation";
    pub(crate) const NOT_NULL_VIOLATION: &str = "not_null_violation";
    pub(crate) const CHECK_VIOLATION: &str = "check_violation";
    pub(crate) const EXCLUSION_VIOLATION: &str = "exclusion_violation";
    /// Any other error of the database.
    pub(crate) const DATABASE: &str = "database";
    /// The way to the database is gone.
    pub(crate) const IO: &str = "io";
    /// A parameter could not be sent.
    pub(crate) const ENCODE: &str = "encode";
    /// Anything else.
    pub(crate) const OTHER: &str = "other";
}
#[cfg(any(feature = "diesel", feature = "rusqlite", feature = "sqlx", feature = "tokio-postgres", test))]
#[allow(unused_imports, reason = "each wrapper uses some of them")]
pub(crate) use kinds::*;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_kept_as_it_is_and_a_message_is_none() {
        for code in ["23505", "23P01", "5", "12345678"] {
            assert_eq!(StatusCode::new(code).unwrap().to_string(), code);
        }
        for message in ["", "123456789", "no such table: cards", "é", "42 P01", "\0"] {
            assert_eq!(StatusCode::new(message), None, "{message}");
        }
        assert_eq!((kind_of_sqlstate("23P01"), kind_of_sqlstate("42P01")), (EXCLUSION_VIOLATION, DATABASE));
    }
}
