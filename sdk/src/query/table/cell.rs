//! Where a thread keeps its table, and how the drain gets it.
//!
//! In: one [`Measured`] per query. Out: every thread's [`Table`], by [`collect`]. One thread writes a table and never waits
//! ([`Handed`]): a drain that comes while it is adding leaves the table for its next pass.
//!
//! Invariant: what a table says about a context was written while that context was current or shared, so a pass that reads
//! all tables after taking the retired contexts meets none that is reused. If one table could not be read, the retired
//! contexts must wait ([`collect`] says so).

use super::super::handed::Handed;
use super::{Measured, Table};
use std::sync::{Arc, Mutex, PoisonError};

/// A thread's hold on its table; says so when the thread ends.
struct Owner(Arc<Handed<Table>>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A thread's table as the drain knows it.
struct Listed {
    table: Arc<Handed<Table>>,
    /// Changes it had when it was last taken: with no more of them it holds nothing.
    taken: u32,
}

/// All tables, of running threads and of ended ones not yet drained.
static TABLES: Mutex<Vec<Listed>> = Mutex::new(Vec::new());

/// For queries that end while their thread's own table is gone already, in destructors of thread-locals.
static LAST: Mutex<Option<Box<Table>>> = Mutex::new(None);

thread_local! {
    static OWN: Owner = {
        let own = Arc::new(Handed::new(Box::default()));
        let listed = Listed { table: Arc::clone(&own), taken: 0 };
        TABLES.lock().unwrap_or_else(PoisonError::into_inner).push(listed);
        Owner(own)
    };
}

/// Counts one query. Never waits for the drain; a thread's first query allocates its table.
#[inline]
pub(crate) fn record(measured: &Measured) {
    if OWN.try_with(|own| own.0.change(|table| table.add(measured))).is_err() {
        LAST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().add(measured);
    }
}

/// Gives every table that holds something to `take`, which leaves nothing in it. True: all tables were read.
pub(crate) fn collect(mut take: impl FnMut(&mut Table)) -> bool {
    /// Looks at a busy table; adding takes 50 ns, so more mean that its thread is off the processor.
    const LOOKS: usize = 100;
    /// Lines whose memory all tables together keep for the next queries, and one table at most. Chosen: an ordinary second.
    const KEPT: (usize, usize) = (4096, 256);
    let mut is_complete = true;
    // Goes from table to table; made when the first one has something.
    let mut spare: Option<Box<Table>> = None;
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = KEPT.1.min(KEPT.0 / tables.len().max(1));
    tables.retain_mut(|Listed { table, taken: known }| {
        // Before the table is taken: an ended thread adds nothing any more.
        let is_closed = table.is_closed();
        let changes = table.changes();
        if changes == *known {
            return !is_closed;
        }
        for _ in 0..LOOKS {
            match table.exchange(spare.take().unwrap_or_default()) {
                Ok(mut taken) => {
                    *known = changes;
                    if !taken.is_empty() {
                        take(&mut taken);
                    }
                    taken.clear(kept);
                    spare = Some(taken);
                    return !is_closed;
                }
                Err(unused) => {
                    spare = Some(unused);
                    std::hint::spin_loop();
                }
            }
        }
        is_complete = false;
        true
    });
    drop(tables);
    if let Some(mut last) = LAST.lock().unwrap_or_else(PoisonError::into_inner).take() {
        take(&mut last);
    }
    is_complete
}

#[cfg(test)]
mod tests {
    use super::super::tests::{calls, measured};
    use super::*;
    use crate::query::{Dialect, known};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    #[test]
    fn a_drain_beside_the_writer_misses_nothing_and_counts_nothing_twice() {
        const CALLS: u64 = if cfg!(miri) { 200 } else { 200_000 };
        let query = known::by_name(Dialect::Generic, "table.race");
        let cell = Handed::new(Box::<Table>::default());
        let drained = AtomicU64::new(0);
        let is_done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for _ in 0..CALLS {
                    cell.change(|table| table.add(&measured(query)));
                }
                is_done.store(true, Ordering::Release);
            });
            let mut spare: Box<Table> = Box::default();
            loop {
                let was_done = is_done.load(Ordering::Acquire);
                match cell.exchange(spare) {
                    Ok(mut taken) => {
                        drained.fetch_add(calls(&taken, query), Ordering::Relaxed);
                        taken.clear(usize::MAX);
                        spare = taken;
                        if was_done {
                            break;
                        }
                    }
                    Err(unused) => spare = unused,
                }
            }
        });
        assert_eq!(drained.load(Ordering::Relaxed), CALLS);
    }
}
