//! Memory, with the laws of the disk: for simulations.
//!
//! Two layers. A write reaches the *volatile* one (what a running daemon reads, the page cache) and, when it is synced, the *durable* one.
//! [`Memory::after_crash`] is what a killed daemon leaves, [`Memory::after_power_cut`] what a dead machine leaves. Failures are
//! injected one at a time, in order ([`Fault`]); after one the backend is poisoned until it is reopened, as fjall is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bosun_types::ErrorClass;

use super::{Backend, Row, Visit};
use crate::batch::Write;
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::table::Table;

type Rows = BTreeMap<(Table, Key), Vec<u8>>;

/// How the next write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written: the disk is full.
    BeforeWrite,
    /// It is written but not synced: gone after a power cut, there after a crash. The case in doubt.
    BeforeSync,
    /// It is durable, but the answer is a failure.
    AfterSync,
}

/// Rows in memory.
#[derive(Debug, Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    volatile: Rows,
    durable: Rows,
    /// Written to the volatile layer since the last sync.
    unsynced: Vec<Write>,
    faults: VecDeque<Fault>,
    /// So many reopens fail.
    reopens_refused: u32,
    poisoned: bool,
}

impl Memory {
    /// The next writes fail so, one after the other.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// The next `count` reopens fail.
    pub fn refuse_reopens(&self, count: u32) {
        self.lock().reopens_refused += count;
    }

    /// What is left when the daemon is killed: all that was written.
    pub fn after_crash(&self) -> Self {
        let rows = self.lock().volatile.clone();
        Self::holding(rows)
    }

    /// What is left when the machine dies: all that was synced.
    pub fn after_power_cut(&self) -> Self {
        let rows = self.lock().durable.clone();
        Self::holding(rows)
    }

    fn holding(rows: Rows) -> Self {
        let inner = Inner { volatile: rows.clone(), durable: rows, ..Inner::default() };
        Self { inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_all(rows: &mut Rows, writes: &[Write]) {
    for write in writes {
        let place = (write.table, write.key.clone());
        match &write.value {
            Some(value) => rows.insert(place, value.clone()),
            None => rows.remove(&place),
        };
    }
}

impl Backend for Memory {
    fn apply(&self, writes: &[Write]) -> Result<()> {
        let inner = &mut *self.lock();
        if inner.poisoned {
            return Err(StoreError::Commit {
                class: ErrorClass::Unavailable,
                why: "poisoned by an earlier failure".to_owned(),
            });
        }
        let fault = inner.faults.pop_front();
        if fault != Some(Fault::BeforeWrite) {
            write_all(&mut inner.volatile, writes);
            inner.unsynced.extend_from_slice(writes);
        }
        if matches!(fault, None | Some(Fault::AfterSync)) {
            // A sync takes with it whatever was written before.
            write_all(&mut inner.durable, &inner.unsynced);
            inner.unsynced.clear();
        }
        match fault {
            None => Ok(()),
            Some(fault) => {
                inner.poisoned = true;
                let class = ErrorClass::ResourceExhausted;
                Err(StoreError::Commit { class, why: format!("injected: {fault:?}") })
            }
        }
    }

    fn get(&self, table: Table, key: &Key) -> Result<Option<Vec<u8>>> {
        Ok(self.lock().volatile.get(&(table, key.clone())).cloned())
    }

    fn scan(&self, table: Table, prefix: &Key, from: &Key, limit: usize) -> Result<Vec<Row>> {
        let begin = prefix.max(from).clone();
        Ok(self
            .lock()
            .volatile
            .range((table, begin)..)
            .take_while(|((of, key), _)| *of == table && key.as_bytes().starts_with(prefix.as_bytes()))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }

    fn view(&self, ranges: &[(Table, Key)], visit: &mut Visit<'_>) -> Result<()> {
        let rows = self.lock().volatile.clone();
        for (table, prefix) in ranges {
            let of_table = rows.range((*table, prefix.clone())..);
            let is_below = |key: &Key| key.as_bytes().starts_with(prefix.as_bytes());
            for ((of, key), value) in of_table.take_while(|((of, key), _)| of == table && is_below(key)) {
                visit(*of, key.clone(), value)?;
            }
        }
        Ok(())
    }

    fn reopen(&self) -> Result<()> {
        let mut inner = self.lock();
        if inner.reopens_refused > 0 {
            inner.reopens_refused -= 1;
            return Err(StoreError::Open { path: "memory".into(), why: "injected".to_owned() });
        }
        inner.poisoned = false;
        Ok(())
    }
}
