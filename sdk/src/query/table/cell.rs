//! Where a thread keeps its table, and how the drain gets it.
//!
//! In: one [`Measured`] per query. Out: every thread's [`Table`], by [`collect`]. One thread writes a table and never waits:
//! it takes the table out of its cell, adds, and puts it back; a drain that comes in between finds the cell empty and leaves
//! the table for its next pass.
//!
//! Invariants:
//! 1. A cell's pointer is null only while its thread is adding. Whoever took a table owns it alone.
//! 2. What a table says about a context was written while that context was current or shared, so a pass that reads all
//!    tables after taking the retired contexts meets none that is reused. If one table could not be read, the retired
//!    contexts must wait ([`collect`] says so).

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Measured, Table};

/// Where a thread keeps its table.
#[derive(Debug)]
struct Cell {
    table: AtomicPtr<Table>,
    /// Something was added since the last drain.
    is_dirty: AtomicBool,
    /// The thread has ended.
    is_closed: AtomicBool,
}

impl Cell {
    fn new() -> Self {
        Self {
            table: AtomicPtr::new(Box::into_raw(Box::default())),
            is_dirty: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Adds one query; only the thread that owns the cell may call this.
    #[inline]
    fn add(&self, measured: &Measured) {
        // Acquire: what the drain wrote into a table it put here comes before our use of it.
        let table = self.table.swap(ptr::null_mut(), Ordering::Acquire);
        #[expect(unsafe_code, reason = "the table changes owners through an atomic pointer instead of a lock")]
        // SAFETY: invariant 1: a pointer taken out of the cell is owned by the taker alone; it came from `Box::into_raw`.
        // Null can only be met by a call inside a call, which `add` does not make; then nothing is added.
        if let Some(table) = unsafe { table.as_mut() } {
            table.add(measured);
            // Relaxed: the drain reads the table itself through the pointer; the flag only says where to look.
            self.is_dirty.store(true, Ordering::Relaxed);
        }
        // Release: what was added comes before the drain's look.
        self.table.store(table, Ordering::Release);
    }

    /// Takes the table and leaves `fresh` in its place; gives `fresh` back when the thread is adding right now.
    fn exchange(&self, fresh: Box<Table>) -> Result<Box<Table>, Box<Table>> {
        let fresh = Box::into_raw(fresh);
        let mut current = self.table.load(Ordering::Relaxed);
        loop {
            if current.is_null() {
                #[expect(unsafe_code, reason = "takes back the box made above")]
                // SAFETY: `fresh` came from the box above and was not published.
                return Err(unsafe { Box::from_raw(fresh) });
            }
            // AcqRel: the thread's additions before our reading, our emptying before its next additions.
            match self.table.compare_exchange_weak(current, fresh, Ordering::AcqRel, Ordering::Relaxed) {
                #[expect(unsafe_code, reason = "the table changes owners through an atomic pointer instead of a lock")]
                // SAFETY: invariant 1: the pointer taken out of the cell came from `Box::into_raw` and is ours alone now.
                Ok(taken) => return Ok(unsafe { Box::from_raw(taken) }),
                Err(now) => current = now,
            }
        }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let table = *self.table.get_mut();
        if !table.is_null() {
            #[expect(unsafe_code, reason = "the cell owns the table it holds")]
            // SAFETY: nobody else can reach the cell any more, and the pointer came from `Box::into_raw`.
            drop(unsafe { Box::from_raw(table) });
        }
    }
}

/// A thread's hold on its cell; says so when the thread ends.
struct Owner(Arc<Cell>);

impl Drop for Owner {
    fn drop(&mut self) {
        // Release: everything the thread added comes before its end.
        self.0.is_closed.store(true, Ordering::Release);
    }
}

/// All cells, of running threads and of ended ones not yet drained.
static CELLS: Mutex<Vec<Arc<Cell>>> = Mutex::new(Vec::new());

/// For queries that end while their thread's own table is gone already, in destructors of thread-locals.
static LAST: Mutex<Option<Box<Table>>> = Mutex::new(None);

thread_local! {
    static OWN: Owner = {
        let cell = Arc::new(Cell::new());
        CELLS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&cell));
        Owner(cell)
    };
}

/// Counts one query. Never waits for the drain; a thread's first query allocates its table.
#[inline]
pub(crate) fn record(measured: &Measured) {
    if OWN.try_with(|own| own.0.add(measured)).is_err() {
        LAST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().add(measured);
    }
}

/// Gives every table that holds something to `take`, which leaves nothing in it. True: all tables were read.
pub(crate) fn collect(mut take: impl FnMut(&mut Table)) -> bool {
    /// Looks at a busy table; adding takes 50 ns, so more mean that its thread is off the processor.
    const LOOKS: usize = 100;
    let mut is_complete = true;
    let mut spare: Box<Table> = Box::default();
    let mut cells = CELLS.lock().unwrap_or_else(PoisonError::into_inner);
    cells.retain(|cell| {
        // Acquire, and before the table is taken: an ended thread adds nothing any more.
        let is_closed = cell.is_closed.load(Ordering::Acquire);
        if !is_closed && !cell.is_dirty.swap(false, Ordering::Relaxed) {
            return true;
        }
        for _ in 0..LOOKS {
            match cell.exchange(std::mem::take(&mut spare)) {
                Ok(mut taken) => {
                    if !taken.is_empty() {
                        take(&mut taken);
                    }
                    taken.clear();
                    spare = taken;
                    return !is_closed;
                }
                Err(unused) => {
                    spare = unused;
                    std::hint::spin_loop();
                }
            }
        }
        cell.is_dirty.store(true, Ordering::Relaxed);
        is_complete = false;
        true
    });
    drop(cells);
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
    use std::sync::atomic::AtomicU64;

    #[test]
    fn a_drain_beside_the_writer_misses_nothing_and_counts_nothing_twice() {
        const CALLS: u64 = if cfg!(miri) { 200 } else { 200_000 };
        let query = known::by_name(Dialect::Generic, "table.race");
        let cell = Cell::new();
        let drained = AtomicU64::new(0);
        let is_done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for _ in 0..CALLS {
                    cell.add(&measured(query));
                }
                is_done.store(true, Ordering::Release);
            });
            let mut spare: Box<Table> = Box::default();
            loop {
                let was_done = is_done.load(Ordering::Acquire);
                match cell.exchange(spare) {
                    Ok(mut taken) => {
                        drained.fetch_add(calls(&taken, query), Ordering::Relaxed);
                        taken.clear();
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
