//! Numbers that are never used again, over restarts too: operations, snapshot directories, transfers,
//! entries of the audit log.
//!
//! A number is handed out without a commit. The committer raises the durable bound, a block at a time, in the group that holds the
//! batch that uses the number: whoever queued a batch took its numbers before, so the group's bound covers them. After a crash the
//! rest of the block is skipped.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::Backend;
use crate::batch::Write;
use crate::error::Result;
use crate::key::Key;
use crate::table::Table;

/// Numbers reserved with one write.
const BLOCK: u64 = 1024;

/// One sequence of numbers.
#[derive(Debug)]
pub(crate) struct Counter {
    name: &'static str,
    next: AtomicU64,
    /// Numbers below are reserved in the database. Only the committer stores it.
    reserved: AtomicU64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Counters {
    pub operations: Counter,
    pub directories: Counter,
    pub transfers: Counter,
    pub audit: Counter,
}

impl Counter {
    fn load(backend: &dyn Backend, name: &'static str) -> Result<Self> {
        let value = backend.get(Table::Meta, &key(name))?;
        let next = value.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?))).unwrap_or(1);
        Ok(Self { name, next: AtomicU64::new(next), reserved: AtomicU64::new(next) })
    }

    /// The next number.
    pub(crate) fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }
}

impl Counter {
    /// What [`Self::take`] would give.
    pub(crate) fn peek(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }
}

impl Counters {
    pub(crate) fn load(backend: &dyn Backend) -> Result<Self> {
        Ok(Self {
            operations: Counter::load(backend, "next_operation")?,
            directories: Counter::load(backend, "next_directory")?,
            transfers: Counter::load(backend, "next_transfer")?,
            audit: Counter::load(backend, "next_audit")?,
        })
    }

    fn all(&self) -> [&Counter; 4] {
        [&self.operations, &self.directories, &self.transfers, &self.audit]
    }

    /// The bounds that must become durable with this group.
    pub(crate) fn due(&self) -> Vec<Reservation<'_>> {
        let due = |counter: &'_ &Counter| {
            counter.next.load(Ordering::SeqCst) > counter.reserved.load(Ordering::SeqCst)
        };
        let reserve = |counter: &Counter| counter.next.load(Ordering::SeqCst) + BLOCK;
        self.all()
            .into_iter()
            .filter(due)
            .map(|counter| Reservation { bound: reserve(counter), counter })
            .collect()
    }
}

/// A bound on its way to the database.
pub(crate) struct Reservation<'a> {
    counter: &'a Counter,
    bound: u64,
}

impl Reservation<'_> {
    pub(crate) fn write(&self) -> Write {
        let value = Some(self.bound.to_le_bytes().to_vec());
        Write { table: Table::Meta, key: key(self.counter.name), value }
    }

    /// It is durable.
    pub(crate) fn confirm(self) {
        self.counter.reserved.store(self.bound, Ordering::SeqCst);
    }
}

fn key(name: &str) -> Key {
    Key::from_bytes(name.as_bytes())
}
