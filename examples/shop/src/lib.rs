//! A small real shop, instrumented with Gemba, and the people who use it.
//!
//! [`server`] is the application: HTTP pages over [`database`], a SQLite file, with the statements of [`statements`]. It
//! is built well or, by [`plants`], badly in exactly known places. [`people`] and [`simulation`] use it over HTTP through
//! days of shifted time. Everything recorded goes through the real SDK; nothing knows what will be reported.

pub mod database;
pub mod people;
pub mod plants;
pub mod server;
pub mod simulation;
pub mod statements;

use plants::Plants;
use simulation::{Period, Report, VisitError};
use std::path::PathBuf;
use tokio::net::TcpListener;

/// One release of the shop in use for some days.
#[derive(Debug, Clone)]
pub struct Run {
    /// Endpoint of the Gemba server.
    pub endpoint: String,
    /// Ingest key.
    pub key: String,
    /// The SQLite file; created by release 1.
    pub file: PathBuf,
    /// `1.0.0` or `2.0.0`.
    pub release: Release,
    /// What is wrong with the shop.
    pub plants: Plants,
    /// Who visits and when.
    pub period: Period,
}

/// The two releases of the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The first.
    One,
    /// The second, with its schema change.
    Two,
}

impl Release {
    /// The version it reports.
    pub const fn version(self) -> &'static str {
        match self {
            Self::One => "1.0.0",
            Self::Two => "2.0.0",
        }
    }
}

/// Why a run of the shop failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database could not be made or opened.
    #[error("the shop's database could not be prepared")]
    Database(#[from] sqlx::Error),
    /// No port could be had.
    #[error("the shop could not listen")]
    Listen(#[from] std::io::Error),
    /// The people could not get through.
    #[error("a visit failed")]
    Visit(#[from] VisitError),
    /// The SDK did not start.
    #[error("recording could not start")]
    Start(#[from] gemba::InitError),
    /// Not everything recorded was delivered.
    #[error("what was recorded could not be delivered")]
    Flush(#[from] gemba::FlushError),
}

/// Opens the shop, lets the people use it, closes it and delivers what was recorded. One call per process: the SDK
/// knows one release.
///
/// # Errors
/// See [`RunError`].
pub async fn run(run: Run, progress: impl FnMut(f64)) -> Result<Report, RunError> {
    match run.release {
        Release::One => Database::create(&run.file, run.plants).await?,
        Release::Two => Database::migrate_to_release_2(&run.file, run.plants).await?,
    }
    let recording = gemba::Config::new("shop")
        .endpoint(&run.endpoint)
        .key(&run.key)
        .release(run.release.version())
        .environment("demo")
        // The demo runs the shop from the server's own binary, whose features are not the shop's.
        .declares_in("examples/shop/")
        .start()?;
    let database = Database::open(&run.file, run.plants).await?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(server::serve(listener, database, run.plants));
    let report = simulation::run(address, run.period, progress).await?;
    server.abort();
    recording.flush(std::time::Duration::from_secs(30))?;
    Ok(report)
}

use database::Database;
