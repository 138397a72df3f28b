//! Connection life: what is open when the daemon is killed goes on by itself when it is back, and ends with a reason when it does not come back.

use std::io::Cursor;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bosun_client::{Client, ConnectOptions, EventFilter, Incoming, RunRequest};
use bosun_registry::testing::{Fault, FaultyRegistry};
use bosun_storage::image::digest_of;
use bosun_tests::client::{import, logged, namespace, shell};
use bosun_tests::fixture;
use bosun_tests::invariants::shim_of;
use bosun_tests::world::{World, eventually};
use bosun_types::event::{Event, EventDelivery, EventStart};
use bosun_types::reference::Reference;
use bosun_types::stdio::{AttachFrom, AttachRecord, AttachRequest, LogRecord, LogRequest, Overflow};
use bosun_types::{ContainerId, Error, ErrorClass, Labels};

use crate::distribution::{offer, pull};

const COUNT: &str = "trap 'echo end; exit 5' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).expect("good")
}

type Seen = Arc<Mutex<Vec<u8>>>;

fn lines(seen: &Seen) -> usize {
    String::from_utf8_lossy(&seen.lock().expect("sound")).lines().count()
}

async fn attached(mut live: Incoming<AttachRecord>, seen: Seen) -> Result<(), Error> {
    while let Some(record) = live.next().await {
        match record? {
            AttachRecord::Output { bytes, .. } => seen.lock().expect("sound").extend(bytes),
            AttachRecord::Missed(bytes) => panic!("{bytes} bytes are missing"),
        }
    }
    Ok(())
}

async fn followed(mut log: Incoming<LogRecord>, seen: Seen) -> Result<(), Error> {
    while let Some(record) = log.next().await {
        seen.lock().expect("sound").extend(record?.bytes);
    }
    Ok(())
}

/// Until the container has ended; the numbers of the events.
async fn listened(mut stream: Incoming<EventDelivery>) -> Result<Vec<u64>, Error> {
    let mut seen = Vec::new();
    while let Some(delivery) = stream.next().await {
        let EventDelivery::Event(record) = delivery? else { panic!("nothing is dropped here") };
        seen.push(record.sequence);
        if matches!(&record.event, Event::TaskExit { container_id, .. } if *container_id == id("open")) {
            return Ok(seen);
        }
    }
    panic!("the stream has ended")
}

/// One more than the last, each once.
fn check_numbers(what: &str, seen: &Seen) {
    let text = String::from_utf8(std::mem::take(&mut *seen.lock().expect("sound"))).expect("text");
    let numbers: Vec<&str> = text.lines().collect();
    assert_eq!(numbers.last(), Some(&"end"), "{what}");
    for (number, line) in (1..).zip(&numbers[..numbers.len() - 1]) {
        assert_eq!(**line, number.to_string(), "{what}: not each line once");
    }
}

async fn open_container(client: &Client) -> bosun_client::Task {
    import(client).await;
    let run = RunRequest { container: shell("open", COUNT), task: logged() };
    namespace(client).run(run).await.expect("runs");
    namespace(client).container(id("open")).task()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_that_is_open_goes_on_over_two_kills_of_the_daemon() {
    let world = World::new();
    let registry = FaultyRegistry::start().await.expect("listens");
    let daemon = world.start();
    let client = world.client().await;
    let task = open_container(&client).await;
    let waiting = tokio::spawn({
        let task = task.clone();
        async move { task.wait().await }
    });
    let stream =
        client.events().subscribe(EventFilter::default(), EventStart::Now).await.expect("subscribes");
    let listening = tokio::spawn(listened(stream));
    let (live, log): (Seen, Seen) = Default::default();
    let attach = AttachRequest { from: AttachFrom::Replay(u32::MAX), overflow: Overflow::DropOldest };
    let attaching = tokio::spawn(attached(task.init().attach(attach).await.expect("attaches"), live.clone()));
    let follow = LogRequest { follow: true, ..LogRequest::default() };
    let following = tokio::spawn(followed(task.logs(follow).await.expect("has a log"), log.clone()));
    let bytes: Vec<u8> = (0..24_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let digest = digest_of(&bytes);
    let uploading = tokio::spawn({
        let (content, source, size) =
            (namespace(&client).content(), Cursor::new(bytes.clone()), bytes.len() as u64);
        async move { content.write_blob("upload".to_owned(), source, size, Some(digest), Labels::new()).await }
    });
    offer(&registry, &fixture::layered_image(2, 3_000_000).expect("an image"), "1");
    registry.fault("GET /v2/team/app/blobs", 100, Fault::Silence(1_000_000));
    let reference: Reference = format!("{}/team/app:1", registry.host()).parse().expect("good");
    let transfer = namespace(&client).transfers().pull(pull(reference.clone())).await.expect("starts");
    let pulling = tokio::spawn(async move { transfer.wait().await });
    eventually("all of it to be under way", async || {
        let status = namespace(&client).content().status("upload".to_owned()).await;
        let uploads = uploading.is_finished() || status.is_ok_and(|status| status.offset > 0);
        uploads && lines(&live) > 5 && lines(&log) > 5 && !registry.seen().is_empty()
    })
    .await;
    daemon.kill();
    let daemon = world.start();
    let (seen_live, seen_log) = (lines(&live), lines(&log));
    eventually("output of after the restart", async || {
        lines(&live) > seen_live + 5 && lines(&log) > seen_log + 5
    })
    .await;
    daemon.kill();
    registry.heal();
    let _daemon = world.start();
    // A change goes on as well: it is made once the daemon is there.
    task.kill(15, false).await.expect("is asked to end");
    assert_eq!(waiting.await.expect("joins").expect("the wait goes on").code(), 5);
    attaching.await.expect("joins").expect("attach goes on");
    following.await.expect("joins").expect("the log goes on");
    check_numbers("attach", &live);
    check_numbers("the log", &log);
    let heard = listening.await.expect("joins").expect("the events go on");
    assert!(heard.windows(2).all(|pair| pair[1] == pair[0] + 1), "each once, without a hole: {heard:?}");
    uploading.await.expect("joins").expect("the upload goes on");
    assert_eq!(namespace(&client).content().info(digest).await.expect("is there").size, bytes.len() as u64);
    match pulling.await.expect("joins") {
        Ok(images) => assert_eq!(images.len(), 1),
        // It had ended before anybody could ask.
        Err(error) => {
            assert_eq!(error.class, ErrorClass::NotFound, "{error}");
            assert!(error.hint.is_some_and(|hint| hint.contains("look for its image")));
        }
    }
    let name = reference.image_name().expect("good");
    eventually("the image to be pulled", async || {
        namespace(&client).images().get(name.clone()).await.is_ok()
    })
    .await;
    world.recovered(&client).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_daemon_that_does_not_come_back_is_told_to_all_that_is_open_and_nothing_hangs() {
    let world = World::new();
    let daemon = world.start();
    let options = ConnectOptions {
        reconnect_deadline: Duration::from_secs(1),
        ..ConnectOptions::address(&world.address().to_string_lossy())
    };
    let client = Client::connect(options).await.expect("connects");
    let task = open_container(&client).await;
    let waiting = tokio::spawn({
        let task = task.clone();
        async move { task.wait().await.map(drop) }
    });
    let stream =
        client.events().subscribe(EventFilter::default(), EventStart::Now).await.expect("subscribes");
    let listening = tokio::spawn(async move { listened(stream).await.map(drop) });
    let attach = AttachRequest { from: AttachFrom::Replay(u32::MAX), overflow: Overflow::DropOldest };
    let attaching =
        tokio::spawn(attached(task.init().attach(attach).await.expect("attaches"), Seen::default()));
    let follow = LogRequest { follow: true, ..LogRequest::default() };
    let following = tokio::spawn(followed(task.logs(follow).await.expect("has a log"), Seen::default()));
    let killing = tokio::spawn({
        let task = task.clone();
        async move {
            loop {
                task.kill(18, false).await?;
            }
        }
    });
    daemon.kill();
    let begun = Instant::now();
    for (what, open) in [
        ("a wait", waiting),
        ("events", listening),
        ("attach", attaching),
        ("a log", following),
        ("a change", killing),
    ] {
        let error = open.await.expect("joins").expect_err(what);
        assert_eq!(error.class, ErrorClass::Unavailable, "{what}: {error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("is bosund running")), "{what} says what to do");
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "nothing hangs");
    // And the client is not broken: it goes on when there is a daemon again.
    let _daemon = world.start();
    world.recovered(&world.client().await).await;
    task.kill(9, false).await.expect("is killed");
    world.check(&client).await;
}

/// What the daemon says of calls whose callers have left.
fn left(world: &World, method: &str, then: &str) -> bool {
    let (method, told) = (format!("method=\"{method}\""), format!("left by its caller: {then}"));
    world.log().lines().any(|line| line.contains(&method) && line.contains(&told))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dropped_future_or_stream_ends_at_the_daemon_and_so_does_a_call_over_its_deadline() {
    let world = World::new();
    let _daemon = world.start_with(&[("RUST_LOG", "info,bosun_edge=debug")]);
    let client = world.client().await;
    let task = open_container(&client).await;
    let waiting = tokio::spawn({
        let task = task.clone();
        async move { task.wait().await }
    });
    let start = EventStart::Sequence(u64::from(u32::MAX));
    let stream = client.events().subscribe(EventFilter::default(), start).await.expect("subscribes");
    let attach = AttachRequest { from: AttachFrom::Replay(0), overflow: Overflow::DropOldest };
    let idle = shell("idle", "trap 'exit 0' TERM; while :; do sleep 0.05; done");
    namespace(&client).run(RunRequest { container: idle, task: logged() }).await.expect("runs");
    let quiet = namespace(&client).container(id("idle")).task();
    let live = quiet.init().attach(attach).await.expect("attaches");
    let follow = LogRequest { follow: true, ..LogRequest::default() };
    let log = quiet.logs(follow).await.expect("has a log");
    // They wait at the daemon, and none of them is over by itself.
    tokio::task::yield_now().await;
    waiting.abort();
    drop((stream, live, log));
    for method in ["process.wait", "event.next", "process.attach.next", "task.logs.next"] {
        eventually(&format!("{method} to end"), async || left(&world, method, "it ends")).await;
    }
    // What a hung shim holds up is left when its time is over; the daemon says so, and serves on.
    let hurried = ConnectOptions {
        call_deadline: Duration::from_millis(300),
        ..ConnectOptions::address(&world.address().to_string_lossy())
    };
    let hurried = Client::connect(hurried).await.expect("connects");
    let shim = shim_of(quiet.pid().await.expect("known"));
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGSTOP).expect("is stopped");
    let late = namespace(&hurried).container(id("idle")).task().pids().await.expect_err("hangs");
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGCONT).expect("goes on");
    assert_eq!(late.class, ErrorClass::DeadlineExceeded, "{late}");
    eventually("the call to be left", async || left(&world, "task.pids", "its work goes on")).await;
    for task in [&task, &quiet] {
        task.kill(15, false).await.expect("is asked to end");
        task.wait().await.expect("ends");
    }
    world.check(&client).await;
}
