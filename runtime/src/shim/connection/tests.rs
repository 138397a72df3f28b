//! A connection against a fake shim in this process that speaks, or breaks, the frames.

use std::future::Future;

use bosun_types::Timestamp;
use bosun_types::shim::codec::decode_frame;
use bosun_types::shim::{ExitNotice, ShimPhase, ShimState};
use bosun_types::task::{ExitCause, ExitStatus};
use tokio::net::UnixListener;

use super::*;
use crate::process::identity_of;

const NONCE: &str = "0123456789abcdef0123456789abcdef";
/// Of what must come.
const LONG: Duration = Duration::from_secs(20);
/// Of what must not come.
const SHORT: Duration = Duration::from_millis(50);

struct Fake {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Fake {
    async fn receive(&mut self) -> Option<ToShim> {
        loop {
            if let Some((message, used)) = decode_frame(&self.buffer).unwrap() {
                self.buffer.drain(..used);
                return Some(message);
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn request(&mut self) -> (u64, Request) {
        match self.receive().await.unwrap() {
            ToShim::Request { id, request } => (id, request),
            other => panic!("{other:?}"),
        }
    }

    async fn send(&mut self, message: &FromShim) {
        self.raw(&encode_frame(message).unwrap()).await;
    }

    async fn reply(&mut self, id: u64, response: Response) {
        self.send(&FromShim::Reply { id, result: Ok(response) }).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    async fn greet(&mut self, version: u32) {
        assert!(
            matches!(self.receive().await, Some(ToShim::Hello { version: PROTOCOL_VERSION, nonce }) if nonce == NONCE)
        );
        self.send(&FromShim::Hello { version, shim: own() }).await;
    }

    /// Until the daemon hangs up.
    async fn until_closed(&mut self) {
        while self.receive().await.is_some() {}
    }
}

fn own() -> ProcessIdentity {
    identity_of(std::process::id()).unwrap()
}

fn exit(code: u8) -> Notice {
    let status = ExitStatus { cause: ExitCause::Code(code), exited_at: Timestamp(1) };
    Notice::Exited(ExitNotice { exec: None, process: own(), status, started: true })
}

/// Listens in a directory whose path is too long for a socket address.
fn listen() -> (tempfile::TempDir, PathBuf, UnixListener) {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("x".repeat(100)).join("y".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let opened = File::open(&deep).unwrap();
    let listener =
        UnixListener::bind(format!("/proc/self/fd/{}/{}", opened.as_raw_fd(), file::SOCKET)).unwrap();
    (directory, deep, listener)
}

/// A connection to a fake shim that has greeted and then does `behaviour`.
async fn with<F, Fut>(behaviour: F) -> (ShimConnection, mpsc::Receiver<Notice>, tempfile::TempDir)
where
    F: FnOnce(Fake) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (directory, path, listener) = listen();
    tokio::spawn(async move {
        let mut fake = Fake { stream: listener.accept().await.unwrap().0, buffer: Vec::new() };
        fake.greet(1).await;
        behaviour(fake).await;
    });
    let (connection, notices) = connect(&path, NONCE, LONG).await.unwrap();
    (connection, notices, directory)
}

fn class(result: Result<Response>) -> ErrorClass {
    result.unwrap_err().class()
}

#[tokio::test]
async fn answers_out_of_order_find_their_requests() {
    let (connection, _notices, _directory) = with(|mut fake| async move {
        let (first, _) = fake.request().await;
        let (second, _) = fake.request().await;
        fake.reply(second, Response::Pids(Vec::new())).await;
        fake.reply(999, Response::Done).await;
        fake.reply(first, Response::State(ShimState { init: ShimPhase::Registered, execs: Vec::new() }))
            .await;
        fake.until_closed().await;
    })
    .await;
    let (state, pids) =
        tokio::join!(connection.request(Request::State, LONG), connection.request(Request::Pids, LONG));
    assert!(matches!(state.unwrap(), Response::State(_)));
    assert_eq!(pids.unwrap(), Response::Pids(Vec::new()));
    assert_eq!((connection.version(), connection.shim()), (1, own()));
}

#[tokio::test]
async fn an_error_of_the_shim_keeps_its_class() {
    let (connection, _notices, _directory) = with(|mut fake| async move {
        let (id, _) = fake.request().await;
        fake.send(&FromShim::Reply { id, result: Err(Error::not_found("process already finished")) }).await;
        fake.until_closed().await;
    })
    .await;
    assert_eq!(class(connection.request(Request::Pause, LONG).await), ErrorClass::NotFound);
}

#[tokio::test]
async fn f18_a_hung_shim_times_out_its_own_requests_only_and_a_late_answer_is_dropped() {
    let (connection, _notices, _directory) = with(|mut fake| async move {
        let (late, request) = fake.request().await;
        assert_eq!(request, Request::Pause);
        let (id, _) = fake.request().await;
        fake.reply(late, Response::Done).await;
        fake.reply(id, Response::Pids(Vec::new())).await;
        fake.until_closed().await;
    })
    .await;
    assert_eq!(class(connection.request(Request::Pause, SHORT).await), ErrorClass::DeadlineExceeded);
    assert!(!connection.is_closed());
    assert_eq!(connection.request(Request::Pids, LONG).await.unwrap(), Response::Pids(Vec::new()));
}

#[tokio::test]
async fn f18_a_shim_that_never_reads_holds_up_no_more_requests_than_are_allowed() {
    let (connection, _notices, _directory) = with(|fake| async move {
        futures::future::pending::<()>().await;
        drop(fake);
    })
    .await;
    let large = Request::Update { resources: vec![0; 1 << 20] };
    let requests = (0..IN_FLIGHT_MAX * 2).map(|_| connection.request(large.clone(), SHORT));
    for result in futures::future::join_all(requests).await {
        assert_eq!(class(result), ErrorClass::DeadlineExceeded);
    }
    assert!(connection.inner.waiting.lock().answers.is_empty());
}

#[tokio::test]
async fn f18_garbage_ends_the_connection_and_nothing_else() {
    let oversize = [u32::MAX.to_le_bytes().to_vec(), vec![0; 64]].concat();
    let empty = 0u32.to_le_bytes().to_vec();
    let undecodable = [3u32.to_le_bytes().to_vec(), vec![0xff; 3]].concat();
    let hello = encode_frame(&FromShim::Hello { version: 1, shim: own() }).unwrap();
    for bytes in [oversize, empty, undecodable, hello] {
        let (connection, mut notices, _directory) = with(|mut fake| async move {
            fake.request().await;
            fake.raw(&bytes).await;
            fake.until_closed().await;
        })
        .await;
        assert_eq!(class(connection.request(Request::State, LONG).await), ErrorClass::Unavailable);
        assert!(!connection.closed().await.is_empty());
        assert_eq!(class(connection.request(Request::State, LONG).await), ErrorClass::Unavailable);
        assert_eq!(notices.recv().await, None);
    }
}

#[tokio::test]
async fn a_disconnect_in_the_middle_of_a_frame_fails_what_is_under_way_at_once() {
    let (connection, mut notices, _directory) = with(|mut fake| async move {
        fake.request().await;
        let frame = encode_frame(&FromShim::Notice(exit(1))).unwrap();
        fake.raw(&frame[..frame.len() - 1]).await;
    })
    .await;
    let result = connection.request(Request::State, LONG).await;
    assert_eq!(class(result), ErrorClass::Unavailable);
    assert_eq!(notices.recv().await, None);
}

#[tokio::test]
async fn notices_come_in_order_between_answers() {
    let (connection, mut notices, _directory) = with(|mut fake| async move {
        fake.send(&FromShim::Notice(exit(1))).await;
        let (id, _) = fake.request().await;
        fake.send(&FromShim::Notice(exit(2))).await;
        fake.reply(id, Response::Done).await;
        fake.until_closed().await;
    })
    .await;
    assert_eq!(connection.request(Request::Resume, LONG).await.unwrap(), Response::Done);
    assert_eq!((notices.recv().await, notices.recv().await), (Some(exit(1)), Some(exit(2))));
}

#[tokio::test]
async fn notices_nobody_takes_end_the_connection_instead_of_growing() {
    let (connection, mut notices, _directory) = with(|mut fake| async move {
        for _ in 0..=NOTICES_MAX {
            fake.send(&FromShim::Notice(exit(0))).await;
        }
        fake.until_closed().await;
    })
    .await;
    assert!(connection.closed().await.contains("not taken"));
    let mut count = 0;
    while notices.recv().await.is_some() {
        count += 1;
    }
    assert_eq!(count, NOTICES_MAX);
}

#[tokio::test]
async fn the_lower_version_is_spoken_and_version_zero_is_refused() {
    for (theirs, ours) in [(7, Some(PROTOCOL_VERSION)), (1, Some(1)), (0, None)] {
        let (_directory, path, listener) = listen();
        tokio::spawn(async move {
            let mut fake = Fake { stream: listener.accept().await.unwrap().0, buffer: Vec::new() };
            fake.greet(theirs).await;
            fake.until_closed().await;
        });
        let connected = connect(&path, NONCE, LONG).await;
        assert_eq!(connected.ok().map(|(connection, _)| connection.version()), ours, "{theirs}");
    }
}

#[tokio::test]
async fn a_shim_that_refuses_the_nonce_or_lies_about_itself_is_not_connected_to() {
    let (_directory, path, listener) = listen();
    tokio::spawn(async move {
        drop(listener.accept().await.unwrap());
        let mut fake = Fake { stream: listener.accept().await.unwrap().0, buffer: Vec::new() };
        fake.receive().await;
        let liar = ProcessIdentity { pid: 1, start_ticks: 1 };
        fake.send(&FromShim::Hello { version: 1, shim: liar }).await;
        fake.until_closed().await;
        // The third gets no answer.
        let held = listener.accept().await;
        futures::future::pending::<()>().await;
        drop(held);
    });
    let classes = [
        (LONG, ErrorClass::Unavailable),
        (LONG, ErrorClass::PermissionDenied),
        (SHORT, ErrorClass::DeadlineExceeded),
    ];
    for (deadline, expected) in classes {
        assert_eq!(connect(&path, NONCE, deadline).await.unwrap_err().class(), expected);
    }
}

#[tokio::test]
async fn no_shim_is_unavailable_and_no_directory_is_not_found() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert_eq!(connect(&missing, NONCE, LONG).await.unwrap_err().class(), ErrorClass::NotFound);
    assert_eq!(connect(directory.path(), NONCE, LONG).await.unwrap_err().class(), ErrorClass::Unavailable);
    drop(std::os::unix::net::UnixListener::bind(directory.path().join(file::SOCKET)).unwrap());
    assert_eq!(connect(directory.path(), NONCE, LONG).await.unwrap_err().class(), ErrorClass::Unavailable);
}

#[tokio::test]
async fn the_connection_closes_with_its_last_handle() {
    let (seen, gone) = oneshot::channel();
    let (connection, mut notices, _directory) = with(|mut fake| async move {
        fake.until_closed().await;
        let _ = seen.send(());
    })
    .await;
    let second = connection.clone();
    drop(connection);
    assert!(!second.is_closed());
    drop(second);
    tokio::time::timeout(LONG, gone).await.unwrap().unwrap();
    assert_eq!(notices.recv().await, None);
}
