//! `gemba rebuild --from --to`: makes the roll-ups of a time range anew from the raw rows, and compares them.
//!
//! The roll-ups are projections, committed with the rows they are made of; rebuilding is for a projection that was
//! added or doubted. The range is of the time of receipt, because that is what partitions are made of.

use super::serve::StoreArgs;
use super::store::{OpenStore, with_store};
use super::{Failure, say};
use crate::store::rollups::{self, Rebuilt};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use std::process::ExitCode;

/// Arguments of `gemba rebuild`.
#[derive(Debug, Args)]
pub(super) struct RebuildArgs {
    /// Begin of the range, RFC 3339
    #[arg(long, value_name = "TIME")]
    from: Timestamp,
    /// End of the range, exclusive
    #[arg(long, value_name = "TIME")]
    to: Timestamp,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Rebuilds and reports; exit code 1 when a roll-up differs from the recount.
pub(super) async fn run(args: RebuildArgs) -> Result<ExitCode, Failure> {
    let RebuildArgs { from, to, store, json } = args;
    if from >= to {
        return Err(Failure::new("--from must lie before --to", "both are RFC 3339, for example 2026-01-31T00:00:00Z"));
    }
    let rebuilt = with_store(&store, async |store: &OpenStore| {
        let hint = "running it again goes on where it stopped";
        rollups::rebuild(&store.client, from.as_millisecond(), to.as_millisecond())
            .await
            .map_err(|error| Failure::of(&error, hint))
    })
    .await?;
    let all_equal = rebuilt.iter().all(Rebuilt::is_equal);
    if json {
        let list: Vec<_> = rebuilt
            .iter()
            .map(|one| {
                json!({"table": one.table, "rollup": one.rollup, "partitions": one.partitions,
                    "groups_counted": one.raw.groups, "groups_in_rollup": one.from_rollup.groups, "equal": one.is_equal()})
            })
            .collect();
        say(&json!({"rebuilt": list, "equal": all_equal}).to_string())?;
    } else {
        for one in &rebuilt {
            let Rebuilt { table, rollup, partitions, raw, from_rollup } = one;
            let verdict = if one.is_equal() { "equal" } else { "DIFFERENT" };
            let (counted, held) = (raw.groups, from_rollup.groups);
            say(&format!(
                "{table}.{rollup}: {partitions} partitions rebuilt; {counted} groups counted from raw rows, {held} in the \
                 roll-up: {verdict}"
            ))?;
        }
    }
    Ok(if all_equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
