//! The committer: one thread through which every write goes.
//!
//! It drains a bounded queue, gives each batch its sequence number, its events their numbers and times, chains the hash, applies everything
//! as one atomic synced write, and answers all callers: one sync for many (group commit). Nobody is answered before the sync.
//!
//! A batch may also *ride*: nobody waits for it, so it does not cause a sync of its own but goes with the next group, in the order of the
//! queue, or alone when none comes within [`RIDE_MAX`]. So what is queued after it is durable no earlier than it.
//!
//! A failed write poisons the handle of fjall and leaves open whether the group is there: its bytes may have reached the journal and only
//! the sync failed. So the database is dropped and opened again at once, the heads are read again, and the same writes are made once
//! more: harmless when they are there already, and then they are synced. Only when that fails too are the callers told so; while the
//! database does not open, writes and reads fail with the cause, and each group tries again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bosun_types::call::{CallId, CallRecord};
use bosun_types::event::EventRecord;
use bosun_types::task::ExitStatus;
use bosun_types::{ErrorClass, Timestamp};
use tokio::sync::{oneshot, watch};
use xxhash_rust::xxh3::Xxh3;

use crate::backend::Backend;
use crate::ballast::Ballast;
use crate::batch::{Batch, Write};
use crate::calls::Calls;
use crate::codec;
use crate::counters::Counters;
use crate::error::{Result, StoreError};
use crate::key;
use crate::mark::{self, Mark, Position};
use crate::retention::{self, Retention};
use crate::table::Table;

/// Batches in one group.
const GROUP_MAX: usize = 256;
/// A group is closed above this many bytes.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How often a group is written before its callers are told that it failed.
const ATTEMPTS_MAX: usize = 2;
/// How long a riding batch waits for a group to go with.
pub const RIDE_MAX: Duration = Duration::from_millis(50);
/// How often the mark is rewritten while commits come.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// Events dropped with one group at most: trimming never holds up a commit.
const TRIM_STEP_MAX: u64 = 64;
/// The same while nobody waits for a commit.
const TRIM_STEP_IDLE_MAX: u64 = 4096;

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
    /// Commit this with whatever comes next; nobody waits.
    Ride(Batch),
    /// Write a clean mark and end.
    Close(SyncSender<()>),
}

/// Where the counters stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Heads {
    pub position: Position,
    /// Newest event.
    pub event: u64,
    /// When it was: the clock may be set back, but times in the log grow with its numbers, so that a time finds its place by halving.
    pub event_at: Timestamp,
    /// Oldest event kept; 1 when nothing was dropped.
    pub event_oldest: u64,
}

/// Encoded.
const HEADS_BYTES: usize = 40;

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
        let at = self.event_at.0.cast_unsigned();
        [self.position.sequence, self.position.hash, self.event, self.event_oldest, at]
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
            event_at: Timestamp(numbers.next()?.cast_signed()),
        };
        (bytes.len() == HEADS_BYTES).then_some(heads)
    }

    /// From the database; the beginning when it is new.
    pub(crate) fn read(backend: &dyn Backend) -> Result<Self> {
        match backend.get(Table::Meta, &meta::heads())? {
            None => Ok(Self { event_oldest: 1, ..Self::default() }),
            Some(bytes) => Self::decode(&bytes).ok_or(StoreError::Damaged {
                table: "meta",
                key: "heads".to_owned(),
                why: "malformed".to_owned(),
            }),
        }
    }
}

/// Who waits for a batch; `None`: it rides.
type Answer = Option<oneshot::Sender<Result<Committed>>>;

fn tell(answer: Answer, result: Result<Committed>) {
    match answer {
        // Who waited may be gone.
        Some(answer) => drop(answer.send(result)),
        None => {
            if let Err(error) = result {
                tracing::error!(%error, "a riding batch was not written");
            }
        }
    }
}

/// The thread's own data.
pub(crate) struct Committer {
    pub backend: Arc<dyn Backend>,
    pub heads: Heads,
    pub event_head: watch::Sender<u64>,
    pub counters: Arc<Counters>,
    pub retention: Arc<Mutex<Retention>>,
    /// The first event young enough, as it was found last, and when.
    pub young_from: (u64, Option<Instant>),
    /// Calls that are remembered.
    pub calls: Calls,
    /// Why the last write failed, for [`crate::store::Store::health`].
    pub trouble: Arc<Mutex<Option<String>>>,
    /// `None` in memory, and for a database that is refused.
    pub ballast: Option<Ballast>,
    /// `None` in memory: there is nothing to keep beside.
    pub root: Option<PathBuf>,
    /// The last write failed: open again first.
    pub broken: bool,
    pub marked: Instant,
    /// What the file says.
    pub mark: Option<Mark>,
}

impl Committer {
    /// Works until it is closed or every sender is gone.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        let mut riding: Vec<(Batch, Answer)> = Vec::new();
        let mut since = Instant::now();
        loop {
            let patience =
                if riding.is_empty() { MARK_EVERY } else { RIDE_MAX.saturating_sub(since.elapsed()) };
            let first = match queue.recv_timeout(patience) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) if riding.is_empty() => {
                    self.trim_idle();
                    self.write_mark(false);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.commit(std::mem::take(&mut riding));
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.commit(riding);
                    return self.write_mark(true);
                }
            };
            if riding.is_empty() {
                since = Instant::now();
            }
            let (group, closing) = drain(first, queue);
            riding.extend(group);
            if waited_for(&riding) || closing.is_some() || riding.len() >= GROUP_MAX {
                self.commit(std::mem::take(&mut riding));
            }
            if self.marked.elapsed() > MARK_EVERY {
                self.write_mark(false);
            }
            if let Some(done) = closing {
                self.write_mark(true);
                let _ = done.send(());
                return;
            }
        }
    }

    fn commit(&mut self, group: Vec<(Batch, Answer)>) {
        if group.is_empty() {
            return;
        }
        // Before anything is numbered: a group that failed may be there all the same.
        if let Err(error) = self.heal() {
            return group.into_iter().for_each(|(_, answer)| tell(answer, Err(error.clone())));
        }
        let mut heads = self.heads;
        let mut writes = Vec::new();
        let (mut answers, mut calls) = (Vec::new(), Vec::new());
        for (mut batch, answer) in group {
            let call = batch.call.take().map(|id| (id, batch.exit.take()));
            match self.admit(&batch).and_then(|()| stage(batch, &mut heads, &mut writes)) {
                Ok(committed) => {
                    calls.extend(call.map(|(id, exit)| done(id, exit, &committed)));
                    answers.push((answer, committed));
                }
                Err(error) => tell(answer, Err(error)),
            }
        }
        if answers.is_empty() {
            return;
        }
        let keep_from = self.keep_from(heads);
        retention::trim(&mut heads, &mut writes, keep_from, TRIM_STEP_MAX);
        let counters = Arc::clone(&self.counters);
        let reservations = counters.due();
        writes.extend(reservations.iter().map(|reservation| reservation.write()));
        writes.push(Write { table: Table::Meta, key: meta::heads(), value: Some(heads.encode()) });
        let remembered = self.calls.stage(&calls, Timestamp::now(), &mut writes);
        let result = remembered.and_then(|change| {
            self.apply(&last_wins(writes), heads)?;
            self.calls.apply(change);
            Ok(())
        });
        self.note(result.as_ref().err());
        match result {
            Ok(()) => {
                reservations.into_iter().for_each(|reservation| reservation.confirm());
                answers.into_iter().for_each(|(answer, committed)| tell(answer, Ok(committed)));
            }
            Err(error) => {
                tracing::error!(%error, "a commit failed");
                answers.into_iter().for_each(|(answer, _)| tell(answer, Err(error.clone())));
            }
        }
    }

    /// The first event to keep. What is too old is looked up once in a while: it takes some reads.
    fn keep_from(&mut self, heads: Heads) -> u64 {
        let retention = *self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        let due = self.young_from.1.is_none_or(|looked| looked.elapsed() >= MARK_EVERY);
        if due && retention.age_max.is_some() {
            match retention.keep_from_by_age(self.backend.as_ref(), self.heads, Timestamp::now()) {
                Ok(from) => self.young_from = (from, Some(Instant::now())),
                Err(error) => tracing::warn!(%error, "the age of events is not known"),
            }
        }
        retention.keep_from(heads.event).max(self.young_from.0)
    }

    /// Drops old events while nobody waits.
    fn trim_idle(&mut self) {
        if self.broken {
            return;
        }
        let (mut heads, mut writes) = (self.heads, Vec::new());
        let keep_from = self.keep_from(heads);
        retention::trim(&mut heads, &mut writes, keep_from, TRIM_STEP_IDLE_MAX);
        if writes.is_empty() {
            return;
        }
        writes.push(Write { table: Table::Meta, key: meta::heads(), value: Some(heads.encode()) });
        if let Err(error) = self.apply(&writes, heads) {
            tracing::warn!(%error, "old events were not dropped");
        }
    }

    /// While space is short, nothing is begun that needs more of it.
    fn admit(&mut self, batch: &Batch) -> Result<()> {
        if batch.grows && self.ballast.as_mut().is_some_and(Ballast::low) {
            return Err(StoreError::Commit {
                class: ErrorClass::ResourceExhausted,
                why: "space is short: nothing that needs more is begun until there is some".to_owned(),
            });
        }
        Ok(())
    }

    /// Writes a group; `staged` is where the heads stand with it. See the head of this file.
    fn apply(&mut self, writes: &[Write], staged: Heads) -> Result<()> {
        let injected = |fault: bosun_faults::Injected| StoreError::Commit {
            class: ErrorClass::Internal,
            why: fault.to_string(),
        };
        bosun_faults::point("commit.before_sync").map_err(injected)?;
        for attempt in 1..=ATTEMPTS_MAX {
            let Err(error) = self.backend.apply(writes) else { break };
            tracing::warn!(%error, attempt, "a group was not written; opening the database again");
            self.broken = true;
            let out_of_space =
                matches!(error.class(), ErrorClass::ResourceExhausted | ErrorClass::Unavailable);
            let freed = out_of_space && self.ballast.as_mut().is_some_and(Ballast::release);
            let healed = self.heal();
            if attempt == ATTEMPTS_MAX {
                let is_there = healed.is_ok() && self.heads.position == staged.position;
                return Err(if healed.is_err() || is_there { in_doubt(&error) } else { error });
            }
            tracing::info!(freed, "writing the group once more");
            healed.map_err(|_| in_doubt(&error))?;
        }
        self.heads = staged;
        // First the head, then the answers: who was answered finds its event.
        self.event_head.send_replace(staged.event);
        bosun_faults::point("commit.after_sync").map_err(injected)
    }

    /// After a failed write: opens again and finds out what is there.
    fn heal(&mut self) -> Result<()> {
        if !self.broken {
            return Ok(());
        }
        self.backend.reopen()?;
        let found = Heads::read(self.backend.as_ref())?;
        if found.position.sequence < self.heads.position.sequence {
            let lost = self.heads.position.sequence - found.position.sequence;
            let why = format!("it opened again without {lost} acknowledged commits");
            return Err(StoreError::ReadOnly { why });
        }
        self.heads = found;
        self.event_head.send_replace(found.event);
        self.broken = false;
        Ok(())
    }

    fn note(&self, error: Option<&StoreError>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = error.map(|error| format!("{error}; each commit tries again"));
    }

    fn write_mark(&mut self, clean: bool) {
        self.marked = Instant::now();
        let mark = Mark { position: self.heads.position, clean: clean && !self.broken };
        let Some(root) = &self.root else { return };
        if self.mark == Some(mark) {
            return;
        }
        match mark::write(root, mark) {
            Ok(()) => self.mark = Some(mark),
            Err(error) => tracing::warn!(%error, "the high-water mark could not be written"),
        }
    }
}

/// Whether a caller waits for one of them.
fn waited_for(group: &[(Batch, Answer)]) -> bool {
    group.iter().any(|(_, answer)| answer.is_some())
}

/// What waits, up to the bounds of a group; and who waits for the end.
fn drain(first: Job, queue: &Receiver<Job>) -> (Vec<(Batch, Answer)>, Option<SyncSender<()>>) {
    let mut group = Vec::new();
    let mut bytes = 0;
    for job in std::iter::once(first).chain(queue.try_iter()) {
        match job {
            Job::Commit(batch, answer) => {
                bytes += batch.bytes();
                group.push((batch, Some(answer)));
            }
            Job::Ride(batch) => {
                bytes += batch.bytes();
                group.push((batch, None));
            }
            Job::Close(done) => return (group, Some(done)),
        }
        if group.len() >= GROUP_MAX || bytes >= GROUP_BYTES_MAX {
            break;
        }
    }
    (group, None)
}

/// One write for each key: in one fjall batch all writes have the same sequence number.
fn last_wins(writes: Vec<Write>) -> Vec<Write> {
    let mut rows = BTreeMap::new();
    for write in writes {
        rows.insert((write.table, write.key), write.value);
    }
    rows.into_iter().map(|((table, key), value)| Write { table, key, value }).collect()
}

fn in_doubt(error: &StoreError) -> StoreError {
    StoreError::InDoubt { class: error.class(), why: error.to_string() }
}

/// What is remembered of a call.
fn done(id: CallId, exit: Option<ExitStatus>, committed: &Committed) -> CallRecord {
    let event = committed.events.first().map_or(0, |event| event.sequence);
    CallRecord { id, at: Timestamp::now(), event, exit }
}

/// Numbers a batch and adds its writes.
fn stage(batch: Batch, heads: &mut Heads, writes: &mut Vec<Write>) -> Result<Committed> {
    let batch = batch.checked()?;
    let now = Timestamp::now().max(heads.event_at);
    let begin = writes.len();
    let mut events = Vec::with_capacity(batch.events.len());
    let mut next = *heads;
    let mut staged = batch.writes;
    for (namespace, event) in batch.events {
        next.event += 1;
        next.event_at = now;
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

#[cfg(test)]
mod tests;
