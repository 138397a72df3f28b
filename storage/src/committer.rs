//! The committer: one thread through which every write goes.
//!
//! It drains a bounded queue, gives each batch its sequence number, its events their numbers and times, chains the hash, applies everything
//! as one atomic synced write, and answers all callers: one sync for many (group commit). Nobody is answered before the sync.
//!
//! A failed write fails every batch of its group: nothing of them is there. The handle of fjall is poisoned then, so before the next
//! group the database is dropped and opened again; while that fails, writes fail with the cause and reads fail too.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bosun_types::event::EventRecord;
use bosun_types::{ErrorClass, Timestamp};
use tokio::sync::{oneshot, watch};
use xxhash_rust::xxh3::Xxh3;

use crate::backend::Backend;
use crate::batch::{Batch, Write};
use crate::codec;
use crate::error::{Result, StoreError};
use crate::key::{self, Key};
use crate::mark::{self, Mark, Position};
use crate::table::Table;

/// Batches in one group.
const GROUP_MAX: usize = 256;
/// How often the mark is rewritten while commits come.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// Events kept. The oldest are dropped as new ones come.
pub const EVENTS_KEPT_MAX: u64 = 1_000_000;
/// Events dropped with one group at most: trimming never holds up a commit.
const TRIM_STEP_MAX: u64 = 64;

/// What a caller gets when its batch is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Number of the commit.
    pub sequence: u64,
    /// The events, with their numbers and times.
    pub events: Vec<EventRecord>,
}

/// What comes through the queue.
pub(crate) enum Job {
    /// Commit this and answer.
    Commit(Batch, oneshot::Sender<Result<Committed>>),
    /// Write a clean mark and end.
    Close(oneshot::Sender<()>),
}

/// Where the counters stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Heads {
    pub position: Position,
    /// Newest event.
    pub event: u64,
    /// Oldest event kept; 1 when nothing was dropped.
    pub event_oldest: u64,
}

/// Keys of the meta table.
pub(crate) mod meta {
    use crate::key::Key;

    pub(crate) fn heads() -> Key {
        Key::from_bytes(b"heads")
    }

    pub(crate) fn format() -> Key {
        Key::from_bytes(b"format")
    }
}

impl Heads {
    pub(crate) fn encode(self) -> Vec<u8> {
        [self.position.sequence, self.position.hash, self.event, self.event_oldest]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers =
            bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        let heads = Self {
            position: Position { sequence: numbers.next()?, hash: numbers.next()? },
            event: numbers.next()?,
            event_oldest: numbers.next()?,
        };
        (bytes.len() == 32).then_some(heads)
    }
}

/// The thread's own data.
pub(crate) struct Committer {
    pub backend: Arc<dyn Backend>,
    pub heads: Heads,
    pub event_head: watch::Sender<u64>,
    /// `None` in memory: there is nothing to keep beside.
    pub root: Option<PathBuf>,
    /// The last write failed: open again first.
    pub broken: bool,
    pub marked: Instant,
}

impl Committer {
    /// Works until it is closed or every sender is gone.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let first = match queue.recv_timeout(MARK_EVERY) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.mark(false);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.mark(true),
            };
            let mut group = Vec::new();
            let mut closing = None;
            for job in std::iter::once(first).chain(queue.try_iter()) {
                match job {
                    Job::Commit(batch, answer) => group.push((batch, answer)),
                    Job::Close(done) => {
                        closing = Some(done);
                        break;
                    }
                }
                if group.len() >= GROUP_MAX {
                    break;
                }
            }
            self.commit(group);
            if self.marked.elapsed() > MARK_EVERY {
                self.mark(false);
            }
            if let Some(done) = closing {
                self.mark(true);
                let _ = done.send(());
                return;
            }
        }
    }

    fn commit(&mut self, group: Vec<(Batch, oneshot::Sender<Result<Committed>>)>) {
        let mut heads = self.heads;
        let mut writes = Vec::new();
        let mut answers = Vec::new();
        for (batch, answer) in group {
            match stage(batch, &mut heads, &mut writes) {
                Ok(committed) => answers.push((answer, committed)),
                Err(error) => drop(answer.send(Err(error))),
            }
        }
        if answers.is_empty() {
            return;
        }
        trim(&mut heads, &mut writes);
        writes.push(Write { table: Table::Meta, key: meta::heads(), value: Some(heads.encode()) });
        match self.apply(&writes) {
            Ok(()) => {
                self.heads = heads;
                // First the head, then the answers: who was answered finds its event.
                self.event_head.send_replace(heads.event);
                answers.into_iter().for_each(|(answer, committed)| drop(answer.send(Ok(committed))));
            }
            Err(error) => {
                tracing::error!(%error, "a commit failed");
                answers.into_iter().for_each(|(answer, _)| drop(answer.send(Err(error.clone()))));
            }
        }
    }

    fn apply(&mut self, writes: &[Write]) -> Result<()> {
        let injected = |fault: bosun_faults::Injected| StoreError::Commit {
            class: ErrorClass::Internal,
            why: fault.to_string(),
        };
        if self.broken {
            self.backend.reopen()?;
            self.broken = false;
        }
        bosun_faults::point("commit.before_sync").map_err(injected)?;
        if let Err(error) = self.backend.apply(writes) {
            self.broken = true;
            return Err(error);
        }
        bosun_faults::point("commit.after_sync").map_err(injected)
    }

    fn mark(&mut self, clean: bool) {
        self.marked = Instant::now();
        let Some(root) = &self.root else { return };
        if let Err(error) = mark::write(root, Mark { position: self.heads.position, clean }) {
            tracing::warn!(%error, "the high-water mark could not be written");
        }
    }
}

/// Numbers a batch and adds its writes.
fn stage(batch: Batch, heads: &mut Heads, writes: &mut Vec<Write>) -> Result<Committed> {
    let batch = batch.checked()?;
    let now = Timestamp::now();
    let begin = writes.len();
    let mut events = Vec::with_capacity(batch.events.len());
    let mut next = *heads;
    let mut staged = batch.writes;
    for (namespace, event) in batch.events {
        next.event += 1;
        let record = EventRecord { sequence: next.event, at: now, namespace, event };
        staged.push(Write {
            table: Table::Events,
            key: key::event(record.sequence),
            value: Some(codec::encode(&record)?),
        });
        events.push(record);
    }
    writes.extend(staged);
    next.position = chain(heads.position, &writes[begin..]);
    *heads = next;
    Ok(Committed { sequence: next.position.sequence, events })
}

/// The next position: hash over the previous hash and every write.
fn chain(before: Position, writes: &[Write]) -> Position {
    let mut hasher = Xxh3::new();
    hasher.update(&before.hash.to_le_bytes());
    for write in writes {
        hasher.update(&[write.table as u8]);
        hasher.update(write.key.as_bytes());
        hasher.update(write.value.as_deref().unwrap_or_default());
    }
    Position { sequence: before.sequence + 1, hash: hasher.digest() }
}

/// Drops the oldest events above what is kept, a few at a time.
fn trim(heads: &mut Heads, writes: &mut Vec<Write>) {
    let keep_from = (heads.event + 1).saturating_sub(EVENTS_KEPT_MAX).max(1);
    let until = keep_from.min(heads.event_oldest + TRIM_STEP_MAX);
    for sequence in heads.event_oldest..until {
        writes.push(Write { table: Table::Events, key: key::event(sequence), value: None });
    }
    heads.event_oldest = heads.event_oldest.max(until);
}

/// A raw key for the meta table's counters.
pub(crate) fn counter(name: &str) -> Key {
    Key::from_bytes(name.as_bytes())
}
