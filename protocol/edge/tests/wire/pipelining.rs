//! Create, start and wait in one round trip: proven by a transport that counts calls on their way in and holds every answer
//! back. What is asked before the first answer is let go was asked for without one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use capnp_rpc::rpc_capnp::message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::support::{Served, eventually, request, web};

/// A proxy in front of the daemon.
pub(crate) struct Gate {
    pub(crate) path: PathBuf,
    open: watch::Sender<bool>,
    /// Calls that the client has sent.
    calls: Arc<AtomicUsize>,
    /// Bytes that the daemon has sent.
    pub(crate) answered: Arc<AtomicUsize>,
}

impl Gate {
    pub(crate) fn before(served: &Served) -> Self {
        let path = served.directory.path().join("gate");
        let listener = UnixListener::bind(&path).expect("binds");
        let gate =
            Self { path, open: watch::channel(true).0, calls: Arc::default(), answered: Arc::default() };
        let (target, mut open) = (served.socket(), gate.open.subscribe());
        let (calls, answered) = (Arc::clone(&gate.calls), Arc::clone(&gate.answered));
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.expect("accepts");
            let server = UnixStream::connect(target).await.expect("connects");
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let (mut buffer, mut unread) = (vec![0; 65_536], Vec::new());
                while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                    unread.extend_from_slice(&buffer[..count]);
                    calls.fetch_add(take_calls(&mut unread), Ordering::SeqCst);
                    to_server.write_all(&buffer[..count]).await.expect("forwards");
                }
            });
            let mut buffer = vec![0; 65_536];
            while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                open.wait_for(|open| *open).await.expect("the gate lives");
                answered.fetch_add(count, Ordering::SeqCst);
                to_client.write_all(&buffer[..count]).await.expect("forwards");
            }
        });
        gate
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Takes whole messages off the front; how many of them are calls.
fn take_calls(unread: &mut Vec<u8>) -> usize {
    let mut calls = 0;
    loop {
        let mut rest = unread.as_slice();
        let options = capnp::message::ReaderOptions::new();
        let Ok(read) = capnp::serialize::read_message_from_flat_slice(&mut rest, options) else {
            return calls;
        };
        let root: message::Reader<'_> = read.get_root().expect("an RPC message");
        calls += usize::from(matches!(root.which(), Ok(message::Which::Call(_))));
        let taken = unread.len() - rest.len();
        unread.drain(..taken);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn create_start_and_wait_take_one_round_trip() {
    let served = Served::start().await;
    let gate = Gate::before(&served);
    let client = crate::support::client_of(gate.path.clone()).await;
    gate.open.send_replace(false);
    let before = gate.calls();
    let running = tokio::spawn(async move { web(&client).run(request("c1")).await?.wait().await });
    // No answer has left the gate, and yet the process runs: nothing waited for an answer.
    eventually("the start at the host", || served.host.started() == ["c1"]).await;
    assert!(!running.is_finished());
    // Into the namespace, its key, its containers; create, create task, start, wait.
    let sent = gate.calls();
    assert_eq!(sent - before, 7, "calls before the first answer");
    gate.open.send_replace(true);
    let other = served.client().await;
    web(&other).container("c1".parse().expect("well formed")).task().kill(15, false).await.expect("killed");
    assert_eq!(running.await.expect("joins").expect("waited").code(), 143);
    assert_eq!(gate.calls(), sent, "no call followed an answer");
}

/// A sender that is not answered goes on for a window: at least a mebibyte, whatever the round trip takes (CON-12).
#[tokio::test(flavor = "multi_thread")]
async fn a_content_write_keeps_a_mebibyte_under_way() {
    let served = Served::start().await;
    let gate = Gate::before(&served);
    let client = crate::support::client_of(gate.path.clone()).await;
    let mut writer = web(&client).content().writer("wide".to_owned(), 0, None).await.expect("opens");
    gate.open.send_replace(false);
    let before = gate.calls();
    let writing = tokio::spawn(async move {
        writer.write(vec![7; 8 << 20].into()).await?;
        writer.commit(8 << 20, None, bosun_types::Labels::new()).await
    });
    let chunks = (1 << 20) / bosun_protocol::limits::CHUNK_BYTES;
    eventually("a mebibyte without an answer", || gate.calls() - before >= chunks).await;
    assert!(!writing.is_finished());
    gate.open.send_replace(true);
    assert_eq!(writing.await.expect("joins").expect("commits").size, 8 << 20);
}
