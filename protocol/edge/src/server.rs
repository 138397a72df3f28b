//! Threads, the accept loop, the drain.

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bosun_actors::audit::Caller;
use bosun_actors::call::CallsHandle;
use bosun_actors::daemon::Daemon;
use bosun_protocol::{daemon_capnp::bosun, limits};
use bosun_types::access::Access;
use bosun_types::{NamespaceName, SocketId};
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use futures::io::{BufReader, BufWriter};
use tokio::sync::mpsc;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};
use tokio_util::sync::CancellationToken;

use crate::confined::Confined;
use crate::connection::{Connection, ConnectionCount, Gauges, Held, Peer};
use crate::daemon::Root;
use crate::doors::{self, Doors};
use crate::error::EdgeError;
use crate::frame::{FrameLimits, Framed};
use crate::options::EdgeOptions;
use crate::socket::{Place, Socket};

/// Pause after an accept that failed for want of descriptors or memory: they come back when others end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections accepted and not yet taken over by a thread.
const HAND_OVER_MAX: usize = 64;

/// The RPC server.
pub struct Edge;

impl Edge {
    /// Binds the socket and begins to serve. The daemon's handles do the work; nothing here holds state of its own.
    ///
    /// # Errors
    /// The socket is in use, or cannot be made.
    pub fn start(daemon: Daemon, options: EdgeOptions) -> Result<EdgeHandle, EdgeError> {
        let place =
            Place { path: options.socket.clone(), mode: options.mode, uid: options.uid, gid: options.gid };
        let (socket, listener) = Socket::bind(&place)?;
        let gauges = Arc::new(Gauges::default());
        let (doors, requests) = Doors::new(daemon.socket_directory());
        let shared = Arc::new(Shared {
            calls: daemon.calls(),
            daemon,
            options,
            doors,
            gauges: Arc::clone(&gauges),
            numbers: AtomicU64::new(1),
        });
        let mut threads = Vec::new();
        let mut hand_overs = Vec::new();
        for index in 0..shared.options.threads.max(1) {
            let (hand_over, connections) = mpsc::channel(HAND_OVER_MAX);
            hand_overs.push(hand_over);
            let shared = Arc::clone(&shared);
            threads.push(spawn(format!("bosun-edge-{index}"), move |runtime| {
                let local = tokio::task::LocalSet::new();
                local.block_on(runtime, serve(shared, connections));
            })?);
        }
        threads.push(spawn("bosun-accept".to_owned(), move |runtime| {
            let accepting = Arc::new(Accepting { shared, hand_overs, turn: AtomicUsize::new(0) });
            let main = accept(Arc::clone(&accepting), listener, Via::default());
            runtime.block_on(async { tokio::join!(main, doors::run(accepting, requests)) });
        })?);
        Ok(EdgeHandle { socket: Some(socket), threads, gauges })
    }
}

/// A running edge. Dropping it stops it without a drain.
pub struct EdgeHandle {
    socket: Option<Socket>,
    threads: Vec<JoinHandle<()>>,
    gauges: Arc<Gauges>,
}

impl EdgeHandle {
    /// Removes the socket, refuses new calls, lets those under way finish up to the deadline, then closes every connection.
    /// `true`: all of them finished.
    pub async fn drain(mut self, deadline: Duration) -> bool {
        self.socket.take();
        self.gauges.draining.cancel();
        let idle = tokio::time::timeout(deadline, async {
            loop {
                let notified = self.gauges.idle.notified();
                if self.gauges.calls() == 0 {
                    return;
                }
                notified.await;
            }
        })
        .await;
        let finished = idle.is_ok();
        if !finished {
            tracing::warn!(calls = self.gauges.calls(), ?deadline, "calls cut off at shutdown");
        }
        let stopped = tokio::task::spawn_blocking(move || self.stop()).await;
        if let Err(error) = stopped {
            tracing::error!(%error, "edge threads not joined");
        }
        finished
    }

    /// Closes every connection at once and joins the threads. Blocks.
    pub fn stop(mut self) {
        self.close();
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.gauges.connections()
    }

    fn close(&mut self) {
        self.socket.take();
        self.gauges.draining.cancel();
        self.gauges.stopped.cancel();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an edge thread panicked");
            }
        }
    }
}

impl Drop for EdgeHandle {
    fn drop(&mut self) {
        self.close();
    }
}

pub(crate) struct Shared {
    pub(crate) daemon: Daemon,
    pub(crate) calls: CallsHandle,
    pub(crate) options: EdgeOptions,
    pub(crate) doors: Doors,
    pub(crate) gauges: Arc<Gauges>,
    numbers: AtomicU64,
}

/// Through which socket a peer came, and what that lets it reach.
#[derive(Debug, Clone, Default)]
pub(crate) struct Via {
    /// `None`: the daemon's own, which lets everything.
    pub(crate) socket: Option<SocketId>,
    pub(crate) namespace: Option<NamespaceName>,
    pub(crate) access: Access,
    /// Its connections end.
    pub(crate) revoked: CancellationToken,
}

/// What the accept loops share: one for each socket, all on one thread.
pub(crate) struct Accepting {
    pub(crate) shared: Arc<Shared>,
    hand_overs: Vec<mpsc::Sender<Accepted>>,
    turn: AtomicUsize,
}

fn spawn(
    name: String,
    body: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static,
) -> Result<JoinHandle<()>, EdgeError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EdgeError::Thread)?;
    std::thread::Builder::new().name(name).spawn(move || body(&runtime)).map_err(EdgeError::Thread)
}

/// Accepts until the drain begins or the socket is revoked. No error ends it: descriptors and memory come back.
pub(crate) async fn accept(accepting: Arc<Accepting>, listener: UnixListener, via: Via) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot listen");
            return;
        }
    };
    let Shared { gauges, options, .. } = accepting.shared.as_ref();
    loop {
        let accepted = tokio::select! {
            () = gauges.draining.cancelled() => return,
            () = via.revoked.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(count) = ConnectionCount::take(gauges, options.limits.connections) else {
            tracing::warn!(limit = options.limits.connections, "connection refused: too many");
            continue;
        };
        let turn = accepting.turn.fetch_add(1, Ordering::Relaxed) % accepting.hand_overs.len();
        let Ok(stream) = stream.into_std() else { continue };
        if accepting.hand_overs[turn].send(Accepted { stream, count, via: via.clone() }).await.is_err() {
            return;
        }
    }
}

struct Accepted {
    stream: UnixStream,
    count: ConnectionCount,
    via: Via,
}

/// The body of a serving thread. When it returns, every connection of the thread is dropped.
async fn serve(shared: Arc<Shared>, mut connections: mpsc::Receiver<Accepted>) {
    loop {
        tokio::select! {
            () = shared.gauges.stopped.cancelled() => return,
            accepted = connections.recv() => match accepted {
                Some(accepted) => {
                    let shared = Arc::clone(&shared);
                    let revoked = accepted.via.revoked.clone();
                    tokio::task::spawn_local(async move {
                        let served = tokio::select! {
                            served = serve_connection(shared, accepted) => served,
                            () = revoked.cancelled() => Err(capnp::Error::disconnected("revoked".to_owned())),
                        };
                        if let Err(error) = served {
                            tracing::debug!(%error, "connection ended");
                        }
                    });
                }
                // The accept loop has ended; those that are connected go on until the stop.
                None => return shared.gauges.stopped.cancelled().await,
            },
        }
    }
}

async fn serve_connection(shared: Arc<Shared>, accepted: Accepted) -> Result<(), capnp::Error> {
    let Accepted { stream, count: _count, via } = accepted;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let credentials = stream.peer_cred()?;
    let caller =
        Caller { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0), socket: via.socket.clone() };
    let options = &shared.options;
    let number = shared.numbers.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(connection = number, uid = caller.uid, pid = caller.pid, socket = ?via.socket, "connected");
    let peer = Peer { caller, namespace: via.namespace.clone(), access: via.access };
    let audit = shared.daemon.audit();
    let limits = options.limits.clone();
    let connection =
        Connection::new(number, peer, audit, Some(shared.calls.clone()), limits, Arc::clone(&shared.gauges));
    let held = Held::first(&connection)?;
    let bootstrap: bosun::Client = match via.namespace {
        None => capnp_rpc::new_client(Root::new(held, Arc::clone(&shared))),
        Some(namespace) => capnp_rpc::new_client(Confined::new(held, Arc::clone(&shared), namespace)),
    };
    let (read_half, write_half) = stream.into_split();
    let frame_limits = FrameLimits {
        message_bytes_max: limits::REQUEST_BYTES_MAX as u64,
        handshake: options.limits.handshake,
        stall: options.limits.stall,
    };
    let mut network = twoparty::VatNetwork::new(
        BufReader::with_capacity(limits::IO_BUFFER_BYTES, Framed::new(read_half, frame_limits).compat()),
        BufWriter::with_capacity(limits::IO_BUFFER_BYTES, write_half.compat_write()),
        Side::Server,
        limits::reader_options(limits::REQUEST_BYTES_MAX),
    );
    network.set_window_size(limits::WINDOW_BYTES);
    RpcSystem::new(Box::new(network), Some(bootstrap.client)).await
}
