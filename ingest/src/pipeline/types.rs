//! What goes into the pipeline, what comes out, and its settings and figures.

use crate::identity::ProjectId;
use crate::log::disk::{Disk, OsDisk};
use crate::log::{LogError, SyncTimes};
use crate::otlp::{DecodeError, Encoding, Signal};
use crate::outcome::Tally;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

pub use crate::log::ContentEncoding;

/// One export request, authenticated and inflated.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The project of its key.
    pub project: ProjectId,
    /// The project's retention class.
    pub retention_class: u8,
    /// What it carries.
    pub signal: Signal,
    /// How it is written.
    pub encoding: Encoding,
    /// The body, inflated.
    pub body: Bytes,
    /// The body as it came over the wire; this is what the log keeps.
    pub raw: Bytes,
    /// How `raw` is compressed.
    pub content_encoding: ContentEncoding,
    /// The header `Idempotency-Key`, if any.
    pub key: Option<String>,
}

/// What records were before they are taken in once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Why they had been set aside, one of our words.
    pub reason: String,
    /// When they were received then by the books, which tell a cut with its first entry, ms since the Unix epoch.
    pub received_ms: i64,
}

/// The promise that a request is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What became of its records; a repeat gets the tally of the first time.
    pub tally: Tally,
    /// The request came before and was not stored again.
    pub deduplicated: bool,
}

/// Why a request was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// No room just now; the client keeps its data and comes again.
    #[error("busy: {reason}")]
    Busy {
        /// When to come again.
        retry_after: Duration,
        /// `queue_full`, `log_full`, `disk_full` or `disk_failed`.
        reason: &'static str,
    },
    /// The body cannot be read; sending it again cannot help.
    #[error("the body cannot be decoded")]
    Decode(#[from] DecodeError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Closed,
}

/// Why the pipeline could not be started.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The log's folder.
    #[error("the log cannot be opened")]
    Log(#[from] LogError),
    /// A thread could not be started.
    #[error("no thread for the pipeline")]
    Thread(#[source] std::io::Error),
}

/// Settings; the defaults hold for a machine with 2 cores and 1 GiB of memory.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// Folder of the log; made when missing.
    pub dir: PathBuf,
    /// File system it lies on.
    pub disk: Arc<dyn Disk>,
    /// Rows that make a cut. Design 6.3: 200,000.
    pub max_cut_rows: u64,
    /// Memory of rows that makes a cut. Design 6.3: 64 MiB.
    pub max_cut_bytes: usize,
    /// Age of the oldest row that makes a cut. Design 6.3: 1 s.
    pub max_cut_age: Duration,
    /// Memory of rows that wait for ClickHouse; beyond it they are dropped and later read from the log again. Chosen: two
    /// cuts of 200 k events being inserted and one waiting, which is how a busy server runs.
    pub max_waiting_bytes: usize,
    /// Requests waiting to be made durable. Chosen: more than a server's connections.
    pub max_queue_requests: usize,
    /// Bytes of requests waiting to be made durable, as sent and inflated. Chosen: what is decoded in about 100 ms.
    pub max_queue_bytes: usize,
    /// How long a request waits for room in the queue before it is refused: some clients drop a batch that is refused.
    pub max_queue_wait: Duration,
    /// Inserts at the same time. Chosen: one stores while the next is encoded and sent.
    pub max_inserts: usize,
    /// Size of the log on disk beyond which new data are refused.
    pub max_log_bytes: u64,
    /// Free disk below which new data are refused, kept for merges of the embedded engine.
    pub min_free_bytes: u64,
    /// Whether requests without a key are recognised by their body for 10 minutes.
    pub deduplicate_bodies: bool,
    /// Whether other nodes may store into the same ClickHouse, so that each key is claimed before its rows are inserted.
    /// Off for the embedded engine, which is this node's alone.
    pub shares_store: bool,
    /// Bytes reserved for a segment of the log.
    pub segment_bytes: u64,
}

impl PipelineConfig {
    /// The defaults, with the log in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            disk: Arc::new(OsDisk),
            max_cut_rows: 200_000,
            max_cut_bytes: 64 << 20,
            max_cut_age: Duration::from_secs(1),
            max_waiting_bytes: 128 << 20,
            max_queue_requests: 4_096,
            max_queue_bytes: 32 << 20,
            max_queue_wait: Duration::from_secs(2),
            max_inserts: 2,
            max_log_bytes: 64 << 30,
            min_free_bytes: 1 << 30,
            deduplicate_bodies: true,
            shares_store: false,
            segment_bytes: crate::log::SEGMENT_BYTES,
        }
    }
}

/// Whether what is acknowledged goes to ClickHouse from memory or is read again from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// From memory.
    #[default]
    Live,
    /// From the log: after a start, or because ClickHouse was away or slow.
    Behind,
}

/// Records by fate since the pipeline was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FateCounts {
    /// Acknowledged, whatever became of them.
    pub received: u64,
    /// Refused by a rule.
    pub rejected: u64,
    /// Kept aside.
    pub set_aside: u64,
    /// Valid but nothing Gemba keeps.
    pub ignored: u64,
    /// Came before.
    pub deduplicated: u64,
    /// Of those received: were set aside before and were taken in once more.
    pub retried: u64,
    /// Proven to be stored, those acknowledged by a process before among them. Counted in the blocks that ClickHouse took, so
    /// that it can be held against the others.
    pub stored: u64,
}

/// Records set aside, by project and reason.
pub type SetAsideCounts = BTreeMap<(ProjectId, String), u64>;

/// Rows of `set_aside` that may still be written anew under another number, because their cut is not proven to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// The log of this pipeline, the upper 24 bits of `batch`.
    pub log: u32,
    /// Numbers of inserts, the lower 40 bits of `batch`.
    pub inserts: Vec<u64>,
    /// The first number that was not given yet; it and all later ones are unsettled as well.
    pub from: u64,
}

/// Inserts of blocks since the pipeline was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InsertCounts {
    /// Acknowledged by ClickHouse.
    pub ok: u64,
    /// Failed or of unknown outcome.
    pub failed: u64,
    /// Of unknown outcome and found stored by counting.
    pub proven: u64,
    /// Sent again after counting found nothing, or a part of it.
    pub reinserted: u64,
    /// Rows stored, all tables together.
    pub rows: u64,
    /// Bytes of blocks stored, before ClickHouse compresses them.
    pub bytes: u64,
}

/// The pipeline's figures at one moment.
#[derive(Debug, Clone, Default)]
pub struct PipelineStatus {
    /// Records acknowledged and not yet proven to be stored.
    pub pending_records: u64,
    /// The same by project id; projects without any are left out.
    pub pending_by_project: BTreeMap<u32, u64>,
    /// Bytes of the log that hold them, at most: whole segments.
    pub log_bytes: u64,
    /// Age of the oldest such entry; zero when there is none.
    pub oldest_pending: Duration,
    /// Where data come from.
    pub mode: Mode,
    /// Position of the next entry and the first one not proven to be stored.
    pub next_position: u64,
    /// All entries before this one are stored.
    pub stored_before: u64,
    /// Records by fate.
    pub fates: FateCounts,
    /// Inserts.
    pub inserts: InsertCounts,
    /// Syncs of the log.
    pub syncs: SyncTimes,
    /// Memory of rows and blocks waiting for ClickHouse, bytes.
    pub waiting_bytes: u64,
    /// Requests waiting to be made durable.
    pub queued_requests: u64,
    /// Requests refused because there was no room.
    pub refused_requests: u64,
    /// Acknowledged entries that could not be read any more.
    pub damaged_entries: u64,
    /// Why nothing, or not everything, is stored just now: ClickHouse's last error since its last success, or what it says
    /// to a cut that it refuses.
    pub store_problem: Option<String>,
    /// Cuts that ClickHouse refuses; they wait in the log, and others are stored meanwhile.
    pub refused_cuts: u64,
    /// Records set aside since the pipeline was started because ClickHouse refuses them.
    pub refused_records: u64,
    /// All records set aside since then, and those of entries that were found in the log and are not proven to be stored.
    pub set_aside: SetAsideCounts,
    /// The stored problem cannot pass by itself: somebody must act.
    pub needs_attention: bool,
    /// Bytes left on the disk of the log, where it says.
    pub free_bytes: Option<u64>,
    /// Why new data are refused, if they are: `log_full`, `disk_full` or `disk_failed`.
    pub refusing: Option<&'static str>,
}
