//! Which node of several on one store keeps a request that was sent to more than one of them.
//!
//! In: the keys of a cut's entries. Out: the positions of entries that another node claimed first. Each node looks for
//! repeats in its own log by itself ([`crate::log::repeats`]); this is about the others' logs only.
//!
//! A node writes a claim for each key of a cut and then reads all claims of those keys. ClickHouse numbers the inserts of a
//! table in the order in which they become visible, so of two nodes that claim one key the second one to be visible sees
//! the first, and the first keeps the request whatever the other reads. A claim is known by log and position, so claiming
//! again, after a kill or an answer that was lost, gives the same answer as before.
//!
//! The replicas of a cluster number inserts before they become visible, so there nodes take turns: each insert of claims brings a row
//! with the number after the last one that is there, and of two with one number ClickHouse keeps the one that was committed first.
//! Whoever had number N saw N - 1 committed before it sent its own, so numbers of inserts are in the order of turns again, and all
//! claims of earlier turns can be read once the server has caught up.

use super::core::Core;
use super::inserts::{Backoff, until_done};
use crate::identity::ProjectId;
use crate::log::repeats::{BODY_MS, NAMED_KEY_MS, RepeatKey};
use crate::store::StoreError;
use serde::Deserialize;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Claims in one statement. Chosen: 60 bytes of text each, far below ClickHouse's limit of 256 KiB for a statement.
const MAX_CLAIMS: usize = 2_000;

/// Which rows of the table are turns: of no project, and of a kind that stays. The number stands in `key_high`.
const TURNS: &str = "project = 0 AND kind = 1";

/// An entry and the key it is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) position: u64,
    pub(super) project: ProjectId,
    pub(super) key: RepeatKey,
    pub(super) received_ms: i64,
}

impl Claim {
    /// The columns of the key: kind, its two halves, number.
    fn columns(&self) -> (u8, u64, u64, u64) {
        let (kind, key, number) = self.key.to_parts();
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(u64::MAX);
        (kind, half(key >> 64), half(key), number)
    }
}

/// All claims of one key.
#[derive(Debug, clickhouse::Row, Deserialize)]
struct Claimed {
    kind: u8,
    /// Number of the insert, log, position, time of receipt in ms.
    holders: Vec<(u64, u32, u64, i64)>,
}

/// Claims the entries for this node and answers the positions of those that another one claimed first, rising. Tries for
/// as long as ClickHouse is away.
///
/// # Errors
/// ClickHouse refuses the table of claims.
pub(super) async fn claim(core: &Arc<Core>, claims: &[Claim]) -> Result<Vec<u64>, StoreError> {
    let mut lost = Vec::new();
    let known: Vec<Claim> = claims.iter().copied().filter(|claim| claim.key != RepeatKey::None).collect();
    for some in known.chunks(MAX_CLAIMS) {
        if core.store.config().cluster.is_some() {
            claim_in_turn(core, some).await?;
        } else {
            let insert = insert_statement(core.log_id, some, None, &core.store.once(""));
            until_done(core, || core.store.execute(&insert)).await?;
        }
        let select = select_statement(some);
        let contested = until_done(core, || core.store.rows::<Claimed>(&select)).await?;
        for claimed in contested {
            lost.extend(lost_of(claimed, core.log_id));
        }
    }
    // A key may have been claimed at several times, of which some are of other cuts.
    lost.retain(|position| known.iter().any(|claim| claim.position == *position));
    lost.sort_unstable();
    Ok(lost)
}

/// Inserts claims as the next turn, and returns when this server has all turns before it.
async fn claim_in_turn(core: &Core, claims: &[Claim]) -> Result<(), StoreError> {
    let Some(first) = claims.first().map(|claim| claim.position) else { return Ok(()) };
    let log = core.log_id;
    let mut backoff = Backoff::new();
    loop {
        let known = core.turn.load(Ordering::Relaxed);
        let turn = until_done(core, || next_turn(core, known)).await?;
        let insert = insert_statement(log, claims, Some((turn, first)), &core.store.once(&format!("turn/{turn}")));
        let inserted = core.store.execute(&insert).await;
        // Whatever the answer was, the row of the turn says whose it is.
        let ours = format!(
            "SELECT count() FROM claims WHERE {TURNS} AND key_high = {turn} AND log = {log} AND position = {first}"
        );
        let is_ours = until_done(core, || async {
            core.store.catch_up("claims").await?;
            core.store.number(&ours).await
        });
        if is_ours.await? > 0 {
            core.turn.fetch_max(turn, Ordering::Relaxed);
            return Ok(());
        }
        if let Err(error) = inserted {
            if backoff.is_refused(&error) {
                return Err(error);
            }
            backoff.wait(core, &error).await;
        }
    }
}

/// The number after that of the latest turn, which is not before `known`.
async fn next_turn(core: &Core, known: u64) -> Result<u64, StoreError> {
    core.store.catch_up("claims").await?;
    let latest = format!("SELECT max(key_high) FROM claims WHERE {TURNS} AND key_high >= {known}");
    Ok(core.store.number(&latest).await? + 1)
}

fn insert_statement(log: u32, claims: &[Claim], turn: Option<(u64, u64)>, settings: &str) -> String {
    let mut sql = format!(
        "INSERT INTO claims (project, kind, key_high, key_low, number, log, position, received) \
         SETTINGS async_insert = 0, {settings} VALUES "
    );
    if let Some((turn, first)) = turn {
        // Writing to a String cannot fail.
        write!(sql, "(0,1,{turn},0,0,{log},{first},now64(3)),").unwrap_or_default();
    }
    for claim in claims {
        let (kind, high, low, number) = claim.columns();
        let Claim { position, project, received_ms, .. } = claim;
        write!(
            sql,
            "({project},{kind},{high},{low},{number},{log},{position},fromUnixTimestamp64Milli({received_ms})),"
        )
        .unwrap_or_default();
    }
    sql.pop();
    sql
}

/// The keys that more than one node claimed, with all their claims.
fn select_statement(claims: &[Claim]) -> String {
    let mut keys = String::new();
    for claim in claims {
        let (kind, high, low, number) = claim.columns();
        write!(keys, "({},{kind},{high},{low},{number}),", claim.project).unwrap_or_default();
    }
    keys.pop();
    format!(
        "SELECT kind, groupArray((block, log, position, received_ms)) AS holders FROM \
         (SELECT project, kind, key_high, key_low, number, log, position, toUnixTimestamp64Milli(received) AS received_ms, \
         toUInt64(min(_block_number)) AS block FROM claims \
         WHERE (project, kind, key_high, key_low, number) IN ({keys}) \
         GROUP BY project, kind, key_high, key_low, number, log, position, received_ms) \
         GROUP BY project, kind, key_high, key_low, number HAVING uniqExact(log) > 1 \
         SETTINGS select_sequential_consistency = 1"
    )
}

/// The positions of `log` that came second. In order of their claims, one is a repeat when an earlier one that was not a
/// repeat itself lies within the time its kind of key holds, as it would be in a single log.
fn lost_of(claimed: Claimed, log: u32) -> Vec<u64> {
    let holds_ms = match claimed.kind {
        2 => NAMED_KEY_MS,
        3 => BODY_MS,
        _ => i64::MAX,
    };
    let mut holders = claimed.holders;
    holders.sort_unstable();
    let mut first: Vec<i64> = Vec::new();
    let mut lost = Vec::new();
    for (_, holder, position, received_ms) in holders {
        if !first.iter().any(|earlier| (received_ms - earlier).abs() <= holds_ms) {
            first.push(received_ms);
        } else if holder == log {
            lost.push(position);
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(kind: u8, holders: &[(u64, u32, u64, i64)], log: u32) -> Vec<u64> {
        lost_of(Claimed { kind, holders: holders.to_vec() }, log)
    }

    #[test]
    fn the_first_claim_to_be_visible_keeps_the_request_whatever_the_clocks_say() {
        let holders = [(7, 2, 40, 1_000), (5, 1, 90, 9_000)];
        assert_eq!(lost(1, &holders, 1), Vec::<u64>::new());
        assert_eq!(lost(1, &holders, 2), [40]);
    }

    #[test]
    fn a_key_that_holds_for_a_time_is_news_after_it() {
        let minute = 60_000;
        // Log 1 at 0, log 2 nine minutes later, log 1 after eighteen: the second was no first, so the third is news.
        let holders = [(1, 1, 10, 0), (2, 2, 20, 9 * minute), (3, 1, 30, 18 * minute)];
        assert_eq!((lost(3, &holders, 1), lost(3, &holders, 2)), (vec![], vec![20]));
        assert_eq!((lost(2, &holders, 1), lost(2, &holders, 2)), (vec![30], vec![20]));
    }

    #[test]
    fn statements_name_every_key_by_its_parts() {
        let key = RepeatKey::Sdk { instance: u128::from(u64::MAX) << 64 | 3, number: 4 };
        let claims = [Claim { position: 9, project: ProjectId(2), key, received_ms: 5 }];
        let max = u64::MAX;
        assert!(
            insert_statement(7, &claims, None, "s = 1")
                .ends_with(&format!("s = 1 VALUES (2,1,{max},3,4,7,9,fromUnixTimestamp64Milli(5))"))
        );
        let in_turn = insert_statement(7, &claims, Some((8, 9)), "s = 1");
        assert!(in_turn.contains(&format!(" VALUES (0,1,8,0,0,7,9,now64(3)),(2,1,{max},3,4,7,9,")), "{in_turn}");
        assert!(select_statement(&claims).contains(&format!("IN ((2,1,{max},3,4))")));
    }
}
