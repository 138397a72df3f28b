//! How long events are kept: so many at most, and no older than so long. The committer drops the oldest, a few with each group and more while it has
//! nothing else to do; who still wants them is told which ones are missing.

use std::time::Duration;

use bosun_types::Timestamp;
use bosun_types::event::EventRecord;

use crate::backend::Backend;
use crate::batch::Write;
use crate::codec;
use crate::committer::Heads;
use crate::error::Result;
use crate::key;
use crate::table::Table;

/// Events kept unless told otherwise.
pub const EVENTS_KEPT_MAX: u64 = 1_000_000;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Most events; at least 1.
    pub events_max: u64,
    /// Oldest event; `None`: age does not matter.
    pub age_max: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { events_max: EVENTS_KEPT_MAX, age_max: None }
    }
}

impl Retention {
    /// The first event to keep when the newest is `newest`, by number alone.
    pub(crate) fn keep_from(self, newest: u64) -> u64 {
        (newest + 1).saturating_sub(self.events_max.max(1)).max(1)
    }

    /// The first event to keep by age. Times grow with numbers, so it is found by halving; the newest is always kept.
    pub(crate) fn keep_from_by_age(self, backend: &dyn Backend, heads: Heads, now: Timestamp) -> Result<u64> {
        let Some(age) = self.age_max else { return Ok(1) };
        let oldest_time = now.0.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        let (mut low, mut high) = (heads.event_oldest, heads.event.max(1));
        while low < high {
            let middle = low + (high - low) / 2;
            match time_of(backend, middle)? {
                Some(at) if at.0 < oldest_time => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// When an event was logged.
pub(crate) fn time_of(backend: &dyn Backend, sequence: u64) -> Result<Option<Timestamp>> {
    let key = key::event(sequence);
    let value = backend.get(Table::Events, &key)?;
    value.map(|value| codec::decode::<EventRecord>(&key, &value).map(|record| record.at)).transpose()
}

/// Drops the oldest before `keep_from`, at most `step` of them.
pub(crate) fn trim(heads: &mut Heads, writes: &mut Vec<Write>, keep_from: u64, step: u64) {
    let until = keep_from.min(heads.event_oldest + step);
    for sequence in heads.event_oldest..until {
        writes.push(Write { table: Table::Events, key: key::event(sequence), value: None });
    }
    heads.event_oldest = heads.event_oldest.max(until);
}

#[cfg(test)]
mod tests;
