//! One connection to a shim: frames out by a writer task, frames in by a reader task, answers matched by id.
//!
//! A request that is not answered in time fails alone; its late answer is dropped. Whatever breaks the rules (a frame
//! that does not decode or is over the limit, a stranger at the other end) ends the connection, never the daemon: every
//! request under way then fails as Unavailable, and the task connects anew. Notices not read in time end it as well:
//! the next connection gets the unacknowledged exits again, so none is lost and none is buffered without bound.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bosun_types::shim::codec::{FRAME_HEADER_BYTES, decode_body, encode_frame, frame_length};
use bosun_types::shim::{
    FromShim, Notice, ONCE_SINCE, PROTOCOL_VERSION, Request, Response, TRACED_SINCE, ToShim, file,
};
use bosun_types::task::ProcessIdentity;
use bosun_types::{Error, ErrorClass};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::error::{Context as _, Result};

/// Requests of one connection under way at once; more wait, within their deadline.
const IN_FLIGHT_MAX: usize = 64;
/// Notices not yet taken by the task.
const NOTICES_MAX: usize = 256;
/// How long the task may leave them untaken before the connection ends.
const NOTICES_WAIT: Duration = Duration::from_secs(5);

/// A live connection. Clones share it; it closes when the last one is dropped.
#[derive(Debug, Clone)]
pub struct ShimConnection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    shim: ProcessIdentity,
    version: u32,
    next: AtomicU64,
    room: Semaphore,
    outgoing: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    _other: Option<Other>,
    /// Dropped with the last handle: the reader ends.
    _open: watch::Sender<()>,
}

/// Who waits for which answer; and why no more will come.
#[derive(Debug)]
struct Waiting {
    table: Mutex<Table>,
    closed: watch::Sender<Option<Arc<str>>>,
}

#[derive(Debug, Default)]
struct Table {
    answers: HashMap<u64, oneshot::Sender<Result<Response, Error>>>,
    closed: Option<Arc<str>>,
}

/// Connects to the shim of a task directory and exchanges greetings, all within `deadline`.
///
/// The directory's path may be longer than a socket address can be.
pub async fn connect(
    directory: &Path,
    nonce: &str,
    deadline: Duration,
) -> Result<(ShimConnection, mpsc::Receiver<Notice>)> {
    match tokio::time::timeout(deadline, open(directory, nonce)).await {
        Ok(opened) => opened,
        Err(_) => {
            let message = format!("the shim of task {nonce} does not answer within {deadline:?}");
            Err(Error::new(ErrorClass::DeadlineExceeded, message).into())
        }
    }
}

async fn open(directory: &Path, nonce: &str) -> Result<(ShimConnection, mpsc::Receiver<Notice>)> {
    let greeted = greet(directory, nonce).await?;
    Ok(start(directory, nonce, greeted))
}

/// Tasks whose shim is of another release than this daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShimSkew {
    /// Older: newer requests are refused by them.
    pub older: u32,
    /// Newer: this daemon is what is old.
    pub newer: u32,
}

/// By nonce, while there is a connection to it: its version, and how many connections.
static OTHERS: Mutex<BTreeMap<String, (u32, u32)>> = Mutex::new(BTreeMap::new());

/// Counts the connected tasks whose shim is of another release.
pub fn skew() -> ShimSkew {
    let others = OTHERS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = |is: fn(u32) -> bool| {
        u32::try_from(others.values().filter(|it| is(it.0)).count()).unwrap_or(u32::MAX)
    };
    ShimSkew { older: count(|it| it < PROTOCOL_VERSION), newer: count(|it| it > PROTOCOL_VERSION) }
}

/// One connection to a shim of another release.
#[derive(Debug)]
struct Other(String);

impl Other {
    fn of(nonce: &str, version: u32) -> Option<Self> {
        if version == PROTOCOL_VERSION {
            return None;
        }
        let mut others = OTHERS.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, connections) = others.entry(nonce.to_owned()).or_default();
        *known = version;
        *connections += 1;
        Some(Self(nonce.to_owned()))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let mut others = OTHERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connections)) = others.get_mut(&self.0) {
            *connections -= 1;
            if *connections == 0 {
                others.remove(&self.0);
            }
        }
    }
}

/// A connection after its greetings.
pub(super) struct Greeted {
    /// As it says itself.
    version: u32,
    shim: ProcessIdentity,
    pub read: BufReader<OwnedReadHalf>,
    pub write: OwnedWriteHalf,
}

/// Connects and exchanges greetings.
pub(super) async fn greet(directory: &Path, nonce: &str) -> Result<Greeted> {
    let what = || format!("connect to {}", directory.join(file::SOCKET).display());
    // Socket addresses hold about a hundred bytes: through the descriptor the path is short.
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(directory)
        .context(what)?;
    let address = format!("/proc/self/fd/{}/{}", opened.as_raw_fd(), file::SOCKET);
    let stream = UnixStream::connect(&address).await.map_err(|error| {
        let message = format!("{}: {error}", what());
        Error::unavailable(message).with_hint("the shim has ended, or never came up")
    })?;
    let peer = stream.peer_cred().context(what)?;
    let own = nix::unistd::geteuid().as_raw();
    if peer.uid() != 0 && peer.uid() != own {
        let message = format!("the process at {} belongs to user {}", directory.display(), peer.uid());
        return Err(Error::permission_denied(message).into());
    }
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let hello = encode_frame(&ToShim::Hello { version: PROTOCOL_VERSION, nonce: nonce.to_owned() })?;
    write.write_all(&hello).await.context(what)?;
    let (version, shim) = greeting(&mut read, nonce).await?;
    // The socket's other end was made by the process that the shim says it is (F31).
    if peer.pid().is_some_and(|pid| pid.unsigned_abs() != shim.pid) {
        let message =
            format!("the shim of task {nonce} says it is process {}, but {:?} answers", shim.pid, peer.pid());
        return Err(Error::permission_denied(message).into());
    }
    Ok(Greeted { version, shim, read, write })
}

/// Tests let a shim seem to be of another release.
fn seen(version: u32) -> u32 {
    if bosun_faults::flagged("shim.older") {
        return version.saturating_sub(1);
    }
    if bosun_faults::flagged("shim.newer") { version.saturating_add(1) } else { version }
}

async fn greeting(read: &mut BufReader<OwnedReadHalf>, nonce: &str) -> Result<(u32, ProcessIdentity)> {
    let refused = |why: String| Error::unavailable(format!("the shim of task {nonce} does not greet: {why}"));
    match read_frame(read).await {
        Ok(Some(FromShim::Hello { version: 0, .. })) => Err(refused("its version is 0".into()).into()),
        Ok(Some(FromShim::Hello { version, shim })) => Ok((seen(version), shim)),
        Ok(Some(_)) => Err(refused("it began with something else".into()).into()),
        Ok(None) => Err(refused("it closed the connection; is the nonce wrong?".into()).into()),
        Err(why) => Err(refused(why).into()),
    }
}

fn start(directory: &Path, nonce: &str, greeted: Greeted) -> (ShimConnection, mpsc::Receiver<Notice>) {
    let Greeted { version, shim, read, write } = greeted;
    let (outgoing, frames) = mpsc::channel(IN_FLIGHT_MAX);
    let (notices, taken) = mpsc::channel(NOTICES_MAX);
    let (open, opened) = watch::channel(());
    let waiting = Arc::new(Waiting { table: Mutex::default(), closed: watch::Sender::new(None) });
    tokio::spawn(write_frames(frames, write, waiting.clone()));
    tokio::spawn(read_frames(read, notices, opened, waiting.clone()));
    let inner = Inner {
        directory: directory.to_owned(),
        shim,
        version: version.min(PROTOCOL_VERSION),
        _other: Other::of(nonce, version),
        next: AtomicU64::new(1),
        room: Semaphore::new(IN_FLIGHT_MAX),
        outgoing,
        waiting,
        _open: open,
    };
    (ShimConnection { inner: Arc::new(inner) }, taken)
}

impl ShimConnection {
    /// The same as [`connect`].
    pub async fn connect(
        directory: &Path,
        nonce: &str,
        deadline: Duration,
    ) -> Result<(Self, mpsc::Receiver<Notice>)> {
        connect(directory, nonce, deadline).await
    }

    /// The shim at the other end, as it says and the kernel confirms by pid.
    pub fn shim(&self) -> ProcessIdentity {
        self.inner.shim
    }

    /// The version both speak.
    pub fn version(&self) -> u32 {
        self.inner.version
    }

    /// Asks and waits for the answer, at most `deadline`. DeadlineExceeded: it may still be carried out; every request
    /// is idempotent, so ask again. Unavailable: the connection is over.
    pub async fn request(&self, request: Request, deadline: Duration) -> Result<Response> {
        let request = match request {
            // An older shim remembers no calls: it does what it is asked, as it always did.
            Request::Once { request, .. } if self.inner.version < ONCE_SINCE => *request,
            Request::Recall { call } if self.inner.version < ONCE_SINCE => {
                return Err(Error::not_found(format!("call {}", call.key)).into());
            }
            request => request,
        };
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let call = crate::call::current().filter(|_| self.inner.version >= TRACED_SINCE);
        let frame = encode_frame(&match call {
            Some(call) => ToShim::Traced { id, call, request },
            None => ToShim::Request { id, request },
        })?;
        // Forgets the answer's slot however this ends, also when the caller is dropped.
        let slot = Slot { waiting: &self.inner.waiting, id };
        match tokio::time::timeout(deadline, self.exchange(&slot, frame)).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!(
                    "the shim in {} did not answer within {deadline:?}",
                    self.inner.directory.display()
                );
                Err(Error::new(ErrorClass::DeadlineExceeded, message).into())
            }
        }
    }

    /// Ends when the connection is over, with the reason.
    pub async fn closed(&self) -> String {
        let mut closed = self.inner.waiting.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.as_deref().unwrap_or_default().to_owned(),
            Err(_) => String::new(),
        }
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.inner.waiting.closed.borrow().is_some()
    }

    async fn exchange(&self, slot: &Slot<'_>, frame: Vec<u8>) -> Result<Response> {
        let inner = &self.inner;
        let _room =
            inner.room.acquire().await.map_err(|_| Error::internal("the connection's room is closed"))?;
        let answer = inner.waiting.expect(slot.id)?;
        if inner.outgoing.send(frame).await.is_err() {
            return Err(inner.waiting.over().into());
        }
        match answer.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(inner.waiting.over().into()),
        }
    }
}

struct Slot<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.waiting.lock().answers.remove(&self.id);
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, id: u64) -> Result<oneshot::Receiver<Result<Response, Error>>, Error> {
        let mut table = self.lock();
        if let Some(why) = &table.closed {
            return Err(unavailable(why));
        }
        let (sender, receiver) = oneshot::channel();
        table.answers.insert(id, sender);
        Ok(receiver)
    }

    fn answer(&self, id: u64, result: Result<Response, Error>) {
        // Nobody waits: too late, or an id that was never given out. Neither harms.
        if let Some(waiter) = self.lock().answers.remove(&id) {
            let _ = waiter.send(result);
        }
    }

    /// The first reason stands.
    fn close(&self, why: &str) {
        let mut table = self.lock();
        if table.closed.is_none() {
            let why: Arc<str> = why.into();
            table.closed = Some(why.clone());
            self.closed.send_replace(Some(why));
        }
        table.answers.clear();
    }

    fn over(&self) -> Error {
        unavailable(self.lock().closed.as_deref().unwrap_or("it ended"))
    }
}

fn unavailable(why: &str) -> Error {
    Error::unavailable(format!("the connection to the shim is over: {why}"))
}

async fn write_frames(mut frames: mpsc::Receiver<Vec<u8>>, mut write: OwnedWriteHalf, waiting: Arc<Waiting>) {
    let mut closed = waiting.closed.subscribe();
    loop {
        let frame = tokio::select! {
            frame = frames.recv() => frame,
            _ = closed.wait_for(Option::is_some) => None,
        };
        let Some(frame) = frame else { return };
        // A shim that does not read holds this up for ever; the requests have deadlines, and so has the connection.
        tokio::select! {
            written = write.write_all(&frame) => if let Err(error) = written {
                return waiting.close(&format!("writing to it: {error}"));
            },
            _ = closed.wait_for(Option::is_some) => return,
        }
    }
}

async fn read_frames(
    mut read: BufReader<OwnedReadHalf>,
    notices: mpsc::Sender<Notice>,
    mut opened: watch::Receiver<()>,
    waiting: Arc<Waiting>,
) {
    let why = tokio::select! {
        why = deliver(&mut read, &notices, &waiting) => why,
        _ = opened.changed() => "nobody uses it any more".to_owned(),
    };
    waiting.close(&why);
}

/// Hands on what comes until something is wrong; the reason.
async fn deliver(
    read: &mut BufReader<OwnedReadHalf>,
    notices: &mpsc::Sender<Notice>,
    waiting: &Waiting,
) -> String {
    loop {
        match read_frame(read).await {
            Ok(Some(FromShim::Reply { id, result })) => waiting.answer(id, result),
            Ok(Some(FromShim::Notice(notice))) => {
                match tokio::time::timeout(NOTICES_WAIT, notices.send(notice)).await {
                    // The task took its receiver away: it wants answers only.
                    Ok(_) => {}
                    Err(_) => return "its notices were not taken in time".to_owned(),
                }
            }
            Ok(Some(FromShim::Output(_))) => return "it sent output that nobody attached to".to_owned(),
            Ok(Some(FromShim::Hello { .. })) => return "it greeted twice".to_owned(),
            Ok(None) => return "the shim closed it".to_owned(),
            Err(why) => return why,
        }
    }
}

/// One message; `None` at a clean end.
pub(super) async fn read_frame(read: &mut BufReader<OwnedReadHalf>) -> Result<Option<FromShim>, String> {
    let mut header = [0; FRAME_HEADER_BYTES];
    match read.read(&mut header).await {
        Ok(0) => return Ok(None),
        Ok(count) => {
            read.read_exact(&mut header[count..]).await.map_err(|error| format!("reading: {error}"))?
        }
        Err(error) => return Err(format!("reading: {error}")),
    };
    let length = frame_length(header).map_err(|error| error.message)?;
    let mut body = Vec::new();
    // Grows with what really comes: a length alone makes nobody allocate.
    let count =
        read.take(length as u64).read_to_end(&mut body).await.map_err(|error| format!("reading: {error}"))?;
    if count < length {
        return Err("the shim closed it in the middle of a frame".to_owned());
    }
    decode_body(&body).map(Some).map_err(|error| error.message)
}

#[cfg(test)]
mod tests;
