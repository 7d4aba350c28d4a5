//! The command line: one module per subcommand.

pub mod engine;

/// The arguments of `gemba`.
#[derive(Debug, clap::Parser)]
#[command(
    name = "gemba",
    version,
    about = "Shows what users really do, where they give up, which queries make them wait"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run the embedded ClickHouse engine alone
    Engine(engine::EngineArgs),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// `gemba engine`.
    #[error(transparent)]
    Engine(#[from] engine::EngineCommandError),
}

/// Runs a command to its end.
///
/// # Errors
///
/// [`CliError`].
pub fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Engine(args) => Ok(engine::run(args)?),
    }
}
