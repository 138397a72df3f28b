//! Peers that speak no protocol, claim too much, say nothing, or hang up: the daemon serves on.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::{Served, eventually, request, web};
use bosun_protocol::daemon_capnp::bosun;
use bosun_types::ErrorClass;
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

/// Connections of the random test.
const FUZZED: u64 = 1000;

/// Sends bytes, ends the sending side, and reads until the edge closes.
fn throw(served: &Served, bytes: &[u8]) {
    let mut stream = UnixStream::connect(served.socket()).expect("connects");
    stream.set_read_timeout(Some(crate::support::DEADLINE)).expect("a socket");
    // The edge may close before it has read everything: that is its right.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "not closed after {bytes:?}");
    }
}

/// A frame around these words.
fn framed(body: &[u8]) -> Vec<u8> {
    let words = u32::try_from(body.len().div_ceil(8)).expect("small");
    let mut bytes = [0u32.to_le_bytes(), words.to_le_bytes()].concat();
    bytes.extend_from_slice(body);
    bytes.resize(8 + words as usize * 8, 0);
    bytes
}

/// xorshift, so that a failure's seed tells all.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.next() % most).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bytes_end_their_connection_and_nothing_else() {
    let served = Served::start().await;
    let client = served.client().await;
    let claim = |words: u32| [0u32.to_le_bytes(), words.to_le_bytes()].concat();
    let inputs: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: bosun\r\n\r\n",
        &[0xff; 64],
        &[],
        &claim(60 << 17),
        &claim(u32::MAX),
        &[0xfe, 0xff, 0xff, 0xff],
        &[0; 8],
        &framed(&[7; 64]),
    ];
    for input in inputs {
        throw(&served, input);
    }
    client.status().await.expect("serves on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_random_connections_leave_nothing() {
    let served = Served::start().await;
    let client = served.client().await;
    let seed = 0x9e37_79b9_7f4a_7c15;
    let mut random = Random(seed);
    for _ in 0..FUZZED {
        let body = random.bytes(256);
        let input = if random.next().is_multiple_of(2) { framed(&body) } else { body };
        throw(&served, &input);
    }
    client.status().await.expect("serves on");
    let edge = served.edge.as_ref().expect("serves");
    eventually("all of them to be gone", || edge.connections() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_real_client_with_flipped_bits_do_no_harm() {
    let served = Served::start().await;
    let client = served.client().await;
    let recorded = record_a_session(&served).await;
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..FUZZED / 4 {
        let mut input = recorded.clone();
        for _ in 0..=random.next() % 4 {
            let at = usize::try_from(random.next()).expect("64 bit") % input.len();
            input[at] ^= 1 << (random.next() % 8);
        }
        throw(&served, &input);
    }
    client.status().await.expect("serves on");
}

/// What a client sends for a few calls.
async fn record_a_session(served: &Served) -> Vec<u8> {
    let path = served.directory.path().join("recorder");
    let listener = tokio::net::UnixListener::bind(&path).expect("binds");
    let target = served.socket();
    let recording = tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("accepts");
        let server = tokio::net::UnixStream::connect(target).await.expect("connects");
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut seen = Vec::new();
        let mut buffer = vec![0; 65_536];
        loop {
            let count = tokio::io::AsyncReadExt::read(&mut from_client, &mut buffer).await.unwrap_or(0);
            if count == 0 {
                answers.abort();
                return seen;
            }
            seen.extend_from_slice(&buffer[..count]);
            tokio::io::AsyncWriteExt::write_all(&mut to_server, &buffer[..count]).await.expect("forwards");
        }
    });
    let client = crate::support::client_of(path).await;
    web(&client).run(request("recorded")).await.expect("runs");
    client.namespaces().await.expect("lists");
    drop(client);
    recording.await.expect("recorded")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_or_stops_in_a_message_is_cut_off() {
    let served = Served::start_with(|options| {
        options.limits.handshake = Duration::from_millis(100);
        options.limits.stall = Duration::from_millis(100);
    })
    .await;
    let client = served.client().await;
    for bytes in [&b""[..], &[0, 0, 0, 0, 100, 0, 0, 0]] {
        let mut stream = UnixStream::connect(served.socket()).expect("connects");
        stream.write_all(bytes).expect("writes");
        stream.set_read_timeout(Some(crate::support::DEADLINE)).expect("a socket");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("closed by the edge");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.status().await.expect("a client that has spoken may be silent as long as it likes");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_are_closed_and_counted_back() {
    let served = Served::start_with(|options| options.limits.connections = 3).await;
    let held: Vec<UnixStream> =
        (0..3).map(|_| UnixStream::connect(served.socket()).expect("connects")).collect();
    let edge = served.edge.as_ref().expect("serves");
    eventually("three connections", || edge.connections() == 3).await;
    throw(&served, &framed(&[0; 8]));
    drop(held);
    eventually("room again", || edge.connections() == 0).await;
    served.client().await.status().await.expect("served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_in_the_middle_of_a_call_frees_everything() {
    let served = Served::start().await;
    let client = served.client().await;
    web(&client).run(request("c1")).await.expect("runs");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { web(&client).container("c1".parse().expect("well formed")).task().wait().await }
    });
    let edge = served.edge.as_ref().expect("serves");
    waiting.abort();
    drop(client);
    eventually("the connection to go", || edge.connections() == 0).await;
    let client = served.client().await;
    let task = web(&client).container("c1".parse().expect("well formed")).task();
    task.kill(9, false).await.expect("the task did not notice");
}

/// Runs against the bare schema, as a foreign client would.
async fn with_bare_client(served: &Served, body: impl AsyncFnOnce(bosun::Client)) {
    with_bare_client_at(served.socket(), body).await;
}

/// A client that is nothing but the generated code.
pub(crate) async fn with_bare_client_at(socket: std::path::PathBuf, body: impl AsyncFnOnce(bosun::Client)) {
    let stream = tokio::net::UnixStream::connect(socket).await.expect("connects");
    let (read_half, write_half) = stream.into_split();
    let network = twoparty::VatNetwork::new(
        read_half.compat(),
        write_half.compat_write(),
        Side::Client,
        capnp::message::ReaderOptions::new(),
    );
    let mut system = RpcSystem::new(Box::new(network), None);
    let client = system.bootstrap(Side::Server);
    let local = tokio::task::LocalSet::new();
    local.spawn_local(async move {
        // Ends when the test does.
        let _ = system.await;
    });
    local.run_until(body(client)).await;
}

#[tokio::test]
async fn id_1_over_long_and_malformed_identifiers_are_typed_errors() {
    let served = Served::start().await;
    with_bare_client(&served, async |bosun| {
        for (id, class) in [
            ("x".repeat(77), ErrorClass::InvalidArgument),
            ("a/../b".to_owned(), ErrorClass::InvalidArgument),
            (String::new(), ErrorClass::FailedPrecondition),
        ] {
            let mut request = bosun.namespace_request();
            request.get().set_id(id.as_str());
            let response = request.send().promise.await.expect("an answer");
            let results = response.get().expect("results");
            let error = bosun_protocol::Wire::read(results.get_error().expect("an error")).expect("reads");
            let error: bosun_types::Error = error;
            assert_eq!(error.class, class, "{error}");
            // What is pipelined on it meets the same refusal.
            let namespace = results.get_namespace().expect("a broken one");
            let exception = namespace.record_request().send().promise.await.err().expect("broken");
            assert_eq!(bosun_protocol::convert::from_exception(&exception.extra), Some(error));
        }
        let mut request = bosun.namespace_request();
        request.get().set_id("web");
        let namespace = request.send().pipeline.get_namespace();
        let containers = namespace.containers_request().send().pipeline.get_containers();
        let mut create = containers.create_request();
        create.get().init_request().set_id("y".repeat(77).as_str());
        let response = create.send().promise.await.expect("an answer");
        let error = response.get().expect("results").get_error().expect("an error");
        let error: bosun_types::Error = bosun_protocol::Wire::read(error).expect("reads");
        assert!(error.message.contains("77 bytes"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_chunk_over_the_limit_ends_its_stream_with_a_reason() {
    let served = Served::start().await;
    with_bare_client(&served, async |bosun| {
        let mut request = bosun.namespace_request();
        request.get().set_id("web");
        let namespace = request.send().pipeline.get_namespace();
        let content = namespace.content_request().send().pipeline.get_content();
        let mut open = content.writer_request();
        open.get().set_reference("big");
        let writer = open.send().pipeline.get_writer();
        let mut write = writer.write_request();
        write.get().set_bytes(&vec![0; (1 << 20) + 1]);
        let _ = write.send().await;
        let refused = writer.status_request().send().promise.await.err().expect("the stream is broken");
        assert!(refused.to_string().contains("1048576"), "{refused}");
        bosun.status_request().send().promise.await.expect("the connection lives");
    })
    .await;
}
