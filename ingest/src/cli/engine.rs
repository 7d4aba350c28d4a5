//! `gemba engine`: the embedded ClickHouse engine alone, with ClickHouse's HTTP interface.
//!
//! In: flags and environment. Out: a process that serves until it is told to stop. Also what `gemba serve` starts as its
//! child, then with `--supervised`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::engine::install::{self, InstallError, Places};
use crate::engine::process::{self, Listen, ProcessConfig, ProcessError};
use crate::engine::{FAILED, PASSWORD_VARIABLE, READY};

/// Run the embedded ClickHouse engine alone and serve ClickHouse's HTTP interface, user `default`.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// Folder of the engine's data; created if missing
    #[arg(long, value_name = "DIR", env = "GEMBA_ENGINE_DATA")]
    pub data: PathBuf,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8123", conflicts_with = "supervised")]
    pub listen: SocketAddr,
    /// Password of the user `default`; the environment hides it from other users of the machine
    #[arg(long, value_name = "PW", env = PASSWORD_VARIABLE, hide_env_values = true)]
    pub password: String,
    /// Engine library to use; otherwise it is looked for, and fetched once if need be
    #[arg(long, value_name = "FILE")]
    pub library: Option<PathBuf>,
    /// Memory the engine may use in bytes; nine tenths of the machine's otherwise
    #[arg(long, value_name = "BYTES")]
    pub max_memory: Option<u64>,
    /// Allow an address that other machines can reach; the connection is not encrypted
    #[arg(long)]
    pub insecure_listen: bool,
    /// Listen on the socket given as standard input, report on standard output, end with the parent
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// Why `gemba engine` failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineCommandError {
    /// No library.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The engine did not start.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The address can be reached from other machines.
    #[error("{0} can be reached by other machines, and passwords would travel unencrypted")]
    Exposed(SocketAddr),
}

/// Runs the command; blocks until the engine is told to stop.
///
/// # Errors
///
/// [`EngineCommandError`], only before the engine answers.
pub fn run(args: EngineArgs) -> Result<(), EngineCommandError> {
    if !args.supervised {
        return serve(args, |address| {
            // A closed standard output is no reason not to serve.
            drop(writeln!(std::io::stdout(), "ClickHouse's HTTP interface: http://{address} (user default)"));
        });
    }
    let say = |line: &str| {
        let mut output = std::io::stdout();
        // The parent may be gone, which the engine finds out by itself.
        drop(writeln!(output, "{line}").and_then(|()| output.flush()));
    };
    let outcome = serve(args, |_| say(READY));
    if let Err(error) = &outcome {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        say(&format!("{FAILED}{}", text.replace('\n', " ")));
    }
    outcome
}

fn serve(args: EngineArgs, report: impl FnOnce(SocketAddr)) -> Result<(), EngineCommandError> {
    if !args.supervised && !args.insecure_listen && !args.listen.ip().is_loopback() {
        return Err(EngineCommandError::Exposed(args.listen));
    }
    let mut places = Places::from_environment();
    places.library = args.library.or(places.library);
    let library = install::find_or_fetch(&places, &mut std::io::stderr())?;
    let listen = if args.supervised { Listen::Inherited } else { Listen::Address(args.listen) };
    let config =
        ProcessConfig { data: args.data, library, listen, password: args.password, max_memory_bytes: args.max_memory };
    Ok(process::run(config, report)?)
}
