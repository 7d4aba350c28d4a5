//! How statements end: rusqlite's errors in our words, and what runs a statement and counts it.
//!
//! In: a text, a line of code and the work. Out: the work's own result, counted. What the caller's closure makes of a row is no
//! matter of the database: neither its error nor its time, and statements it runs count by themselves.

use std::panic::Location;

use ::rusqlite::{self as lite, Error, Result, Row, ffi};

use super::super::Dialect;
use super::super::status::{self, StatusCode};
use super::super::timing::{self, Begin, QueryEnd, Running};
use super::super::wrap;

pub(super) fn begin(sql: &str, location: &'static Location<'static>) -> Begin {
    wrap::begin(Dialect::Sqlite, sql, location)
}

/// How a statement with this error ended. SQLite's extended code is the status.
pub(super) fn failure(error: &Error) -> QueryEnd {
    let kind = match error {
        Error::NulError(_) | Error::InvalidQuery | Error::MultipleStatement => "invalid_query",
        Error::ToSqlConversionFailure(_) | Error::InvalidParameterName(_) | Error::InvalidParameterCount(..) => {
            status::ENCODE
        }
        // The rows are there; how many the caller wanted is no matter of the database.
        Error::QueryReturnedNoRows => return QueryEnd::done(Some(0)),
        Error::QueryReturnedMoreThanOneRow => return QueryEnd::done(Some(2)),
        // The source, because a variant with the place in the text exists only with one of rusqlite's features.
        _ => match std::error::Error::source(error).and_then(|source| source.downcast_ref::<ffi::Error>()) {
            Some(error) => return of_sqlite(*error),
            None => status::OTHER,
        },
    };
    QueryEnd::failed(kind, None)
}

fn of_sqlite(error: ffi::Error) -> QueryEnd {
    let kind = match error.extended_code {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            status::UNIQUE_VIOLATION
        }
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => status::FOREIGN_KEY_VIOLATION,
        ffi::SQLITE_CONSTRAINT_NOTNULL => status::NOT_NULL_VIOLATION,
        ffi::SQLITE_CONSTRAINT_CHECK => status::CHECK_VIOLATION,
        _ => status::DATABASE,
    };
    QueryEnd::failed(kind, StatusCode::new(&error.extended_code.to_string()))
}

fn end_of<T>(result: &Result<T>, rows: impl FnOnce(&T) -> Option<u64>) -> QueryEnd {
    match result {
        Ok(output) => QueryEnd::done(rows(output)),
        Err(error) => failure(error),
    }
}

/// Runs `work` as the statement with this text.
pub(super) fn run<T>(
    sql: &str,
    location: &'static Location<'static>,
    rows: impl FnOnce(&T) -> Option<u64>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    timing::run_with(begin(sql, location).begin(), work, |result| end_of(result, rows))
}

/// Counts a statement that SQLite refused to prepare.
pub(super) fn refused<T>(sql: &str, location: &'static Location<'static>, result: Result<T>) -> Result<T> {
    if let Err(error) = &result {
        begin(sql, location).begin().end(failure(error));
    }
    result
}

/// Tells an error of the database from one of the caller's closure over a row.
pub(super) enum Failure<E> {
    Database(Error),
    Caller(E),
}

impl<E> From<Error> for Failure<E> {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// Runs a query for one row. What the caller's closure makes of the row is no failure of the query.
pub(super) fn run_row<T, E: From<Error>>(
    sql: &str,
    location: &'static Location<'static>,
    work: impl FnOnce(&mut Running) -> std::result::Result<T, Failure<E>>,
) -> std::result::Result<T, E> {
    let judge = |result: &std::result::Result<T, Failure<E>>| match result {
        Ok(_) | Err(Failure::Caller(_)) => QueryEnd::done(Some(1)),
        Err(Failure::Database(error)) => failure(error),
    };
    timing::run_knowing(begin(sql, location).begin(), work, judge).map_err(|failed| match failed {
        Failure::Database(error) => error.into(),
        Failure::Caller(error) => error,
    })
}

/// Gives the first row to `f`.
pub(super) fn first_row<T, E>(
    running: &mut Running,
    mut rows: lite::Rows<'_>,
    f: impl FnOnce(&Row<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<T, Failure<E>> {
    let row = rows.next()?.ok_or(Error::QueryReturnedNoRows)?;
    running.outside(|| f(row)).map_err(Failure::Caller)
}

/// Gives the only row to `f`; a second one is an error.
pub(super) fn only_row<T, E>(
    running: &mut Running,
    mut rows: lite::Rows<'_>,
    f: impl FnOnce(&Row<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<T, Failure<E>> {
    let row = rows.next()?.ok_or(Error::QueryReturnedNoRows)?;
    let output = running.outside(|| f(row)).map_err(Failure::Caller)?;
    if rows.next()?.is_some() {
        return Err(Error::QueryReturnedMoreThanOneRow.into());
    }
    Ok(output)
}

pub(super) fn count(rows: usize) -> Option<u64> {
    u64::try_from(rows).ok()
}
