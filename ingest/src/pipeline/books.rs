//! What of a project's records waits while some of a cut is stored and the rest is refused.
//!
//! In: a project, while the inserts are held. Out: the two numbers that the books of the project are told with. Everything is
//! counted in ClickHouse at that moment, nothing is remembered.

use super::Pipeline;
use crate::identity::ProjectId;
use crate::rows::Table;
use crate::store::StoreError;
use std::collections::BTreeMap;

/// Records of a project that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Acknowledged and in no table.
    pub records: u64,
    /// Of them those whose cut stands in the ledger already.
    pub booked: u64,
}

impl Pipeline {
    /// What of `project` waits. Right only while no insert is under way ([`Pipeline::hold_inserts`]).
    ///
    /// A cut that is set apart stands in the ledger, and those of its blocks that are not refused are stored.
    ///
    /// # Errors
    /// Those of ClickHouse.
    pub async fn waiting(&self, project: ProjectId) -> Result<Waiting, StoreError> {
        let records = self.status().pending_by_project.get(&project.0).copied().unwrap_or(0);
        let log = self.core.log_id;
        let (cuts, blocks) = self.core.peek(|book| {
            let mut blocks: BTreeMap<Table, Vec<String>> = BTreeMap::new();
            let mut cuts = Vec::new();
            for cut in book.open_cuts() {
                cuts.push(cut.number.to_string());
                for block in &cut.blocks {
                    // What is set aside is counted by its fate.
                    if let Some(table) = Table::parse(&block.table).filter(|table| *table != Table::SetAside) {
                        let batch = u64::from(log) << 40 | block.insert;
                        blocks.entry(table).or_default().push(batch.to_string());
                    }
                }
            }
            (cuts, blocks)
        });
        if cuts.is_empty() || records == 0 {
            return Ok(Waiting { records, booked: 0 });
        }
        let store = &self.core.store;
        let booked = store
            .number(&format!(
                "SELECT toUInt64(greatest(0, sumIf(toInt64(records), fate = 'received') \
                 - sumIf(toInt64(records), fate != 'received'))) FROM ledger FINAL \
                 WHERE project = {project} AND log = {log} AND cut IN ({})",
                cuts.join(", ")
            ))
            .await?;
        let mut stored = 0;
        for (table, batches) in blocks {
            let batches = batches.join(", ");
            let sql =
                format!("SELECT sum(t.record) FROM {table} AS t WHERE project = {project} AND batch IN ({batches})");
            stored += store.number(&sql).await?;
        }
        Ok(Waiting { records: records.saturating_sub(stored), booked: booked.saturating_sub(stored) })
    }
}
