//! The sockets that yield one namespace each: made like the records say, at the start and after each change.
//!
//! ```text
//!   record committed ──open──▶ bound, accepting ──record dropped, close──▶ connections ended, file removed
//!          ▲                                                                     │ killed in between
//!          └────────── start: every record is opened, files without one are removed ◀──┘
//! ```
//!
//! **Owns** the listeners, on the accept thread. The records are the daemon's (`bosun_actors::sockets`), so a crash at any instant leaves what
//! the next start makes right.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bosun_types::access::SocketRecord;
use bosun_types::{Error, Result, SocketId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::EdgeError;
use crate::server::{Accepting, Via, accept};
use crate::socket::{Place, Socket};

/// Openings and closings that may wait.
const WAITING_MAX: usize = 64;
/// Through the directory everybody comes to the sockets, whose own modes say who may connect; nobody can list it.
const DIRECTORY_MODE: u32 = 0o711;

enum Request {
    Open(SocketRecord, oneshot::Sender<Result<()>>),
    Close(SocketId, oneshot::Sender<Result<()>>),
}

/// Opens and closes; cheap to clone.
#[derive(Clone)]
pub(crate) struct Doors {
    directory: PathBuf,
    requests: mpsc::Sender<Request>,
}

/// The other end, for [`run`].
pub(crate) struct Requests(mpsc::Receiver<Request>);

impl Doors {
    pub(crate) fn new(directory: PathBuf) -> (Self, Requests) {
        let (requests, receiver) = mpsc::channel(WAITING_MAX);
        (Self { directory, requests }, Requests(receiver))
    }

    /// Where the socket of a record is.
    pub(crate) fn place(&self, record: &SocketRecord) -> Place {
        Place {
            path: self.directory.join(format!("{}.sock", record.id)),
            mode: record.mode,
            uid: Some(record.uid),
            gid: Some(record.gid),
        }
    }

    /// Binds it and begins to accept.
    pub(crate) async fn open(&self, record: SocketRecord) -> Result<()> {
        self.ask(|reply| Request::Open(record, reply)).await
    }

    /// Ends its connections and removes it; none there is success.
    pub(crate) async fn close(&self, id: SocketId) -> Result<()> {
        self.ask(|reply| Request::Close(id, reply)).await
    }

    async fn ask(&self, request: impl FnOnce(oneshot::Sender<Result<()>>) -> Request) -> Result<()> {
        let stops = || Error::unavailable("the daemon is shutting down");
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| stops())?;
        answer.await.unwrap_or_else(|_| Err(stops()))
    }
}

/// A socket that is open. Dropped: its file goes.
struct Door {
    _socket: Socket,
    revoked: CancellationToken,
}

/// On the accept thread, until the drain begins; then every socket's file goes, as the daemon's own does.
pub(crate) async fn run(accepting: Arc<Accepting>, mut requests: Requests) {
    let mut open = BTreeMap::new();
    restore(&accepting, &mut open);
    loop {
        let request = tokio::select! {
            () = accepting.shared.gauges.draining.cancelled() => return,
            request = requests.0.recv() => request,
        };
        // Whoever asked may be gone.
        match request {
            None => return,
            Some(Request::Open(record, reply)) => drop(reply.send(open_door(&accepting, &mut open, &record))),
            Some(Request::Close(id, reply)) => {
                if let Some(Door { revoked, .. }) = open.remove(&id) {
                    revoked.cancel();
                }
                let _ = reply.send(Ok(()));
            }
        }
    }
}

/// Everything that is recorded is opened, one that fails alone is logged; what is not recorded is removed.
fn restore(accepting: &Arc<Accepting>, open: &mut BTreeMap<SocketId, Door>) {
    let records = match accepting.shared.daemon.sockets().list() {
        Ok(records) => records,
        Err(error) => {
            tracing::error!(%error, "namespace sockets are not open");
            return;
        }
    };
    for record in &records {
        if let Err(error) = open_door(accepting, open, record) {
            tracing::error!(socket = %record.id, %error, "a namespace's socket is not open");
        }
    }
    let wanted: Vec<PathBuf> =
        records.iter().map(|record| accepting.shared.doors.place(record).path).collect();
    for entry in std::fs::read_dir(&accepting.shared.doors.directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !wanted.contains(&path)
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "what an earlier daemon left is not removed");
        }
    }
}

fn open_door(
    accepting: &Arc<Accepting>,
    open: &mut BTreeMap<SocketId, Door>,
    record: &SocketRecord,
) -> Result<()> {
    ensure_directory(&accepting.shared.doors.directory)?;
    let (socket, listener) = Socket::bind(&accepting.shared.doors.place(record)).map_err(Error::from)?;
    let revoked = CancellationToken::new();
    let via = Via {
        socket: Some(record.id.clone()),
        namespace: Some(record.namespace.clone()),
        access: record.access,
        revoked: revoked.clone(),
    };
    tokio::spawn(accept(Arc::clone(accepting), listener, via));
    open.insert(record.id.clone(), Door { _socket: socket, revoked });
    Ok(())
}

fn ensure_directory(path: &Path) -> Result<()> {
    let io = |source| Error::from(EdgeError::Io { path: path.to_owned(), doing: "cannot make it", source });
    std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(io)?;
    // The process's umask is not ours to rely on.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(DIRECTORY_MODE)).map_err(io)
}
