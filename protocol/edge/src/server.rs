//! Threads, the accept loop, the drain.

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bosun_actors::daemon::Daemon;
use bosun_protocol::{daemon_capnp::bosun, limits};
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use futures::io::{BufReader, BufWriter};
use tokio::sync::mpsc;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::connection::{Connection, ConnectionCount, Gauges, Held, Peer};
use crate::daemon::Root;
use crate::error::EdgeError;
use crate::frame::{FrameLimits, Framed};
use crate::options::EdgeOptions;
use crate::socket::Socket;

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
        let (socket, listener) = Socket::bind(&options)?;
        let gauges = Arc::new(Gauges::default());
        let shared =
            Arc::new(Shared { daemon, options, gauges: Arc::clone(&gauges), numbers: AtomicU64::new(1) });
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
            runtime.block_on(accept(&shared, listener, &hand_overs));
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

struct Shared {
    daemon: Daemon,
    options: EdgeOptions,
    gauges: Arc<Gauges>,
    numbers: AtomicU64,
}

fn spawn(
    name: String,
    body: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static,
) -> Result<JoinHandle<()>, EdgeError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EdgeError::Thread)?;
    std::thread::Builder::new().name(name).spawn(move || body(&runtime)).map_err(EdgeError::Thread)
}

/// Accepts until the drain begins. No error ends it: descriptors and memory come back.
async fn accept(shared: &Shared, listener: UnixListener, hand_overs: &[mpsc::Sender<Accepted>]) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot listen");
            return;
        }
    };
    let mut turn = hand_overs.iter().cycle();
    loop {
        let accepted = tokio::select! {
            () = shared.gauges.draining.cancelled() => return,
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
        let Some(count) = ConnectionCount::take(&shared.gauges, shared.options.limits.connections) else {
            tracing::warn!(limit = shared.options.limits.connections, "connection refused: too many");
            continue;
        };
        let (Ok(stream), Some(thread)) = (stream.into_std(), turn.next()) else { continue };
        if thread.send(Accepted { stream, count }).await.is_err() {
            return;
        }
    }
}

struct Accepted {
    stream: UnixStream,
    count: ConnectionCount,
}

/// The body of a serving thread. When it returns, every connection of the thread is dropped.
async fn serve(shared: Arc<Shared>, mut connections: mpsc::Receiver<Accepted>) {
    loop {
        tokio::select! {
            () = shared.gauges.stopped.cancelled() => return,
            accepted = connections.recv() => match accepted {
                Some(accepted) => {
                    let shared = Arc::clone(&shared);
                    tokio::task::spawn_local(async move {
                        if let Err(error) = serve_connection(&shared, accepted).await {
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

async fn serve_connection(shared: &Shared, accepted: Accepted) -> Result<(), capnp::Error> {
    let Accepted { stream, count: _count } = accepted;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let credentials = stream.peer_cred()?;
    let peer = Peer { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0) };
    let options = &shared.options;
    let number = shared.numbers.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(connection = number, uid = peer.uid, pid = peer.pid, "connected");
    let connection = Connection::new(number, peer, options.limits.clone(), Arc::clone(&shared.gauges));
    let root = Root::new(
        Held::new(&connection)?,
        shared.daemon.clone(),
        options.version.clone(),
        options.revision.clone(),
    );
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
    let bootstrap: bosun::Client = capnp_rpc::new_client(root);
    RpcSystem::new(Box::new(network), Some(bootstrap.client)).await
}
