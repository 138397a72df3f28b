//! Calls through a real socket: values and errors come back as they were, work survives its caller, limits hold.

use std::time::Duration;

use crate::support::{Served, eventually, request, request_with, web};
use bosun_client::{Client, ConnectOptions, ErrorClass, EventFilter};
use bosun_edge::{Edge, EdgeError, EdgeOptions};
use bosun_types::container::Any;
use bosun_types::event::{Event, EventDelivery, EventStart};
use bosun_types::task::{ExecProcess, ExecRequest, ProcessStatus};
use bosun_types::{Digest, Labels, NamespaceName};

fn name(text: &str) -> NamespaceName {
    text.parse().expect("well formed")
}

#[tokio::test(flavor = "multi_thread")]
async fn err_4_a_domain_error_crosses_intact() {
    let served = Served::start().await;
    let client = served.client().await;
    let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
    let made = client.create_namespace(name("web"), labels.clone()).await.expect("made");
    assert_eq!((made.name, made.labels), (name("web"), labels.clone()));
    let here = client.create_namespace(name("web"), labels).await.expect_err("again");
    let there = served.daemon.create_namespace(name("web"), Labels::new()).await.expect_err("again");
    assert_eq!(here, there);
    let unknown = web(&client).snapshots("zfs").list().await.expect_err("no such snapshotter");
    assert_eq!(unknown.class, ErrorClass::InvalidArgument, "{unknown}");
    let missing = web(&client).container("x".parse().expect("well formed")).record().await;
    assert_eq!(missing.expect_err("missing").class, ErrorClass::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_lives_and_dies_over_the_wire() {
    let served = Served::start().await;
    let client = served.client().await;
    let running = web(&client).run(request("c1")).await.expect("runs");
    let task = web(&client).container("c1".parse().expect("well formed")).task();
    let info = task.info().await.expect("info");
    assert_eq!((info.pid, info.status), (running.pid(), ProcessStatus::Running));
    assert_eq!(web(&client).tasks().await.expect("tasks").len(), 1);
    let waiting = tokio::spawn({
        let task = task.clone();
        async move { task.wait().await }
    });
    task.kill(15, false).await.expect("killed");
    assert_eq!(running.wait().await.expect("waited").code(), 143);
    assert_eq!(waiting.await.expect("joins").expect("waited").code(), 143);
    let container = web(&client).container("c1".parse().expect("well formed"));
    let refused = container.delete(true).await.expect_err("has a task");
    assert_eq!(refused.class, ErrorClass::FailedPrecondition, "{refused}");
    assert_eq!(task.delete().await.expect("deleted").expect("ran").code(), 143);
    container.delete(true).await.expect("deleted");
    assert!(web(&client).containers().list().await.expect("lists").is_empty());
    let again = web(&client).run(request("c1")).await;
    again.expect("the id is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failure_of_a_pipeline_is_the_one_reported() {
    let served = Served::start().await;
    let client = served.client().await;
    web(&client).run(request("c1")).await.expect("runs");
    let error = web(&client).run(request("c1")).await.err().expect("taken");
    assert_eq!(error.class, ErrorClass::AlreadyExists, "{error}");
    let process = ExecProcess::Json(b"{}".to_vec());
    let exec = ExecRequest {
        id: "e".parse().expect("well formed"),
        process,
        stdio: bosun_types::stdio::Stdio::default(),
    };
    let gone = web(&client).container("none".parse().expect("well formed")).task();
    let error = gone.run_exec(exec).await.err().expect("no container");
    assert_eq!(error.class, ErrorClass::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_has_begun_is_finished_when_its_caller_leaves() {
    let served = Served::start().await;
    let client = served.client().await;
    let call = tokio::spawn({
        let client = client.clone();
        async move { web(&client).run(request("slow-1")).await.map(drop) }
    });
    eventually("the start to begin", || !served.host.started().is_empty()).await;
    call.abort();
    drop(client);
    let edge = served.edge.as_ref().expect("serves");
    eventually("the connection to close", || edge.connections() == 0).await;
    served.host.release();
    let client = served.client().await;
    let task = web(&client).container("slow-1".parse().expect("well formed")).task();
    let begun = std::time::Instant::now();
    while task.info().await.expect("info").status != ProcessStatus::Running {
        assert!(begun.elapsed() < crate::support::DEADLINE, "never started");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_calls_and_waits_go_on_with_the_next_edge() {
    let mut served = Served::start().await;
    let client = served.client().await;
    let running = web(&client).run(request("c1")).await.expect("runs");
    let mut events =
        client.events().subscribe(EventFilter::default(), EventStart::Now).await.expect("subscribed");
    let waiting = tokio::spawn(running.wait());
    let slow = tokio::spawn({
        let client = client.clone();
        async move { web(&client).run(request("slow-1")).await.map(|running| running.pid()) }
    });
    eventually("the slow start", || served.host.started().len() == 2).await;
    let edge = served.edge.take().expect("serves");
    let draining = tokio::spawn(edge.drain(Duration::from_secs(10)));
    eventually("the socket to go", || !served.socket().exists()).await;
    assert!(!draining.is_finished(), "a call is under way");
    served.host.release();
    slow.await.expect("joins").expect("finished before the edge went");
    assert!(draining.await.expect("joins"), "everything finished");
    served.edge = Some(Edge::start(served.daemon.clone(), EdgeOptions::new(served.socket())).expect("again"));
    let task = web(&client).container("c1".parse().expect("well formed")).task();
    task.kill(9, false).await.expect("on a new connection");
    assert_eq!(waiting.await.expect("joins").expect("waited").code(), 137);
    loop {
        let delivery = events.next().await.expect("goes on").expect("an event");
        if matches!(delivery, EventDelivery::Event(record) if matches!(record.event, Event::TaskExit { .. }))
        {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_calls_in_flight_are_refused_and_counted_back() {
    let served = Served::start_with(|options| options.limits.calls_in_flight = 4).await;
    let client = served.client().await;
    for number in 0..4 {
        web(&client).containers().create(request(&format!("slow-{number}")).container).await.expect("made");
        let container = web(&client).container(format!("slow-{number}").parse().expect("well formed"));
        container.create_task(bosun_types::task::TaskRequest::default()).await.expect("made");
    }
    let starts: Vec<_> = (0..4)
        .map(|number| {
            let task = web(&client).container(format!("slow-{number}").parse().expect("well formed")).task();
            tokio::spawn(async move { task.start().await })
        })
        .collect();
    eventually("four starts", || served.host.started().len() == 4).await;
    let refused = client.status().await.expect_err("too many");
    assert_eq!(refused.class, ErrorClass::ResourceExhausted, "{refused}");
    served.client().await.status().await.expect("another connection has its own budget");
    served.host.release();
    for start in starts {
        start.await.expect("joins").expect("started");
    }
    client.status().await.expect("room again");
}

/// Cancellation reaches the daemon: with room for one wait, there is room again as soon as the first is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_wait_ends_at_the_daemon_too() {
    let served = Served::start_with(|options| options.limits.waits_in_flight = 1).await;
    let client = served.client().await;
    let running = web(&client).run(request("c1")).await.expect("runs");
    let task = web(&client).container("c1".parse().expect("well formed")).task();
    let refused = task.wait().await.expect_err("the run's own wait is under way");
    assert_eq!(refused.class, ErrorClass::ResourceExhausted, "{refused}");
    drop(running);
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        let waiting = loop {
            let waiting = tokio::spawn({
                let task = task.clone();
                async move { task.wait().await }
            });
            let early = tokio::time::timeout(Duration::from_millis(50), async {
                while !waiting.is_finished() {
                    tokio::task::yield_now().await;
                }
            });
            if early.await.is_err() {
                break waiting;
            }
            assert!(begun.elapsed() < crate::support::DEADLINE, "the dropped one still waits");
        };
        let refused = task.wait().await.expect_err("there is room for one");
        assert_eq!(refused.class, ErrorClass::ResourceExhausted, "{refused}");
        waiting.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_capabilities_are_refused_and_counted_back() {
    let served = Served::start_with(|options| options.limits.capabilities = 20).await;
    let client = served.client().await;
    let subscribe = async || client.events().subscribe(EventFilter::default(), EventStart::Now).await;
    let mut held = Vec::new();
    let refused = loop {
        match subscribe().await {
            Ok(events) => held.push(events),
            Err(error) => break error,
        }
        assert!(held.len() <= 20, "no limit");
    };
    assert_eq!(refused.class, ErrorClass::ResourceExhausted, "{refused}");
    drop(held);
    let begun = std::time::Instant::now();
    while subscribe().await.is_err() {
        assert!(begun.elapsed() < crate::support::DEADLINE, "never counted back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_larger_than_a_message_come_in_pages() {
    let served = Served::start().await;
    let client = served.client().await;
    for number in 0..12 {
        let big = request_with(&format!("c{number:02}"), 900 << 10);
        web(&client).containers().create(big.container).await.expect("made");
    }
    let ids: Vec<String> = web(&client)
        .containers()
        .list()
        .await
        .expect("lists")
        .iter()
        .map(|record| record.id.to_string())
        .collect();
    assert_eq!(ids, (0..12).map(|number| format!("c{number:02}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn con_8_con_18_content_streams_both_ways() {
    let served = Served::start().await;
    let client = served.client().await;
    let blob: Vec<u8> = (0..5_000_000u32).map(|number| (number * 7 % 251) as u8).collect();
    let content = web(&client).content();
    let mut writer = content.writer("upload".to_owned(), 0, None).await.expect("opens");
    writer.write(blob[..3_000_000].to_vec().into()).await.expect("writes");
    assert_eq!(writer.status().await.expect("status").offset, 3_000_000);
    drop(writer);
    // The edge notices that the writer is gone a moment later; until then another is refused (CON-9).
    let begun = std::time::Instant::now();
    let mut writer = loop {
        match content.writer("upload".to_owned(), 0, None).await {
            Ok(writer) => break writer,
            Err(error) => assert_eq!(error.class, ErrorClass::Unavailable, "{error}"),
        }
        assert!(begun.elapsed() < crate::support::DEADLINE, "never free");
    };
    assert_eq!(writer.offset(), 3_000_000, "what was written is kept");
    writer.write(blob[3_000_000..].to_vec().into()).await.expect("writes");
    let record = writer.commit(5_000_000, None, Labels::new()).await.expect("commits");
    assert_eq!(content.read_all(record.digest, 1 << 30).await.expect("reads"), blob);
    let mut part = content.read(record.digest, 4_999_990, 5).expect("reads");
    assert_eq!(part.next().await.expect("a chunk").expect("reads").as_ref(), &blob[4_999_990..4_999_995]);
    assert!(part.next().await.is_none());
    let beyond = content.read(record.digest, 6_000_000, 0).expect("asks").next().await.expect("an error");
    assert_eq!(beyond.expect_err("beyond the end").class, ErrorClass::OutOfRange);
    let unknown = content.read_all(Digest::from_bytes([9; 32]), 1).await.expect_err("unknown");
    assert_eq!(unknown.class, ErrorClass::NotFound);
    let mut wrong = content.writer("wrong".to_owned(), 0, None).await.expect("opens");
    wrong.write(b"other bytes".to_vec().into()).await.expect("writes");
    let error =
        wrong.commit(0, Some(Digest::from_bytes([9; 32])), Labels::new()).await.expect_err("wrong digest");
    assert!(error.message.contains("sha256:0909"), "{error}");
    client.status().await.expect("serves on");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_arrive_whole_and_in_order() {
    let served = Served::start().await;
    let client = served.client().await;
    let mut run = request("c1");
    run.task.log_to_file = true;
    web(&client).run(run).await.expect("runs");
    let task = web(&client).container("c1".parse().expect("well formed")).task();
    let mut logs = task.logs(bosun_types::stdio::LogRequest::default()).await.expect("opens");
    let mut number = 0;
    while let Some(record) = logs.next().await {
        number += 1;
        assert_eq!(record.expect("a record").bytes, format!("line {number}\n").into_bytes());
    }
    assert_eq!(number, crate::support::host::LOG_RECORDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_of_a_dropped_client_ends() {
    let served = Served::start().await;
    let stays = served.client().await;
    stays.status().await.expect("answers");
    let before = served.edge.as_ref().expect("serves").connections();
    let client = served.client().await;
    let clone = client.clone();
    drop(client);
    clone.status().await.expect("the last clone keeps it");
    assert_eq!(served.edge.as_ref().expect("serves").connections(), before + 1);
    drop(clone);
    eventually("the connection to end", || served.edge.as_ref().expect("serves").connections() == before)
        .await;
    stays.status().await.expect("the others stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespaces_capability_reaches_nothing_outside_it() {
    let served = Served::start().await;
    let client = served.client().await;
    let other = client.namespace(name("other"));
    let any = Any { type_url: "t".to_owned(), value: vec![1] };
    let refused = other.events().publish(name("web"), "/mine/x".to_owned(), any.clone()).await;
    assert_eq!(refused.expect_err("outside").class, ErrorClass::PermissionDenied);
    let filter = EventFilter { namespaces: Some(vec![name("web")]), ..EventFilter::default() };
    let mut nothing = other.events().subscribe(filter, EventStart::Sequence(0)).await.expect("subscribes");
    let mut own =
        other.events().subscribe(EventFilter::default(), EventStart::Sequence(0)).await.expect("subscribes");
    for own in ["/images/delete", "/tasks/exit", "/containers/x"] {
        let error = client.events().publish(name("web"), own.to_owned(), any.clone()).await.expect_err(own);
        assert_eq!(error.class, ErrorClass::InvalidArgument, "{error}");
    }
    client.events().publish(name("web"), "/mine/x".to_owned(), any.clone()).await.expect("published");
    client.events().publish(name("other"), "/mine/y".to_owned(), any).await.expect("published");
    let EventDelivery::Event(seen) = own.next().await.expect("goes on").expect("an event") else {
        panic!("nothing was missed");
    };
    assert_eq!((seen.namespace, seen.event.topic()), (name("other"), "/mine/y"));
    let quiet = tokio::time::timeout(Duration::from_millis(50), nothing.next()).await;
    assert!(quiet.is_err(), "an event of another namespace: {quiet:?}");
}

#[tokio::test]
async fn clt_1_nobody_there_is_unavailable_with_a_hint() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = ConnectOptions {
        address: directory.path().join("none"),
        connect_deadline: Duration::from_millis(50),
        ..ConnectOptions::default()
    };
    let error = Client::connect(options).await.err().expect("nobody there");
    assert_eq!(error.class, ErrorClass::Unavailable);
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("bosund")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clt_1_a_client_waits_for_a_daemon_that_is_just_starting() {
    let mut served = Served::start().await;
    drop(served.edge.take());
    let connecting = tokio::spawn(crate::support::client_of(served.socket()));
    served.edge =
        Some(Edge::start(served.daemon.clone(), EdgeOptions::new(served.socket())).expect("starts"));
    connecting.await.expect("connects").status().await.expect("serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_edge_is_refused_and_a_stale_socket_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let served = Served::start().await;
    let start = |path: &std::path::Path| Edge::start(served.daemon.clone(), EdgeOptions::new(path));
    assert!(matches!(start(&served.socket()).err(), Some(EdgeError::InUse { .. })));
    let path = served.directory.path().join("other");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    let edge = start(&path).expect("replaces what nobody listens on");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o660);
    drop(edge);
    assert!(!path.exists(), "removed when it ends");
    std::fs::write(&path, "precious").expect("writes");
    assert!(matches!(start(&path).err(), Some(EdgeError::NotASocket { .. })));
    assert_eq!(std::fs::read(&path).expect("left alone"), b"precious");
}
