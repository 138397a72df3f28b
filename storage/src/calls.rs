//! Calls that were done, by their idempotency keys: rows in the commits of what the calls did, so that a repetition is answered and not done again. So
//! many are kept at most, and none longer than so long; the oldest go with the commits of new ones.

use std::collections::VecDeque;
use std::time::Duration;

use bosun_types::Timestamp;
use bosun_types::call::{CallId, CallRecord};

use crate::backend::Backend;
use crate::batch::Write;
use crate::codec;
use crate::error::Result;
use crate::key::{self, Key};
use crate::table::{Record as _, Table};

/// Calls remembered at most. A client repeats a call within seconds of a lost connection, so that this many are minutes of the busiest daemon.
pub const CALLS_KEPT_MAX: usize = 16_384;
/// Longest time for which a call is remembered.
pub const CALLS_KEPT_FOR: Duration = Duration::from_secs(3600);
/// Rows dropped with one group at most.
const DROP_STEP_MAX: usize = 64;

/// Which rows there are, oldest first. The committer's own.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    kept: VecDeque<(Timestamp, Key)>,
}

/// What a group adds and drops; takes effect when it is written.
#[derive(Debug, Default)]
pub(crate) struct Change {
    added: Vec<(Timestamp, Key)>,
    dropped: usize,
}

impl Calls {
    /// What is in the database.
    pub(crate) fn load(backend: &dyn Backend) -> Result<Self> {
        let rows = backend.scan(Table::Calls, &Key::all(), &Key::all(), usize::MAX)?;
        let mut kept = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            kept.push((codec::decode::<CallRecord>(&key, &value)?.at, key));
        }
        kept.sort();
        Ok(Self { kept: kept.into() })
    }

    /// Adds the writes of a group's calls, and the removal of the oldest beyond what is kept.
    pub(crate) fn stage(
        &self,
        records: &[CallRecord],
        now: Timestamp,
        writes: &mut Vec<Write>,
    ) -> Result<Change> {
        let mut change = Change::default();
        for record in records {
            let key = record.key();
            writes.push(Write { table: Table::Calls, key: key.clone(), value: Some(codec::encode(record)?) });
            change.added.push((record.at, key));
        }
        if records.is_empty() {
            return Ok(change);
        }
        let over = (self.kept.len() + records.len()).saturating_sub(CALLS_KEPT_MAX);
        let is_old = |at: &Timestamp| is_over(*at, now);
        let old = self.kept.iter().take(DROP_STEP_MAX).take_while(|(at, _)| is_old(at)).count();
        // As many as come, at the least: the limit holds.
        change.dropped = over.max(old).min(self.kept.len());
        for (_, key) in self.kept.iter().take(change.dropped) {
            writes.push(Write { table: Table::Calls, key: key.clone(), value: None });
        }
        Ok(change)
    }

    /// The group is written.
    pub(crate) fn apply(&mut self, change: Change) {
        self.kept.drain(..change.dropped);
        self.kept.extend(change.added);
    }
}

/// The call, if it was done and is remembered.
pub(crate) fn find(backend: &dyn Backend, id: &CallId, now: Timestamp) -> Result<Option<CallRecord>> {
    let key = key::call(id);
    let Some(value) = backend.get(Table::Calls, &key)? else { return Ok(None) };
    let record: CallRecord = codec::decode(&key, &value)?;
    Ok((!is_over(record.at, now)).then_some(record))
}

fn is_over(at: Timestamp, now: Timestamp) -> bool {
    u128::try_from(now.0.saturating_sub(at.0)).is_ok_and(|age| age > CALLS_KEPT_FOR.as_nanos())
}

#[cfg(test)]
mod tests;
