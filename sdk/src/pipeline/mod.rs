//! What runs behind the rings: one thread drains and encodes, one sends.
//!
//! In: settings. Out: a running [`Pipeline`] with flush, stop and figures. Two plain threads, because a request blocks for as
//! long as the server likes, and rings that hold 1,300 records cannot wait for that.

pub(crate) mod agent;
pub(crate) mod declared;
pub(crate) mod drain;
mod drops;
pub(crate) mod encode;
pub(crate) mod export;
pub(crate) mod ledger;
pub(crate) mod outbox;
pub(crate) mod queue;
pub(crate) mod records;
pub(crate) mod ring;
#[cfg(test)]
mod ring_model;
pub(crate) mod send;
pub(crate) mod spool;

pub use ledger::Stats;

use crate::config::Settings;
use crate::guard::FlushError;
use gemba_conventions::attribute;
use ledger::LEDGER;
use outbox::Outbox;
use queue::Queue;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;
use ureq::Agent;

/// The drain thread, to be woken.
static DRAINER: OnceLock<Thread> = OnceLock::new();

/// Wakes the drain thread; nothing when there is none. Never blocks.
pub(crate) fn wake() {
    if let Some(thread) = DRAINER.get() {
        thread.unpark();
    }
}

/// The running pipeline of the process.
#[derive(Debug)]
pub(crate) struct Pipeline {
    queue: Arc<Queue>,
    shutdown_timeout: Duration,
}

impl Pipeline {
    /// Starts both threads; requests go through `agent`.
    pub(crate) fn start(settings: Settings, agent: Agent) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(settings.max_queue_bytes, &LEDGER, settings.on_error));
        let instance = uuid();
        let mut resource = settings.resource;
        resource.push((attribute::SERVICE_INSTANCE.to_owned(), instance.clone()));
        resource.sort();
        let exporter = export::Exporter::new(
            agent,
            settings.endpoint,
            settings.key,
            settings.request_timeout,
            settings.compression,
        )?;
        let sender = send::Sender::new(Arc::clone(&queue), exporter, instance, resource);
        drain::open(Outbox::new(settings.send_interval, &LEDGER, Arc::clone(&queue)));
        thread::Builder::new().name("gemba-send".into()).spawn(move || sender.run(settings.spool))?;
        let interval = settings.send_interval.min(drain::MAX_INTERVAL);
        let drainer = thread::Builder::new().name("gemba-drain".into()).spawn(move || drain::run(interval))?;
        DRAINER.get_or_init(|| drainer.thread().clone());
        Ok(Self { queue, shutdown_timeout: settings.shutdown_timeout })
    }

    /// Hands everything recorded so far to the sender and waits for the answers.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        if !drain::flush() {
            return Err(FlushError::Closed);
        }
        if self.queue.wait_settled(timeout) { Ok(()) } else { Err(FlushError::Timeout) }
    }

    /// Delivers what is left within the shutdown timeout and ends both threads.
    pub(crate) fn stop(&self) {
        drain::close(&LEDGER);
        wake();
        self.queue.close(self.shutdown_timeout);
    }

    /// Drops what has been recorded and not sent, because consent is withdrawn. Blocks for a drain pass.
    pub(crate) fn withdraw(&self) {
        // What is drained from now on is dropped as it is handed over.
        if !drain::is_draining() {
            drain::flush();
        }
        self.queue.withdraw();
    }

    /// Goes on, because consent is given.
    pub(crate) fn resume(&self) {
        self.queue.notify();
        wake();
    }

    #[expect(clippy::unused_self, reason = "the books belong to the running pipeline, wherever they are kept")]
    pub(crate) fn stats(&self) -> Stats {
        LEDGER.stats()
    }
}

/// A random id of this start: UUID version 4 (RFC 9562, section 5.4).
fn uuid() -> String {
    let high = crate::config::random_u64() & !0xf000 | 0x4000;
    let low = crate::config::random_u64() & !(0b11 << 62) | 0b10 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}
