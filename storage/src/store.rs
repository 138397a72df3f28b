//! The store: typed rows over a backend, written by one committer.
//!
//! ```no_run
//! # async fn example() -> Result<(), bosun_storage::error::StoreError> {
//! use bosun_storage::{batch::Batch, store::{Store, StoreOptions}};
//! let (store, _report) = Store::open(&StoreOptions { root: "/var/lib/bosun".into() })?;
//! let committed = store.commit(Batch::new()).await?; // durable when it returns
//! # Ok(()) }
//! ```

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use bosun_types::call::{CallId, CallRecord};
use bosun_types::event::{EventRecord, EventSequence};
use bosun_types::{OperationId, Timestamp};
use tokio::sync::{oneshot, watch};

use crate::backend::Backend;
use crate::backend::disk::Disk;
use crate::backend::memory::Memory;
use crate::ballast::Ballast;
use crate::batch::{Batch, Write};
use crate::calls::{self, Calls};
use crate::codec;
use crate::committer::{Committed, Committer, Heads, Job, meta};
use crate::counters::Counters;
use crate::error::{Result, StoreError};
use crate::journal_scan;
use crate::key::{self, Key};
use crate::lock::RootLock;
use crate::mark::{self, Mark};
use crate::retention::Retention;
use crate::table::{Record, Table};

/// Batches that may wait for the committer.
const QUEUE_MAX: usize = 4096;
/// Bytes of events in one page, before the first read that passes it.
const EVENT_PAGE_BYTES: usize = 1 << 20;
/// Events read at a time for a page.
const EVENT_READ_STEP: usize = 32;
/// Format that this build writes and reads.
const FORMAT: u32 = 1;

/// Where.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The daemon's root; the database is `<root>/db`.
    pub root: PathBuf,
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// The last stop was orderly.
    pub clean: bool,
    /// Commits so far.
    pub sequence: u64,
}

/// Whether writes are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreHealth {
    /// They are.
    Writable,
    /// They are refused.
    ReadOnly {
        /// Why.
        why: String,
    },
}

/// Some events and where the log begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// The oldest position still kept.
    pub oldest_kept: EventSequence,
    /// In order.
    pub events: Vec<EventRecord>,
}

/// A row that [`Store::view`] shows.
pub struct Viewed<'a> {
    /// Its table.
    pub table: Table,
    key: Key,
    value: &'a [u8],
}

impl Viewed<'_> {
    /// As what it is.
    pub fn decode<R: Record>(&self) -> Result<R> {
        codec::decode(&self.key, self.value)
    }
}

/// A cheap handle.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Arc<dyn Backend>,
    queue: SyncSender<Job>,
    event_head: watch::Receiver<u64>,
    /// Why writes are refused until the daemon starts again.
    refused: Option<String>,
    /// Why the last commit failed.
    trouble: Arc<Mutex<Option<String>>>,
    retention: Arc<Mutex<Retention>>,
    counters: Arc<Counters>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// Goes last.
    _lock: Option<RootLock>,
}

impl Store {
    /// Opens or creates `<root>/db`. Blocking. A second daemon on the same root is refused at once, naming the first.
    pub fn open(options: &StoreOptions) -> Result<(Self, OpenReport)> {
        let root = &options.root;
        std::fs::create_dir_all(root).map_err(|error| StoreError::file("cannot create", root, &error))?;
        let lock = RootLock::acquire(root)?;
        let before = mark::read(root)?;
        let path = root.join("db");
        let clean = before.is_none_or(|mark| mark.clean);
        // After an orderly stop too: what fjall does not decode it cuts off without a word.
        journal_scan::check(&path)?;
        bosun_faults::point("database.open.before")
            .map_err(|fault| StoreError::Open { path: path.clone(), why: fault.to_string() })?;
        let backend: Arc<dyn Backend> = Arc::new(Disk::open(&path)?);
        check_format(backend.as_ref())?;
        let heads = Heads::read(backend.as_ref())?;
        bosun_faults::point("database.open.after")
            .map_err(|fault| StoreError::Open { path: path.clone(), why: fault.to_string() })?;
        let refused = mark::verdict(before, heads.position);
        if let Some(why) = &refused {
            tracing::error!(why, "acknowledged data is missing: writes are refused");
        } else {
            // From here on a missing clean mark means a crash.
            mark::write(root, Mark { position: heads.position, clean: false })?;
        }
        let report = OpenReport { clean, sequence: heads.position.sequence };
        Ok((Self::start(backend, heads, refused, Some(root), Some(lock))?, report))
    }

    /// Rows in memory, same laws: for simulations and tests.
    pub fn in_memory() -> Self {
        Self::over(Arc::new(Memory::default())).unwrap_or_else(|_| unreachable!("memory does not fail"))
    }

    /// Over any backend: how a simulation starts again on what a crash left.
    pub fn over(backend: Arc<dyn Backend>) -> Result<Self> {
        check_format(backend.as_ref())?;
        let heads = Heads::read(backend.as_ref())?;
        Self::start(backend, heads, None, None, None)
    }

    fn start(
        backend: Arc<dyn Backend>,
        heads: Heads,
        refused: Option<String>,
        root: Option<&Path>,
        lock: Option<RootLock>,
    ) -> Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let (head, event_head) = watch::channel(heads.event);
        let counters = Arc::new(Counters::load(backend.as_ref())?);
        let trouble = Arc::new(Mutex::new(None));
        let retention = Arc::new(Mutex::new(Retention::default()));
        // A refused database keeps its mark: it is the evidence.
        let written = root.filter(|_| refused.is_none());
        let committer = Committer {
            backend: Arc::clone(&backend),
            heads,
            event_head: head,
            counters: Arc::clone(&counters),
            retention: Arc::clone(&retention),
            young_from: (1, None),
            calls: Calls::load(backend.as_ref())?,
            trouble: Arc::clone(&trouble),
            ballast: written.map(Ballast::new),
            root: written.map(Path::to_path_buf),
            broken: false,
            marked: Instant::now(),
            mark: None,
        };
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || committer.run(&jobs))
            .map_err(|error| {
                StoreError::file("cannot start the committer of", root.unwrap_or(Path::new("memory")), &error)
            })?;
        let inner = Inner {
            backend,
            queue,
            event_head,
            refused,
            trouble,
            retention,
            counters,
            committer: Mutex::new(Some(thread)),
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Commits all of it or nothing; durable when it returns.
    pub async fn commit(&self, batch: Batch) -> Result<Committed> {
        if let Some(why) = &self.inner.refused {
            return Err(StoreError::ReadOnly { why: why.clone() });
        }
        let (answer, committed) = oneshot::channel();
        self.inner.queue.try_send(Job::Commit(batch, answer)).map_err(refused_by_queue)?;
        committed.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Queues a batch that rides with the next commit, or goes alone when none comes within [`crate::committer::RIDE_MAX`]. Whatever is
    /// committed after this call becomes durable no earlier than this batch: that, and nothing else, is promised.
    pub fn ride(&self, batch: Batch) -> Result<()> {
        if let Some(why) = &self.inner.refused {
            return Err(StoreError::ReadOnly { why: why.clone() });
        }
        self.inner.queue.try_send(Job::Ride(batch)).map_err(refused_by_queue)
    }

    /// One row.
    pub fn get<R: Record>(&self, key: &Key) -> Result<Option<R>> {
        self.inner.backend.get(R::TABLE, key)?.map(|value| codec::decode(key, &value)).transpose()
    }

    /// Every row whose key starts with `prefix`, in key order.
    pub fn scan<R: Record>(&self, prefix: &Key) -> Result<Vec<R>> {
        let rows = self.inner.backend.scan(R::TABLE, prefix, &Key::all(), usize::MAX)?;
        rows.iter().map(|(key, value)| codec::decode(key, value)).collect()
    }

    /// Shows every row of the tables below the prefixes, all as of one moment. Bounded memory, whatever the tables hold; commits go on
    /// meanwhile. Blocking; to be short: a database that failed opens again only after it.
    pub fn view(
        &self,
        ranges: &[(Table, Key)],
        visit: &mut dyn FnMut(&Viewed<'_>) -> Result<()>,
    ) -> Result<()> {
        self.inner.backend.view(ranges, &mut |table, key, value| visit(&Viewed { table, key, value }))
    }

    /// At most `limit` events from `from` on, fewer when they are large.
    pub fn events_from(&self, from: EventSequence, limit: usize) -> Result<EventPage> {
        let backend = self.inner.backend.as_ref();
        let (mut events, mut bytes, mut next): (Vec<EventRecord>, _, _) = (Vec::new(), 0, from);
        while events.len() < limit && bytes < EVENT_PAGE_BYTES {
            let step = EVENT_READ_STEP.min(limit - events.len());
            let rows = backend.scan(Table::Events, &Key::all(), &key::event(next), step)?;
            for (key, value) in &rows {
                bytes += value.len();
                events.push(codec::decode(key, value)?);
            }
            next = events.last().map_or(next, |event| event.sequence + 1);
            if rows.len() < step {
                break;
            }
        }
        // Read last: what was dropped meanwhile is said to be.
        Ok(EventPage { oldest_kept: Heads::read(backend)?.event_oldest, events })
    }

    /// What is remembered of a call that was done.
    pub fn call(&self, id: &CallId) -> Result<Option<CallRecord>> {
        calls::find(self.inner.backend.as_ref(), id, Timestamp::now())
    }

    /// From now on so many events are kept, and for so long.
    pub fn retain_events(&self, retention: Retention) {
        *self.inner.retention.lock().unwrap_or_else(PoisonError::into_inner) = retention;
    }

    /// The newest event; 0 when there is none.
    pub fn event_head(&self) -> EventSequence {
        *self.inner.event_head.borrow()
    }

    /// Follows [`Self::event_head`].
    pub fn watch_events(&self) -> watch::Receiver<EventSequence> {
        self.inner.event_head.clone()
    }

    /// Never used again, over restarts too, once a commit that uses it is durable.
    pub fn next_operation_id(&self) -> OperationId {
        OperationId(self.inner.counters.operations.take())
    }

    /// A number for a snapshot's directory; the same promise.
    pub fn next_directory(&self) -> u64 {
        self.inner.counters.directories.take()
    }

    /// A number for a transfer; the same promise.
    pub fn next_transfer(&self) -> u64 {
        self.inner.counters.transfers.take()
    }

    /// A number for an entry of the audit log; the same promise.
    pub fn next_audit(&self) -> u64 {
        self.inner.counters.audit.take()
    }

    /// No entry of the audit log has a higher number.
    pub fn audit_head(&self) -> u64 {
        self.inner.counters.audit.peek().saturating_sub(1)
    }

    /// At most `limit` rows from `from` on, in key order.
    pub fn scan_from<R: Record>(&self, from: &Key, limit: usize) -> Result<Vec<R>> {
        let rows = self.inner.backend.scan(R::TABLE, &Key::all(), from, limit)?;
        rows.iter().map(|(key, value)| codec::decode(key, value)).collect()
    }

    /// Whether writes are taken. After a failed commit it says why; the next successful one clears it.
    pub fn health(&self) -> StoreHealth {
        let trouble = self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.inner.refused.clone().or(trouble) {
            None => StoreHealth::Writable,
            Some(why) => StoreHealth::ReadOnly { why },
        }
    }

    /// Works off the queue, writes the clean mark, ends the committer. Blocking; later commits fail with `Closed`.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        let (done, closed) = sync_channel(1);
        if self.queue.send(Job::Close(done)).is_ok() {
            let _ = closed.recv();
        }
        let thread = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// Without it the committer would still hold the database, and write its mark, after the root's lock is free.
impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn refused_by_queue(error: TrySendError<Job>) -> StoreError {
    match error {
        TrySendError::Full(_) => StoreError::Commit {
            class: bosun_types::ErrorClass::ResourceExhausted,
            why: format!("{QUEUE_MAX} commits are waiting"),
        },
        TrySendError::Disconnected(_) => StoreError::Closed,
    }
}

/// A newer format is refused unchanged; a new database gets ours.
fn check_format(backend: &dyn Backend) -> Result<()> {
    match backend.get(Table::Meta, &meta::format())? {
        None => backend.apply(&[Write {
            table: Table::Meta,
            key: meta::format(),
            value: Some(FORMAT.to_le_bytes().to_vec()),
        }]),
        Some(bytes) => {
            let found = u32::from_le_bytes(bytes.try_into().unwrap_or([0xff; 4]));
            if found > FORMAT { Err(StoreError::TooNew { found, supported: FORMAT }) } else { Ok(()) }
        }
    }
}

#[cfg(test)]
mod tests;
