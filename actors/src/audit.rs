//! The audit log: who did what. An entry is queued before the call's own first commit and rides with it (`Store::ride`), so that no change is
//! durable without its entry and no call waits for a sync of its own; the result is written over it when the call ends.
//!
//! ```text
//!   begin ──▶ begun ──end──▶ done | refused        an entry left `begun` by a crash says that the call was cut off
//! ```
//!
//! Not an actor: its only state is the store's, and the store's counter gives the numbers. The oldest entries go as new ones come.

use std::time::Instant;

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_storage::store::Store;
use bosun_types::access::{AuditQuery, AuditRecord, AuditResult};
use bosun_types::{Error, ErrorClass, Result, SocketId, Timestamp};

use crate::core::blocking;

/// Entries kept.
pub const AUDIT_KEPT_MAX: u64 = 100_000;
/// Entries read at a time while a query looks for what it wants.
const PAGE: usize = 1024;

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The peer's user.
    pub uid: u32,
    /// The peer's process.
    pub pid: i32,
    /// Through which namespace socket.
    pub socket: Option<SocketId>,
}

/// The audit log.
#[derive(Clone)]
pub struct AuditHandle {
    store: Store,
}

/// A call under way.
pub struct AuditEntry {
    store: Store,
    record: AuditRecord,
    begun: Instant,
}

impl AuditHandle {
    /// Over a store; a daemon gives its own ([`crate::daemon::Daemon::audit`]).
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// To be called before the work begins.
    ///
    /// # Errors
    /// ResourceExhausted: too many commits wait; the work would be refused as well. A database that refuses writes is no error here: what
    /// frees or ends things must still be possible, and goes to the daemon's log instead.
    pub fn begin(&self, caller: &Caller, call: &str, subject: &str) -> Result<AuditEntry> {
        let record = AuditRecord {
            sequence: self.store.next_audit(),
            at: Timestamp::now(),
            uid: caller.uid,
            pid: caller.pid,
            socket: caller.socket.clone(),
            call: call.to_owned(),
            subject: subject.to_owned(),
            result: AuditResult::Begun,
        };
        let entry = AuditEntry { store: self.store.clone(), record, begun: Instant::now() };
        let mut batch = Batch::new();
        if let Some(dropped) = entry.record.sequence.checked_sub(AUDIT_KEPT_MAX) {
            batch.delete::<AuditRecord>(key::audit(dropped));
        }
        entry.write(batch)?;
        Ok(entry)
    }

    /// The newest `limit` entries that the query wants and that are older than `before` (0: from the newest), newest first.
    pub async fn query(&self, query: AuditQuery, before: u64, limit: usize) -> Result<Vec<AuditRecord>> {
        // Entries that ride are taken along: who asks finds what was answered before.
        self.store.commit(Batch::new()).await.map_err(Error::from)?;
        let store = self.store.clone();
        blocking(move || {
            let page = PAGE as u64;
            let mut found = Vec::new();
            let newest = if before == 0 { store.audit_head() + 1 } else { before };
            let mut until = newest;
            while until > 1 && found.len() < limit {
                let from = until.saturating_sub(page).max(1);
                let rows: Vec<AuditRecord> = store.scan_from(&key::audit(from), PAGE)?;
                let rows = rows.into_iter().filter(|row| row.sequence < until).collect::<Vec<_>>();
                let old = query.since.is_some_and(|since| rows.last().is_some_and(|row| row.at < since));
                let gone = rows.is_empty() && until.saturating_add(AUDIT_KEPT_MAX) <= newest;
                found.extend(rows.into_iter().rev().filter(|row| query.wants(row)));
                if old || gone {
                    break;
                }
                until = from;
            }
            found.truncate(limit);
            Ok(found)
        })
        .await
    }
}

impl AuditEntry {
    /// The call has learnt what it is about: an id that its request held.
    pub fn about(&mut self, subject: &str) {
        if !self.record.subject.is_empty() {
            self.record.subject.push('/');
        }
        self.record.subject.push_str(subject);
    }

    /// The call has ended.
    pub fn end<T>(mut self, outcome: &Result<T>) {
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.record.result = match outcome {
            Ok(_) => AuditResult::Done { micros },
            Err(error) => AuditResult::Refused { error: error.clone(), micros },
        };
        if let Err(error) = self.write(Batch::new()) {
            tracing::warn!(call = self.record.call, subject = self.record.subject, %error, "audit entry not ended");
        }
    }

    fn write(&self, mut batch: Batch) -> Result<()> {
        batch.put(&self.record);
        match self.store.ride(batch).map_err(Error::from) {
            Err(error) if error.class == ErrorClass::ResourceExhausted => Err(error),
            Err(error) => {
                let AuditRecord { call, subject, uid, pid, .. } = &self.record;
                tracing::warn!(call, subject, uid, pid, %error, "not in the audit log");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
