//! Events: dense, ordered, kept, resumable (I5, EVT-*).

use std::collections::BTreeSet;

use bosun_client::{EventFilter, Incoming};
use bosun_tests::client::{IMAGE, events, import, namespace, shell};
use bosun_tests::world::{World, eventually};
use bosun_types::container::Any;
use bosun_types::event::{Event, EventDelivery, EventRecord, EventStart};
use bosun_types::task::{ExecProcess, ExecRequest, TaskRequest};
use bosun_types::{ContainerId, CursorId, ErrorClass, Labels, NamespaceName, Timestamp};
use bytes::Bytes;

#[tokio::test(flavor = "multi_thread")]
async fn i_5_a_life_is_told_in_order_without_gaps_and_again_after_a_restart() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let run = bosun_client::RunRequest { container: shell("told", "exit 1"), task: TaskRequest::default() };
    namespace(&client).run(run).await.expect("runs").wait().await.expect("ends");
    let container = namespace(&client).container(ContainerId::new("told").expect("good"));
    container.task().delete().await.expect("deletes");
    container.delete(true).await.expect("deletes");
    let told = events(&client).await;
    assert!(told.iter().zip(1..).all(|(event, number)| event.sequence == number), "gaps");
    let topics: Vec<&str> = told
        .iter()
        .map(|event| event.event.topic())
        .filter(|topic| topic.starts_with("/tasks") || topic.starts_with("/containers"))
        .collect();
    assert_eq!(
        topics,
        [
            "/containers/create",
            "/tasks/create",
            "/tasks/start",
            "/tasks/exit",
            "/tasks/delete",
            "/containers/delete"
        ]
    );
    drop(client);
    daemon.kill();
    let _daemon = world.start();
    let client = world.client().await;
    let again = events(&client).await;
    assert_eq!(again[..told.len()], told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_goes_on_from_a_number_and_filters() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    for name in ["aa", "bb", "cc"] {
        client
            .create_namespace(NamespaceName::new(name).expect("good"), Default::default())
            .await
            .expect("creates");
    }
    let filter = bosun_client::EventFilter {
        namespaces: Some(vec![NamespaceName::new("cc").expect("good")]),
        ..Default::default()
    };
    let mut stream = client.events().subscribe(filter, EventStart::Sequence(2)).await.expect("subscribes");
    let Some(Ok(EventDelivery::Event(event))) = stream.next().await else { panic!("an event") };
    assert_eq!((event.sequence, event.namespace.as_str()), (3, "cc"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ns_6_a_namespace_in_use_is_not_deleted() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let error = client.delete_namespace(NamespaceName::default_name()).await.expect_err("in use");
    assert_eq!(error.class, bosun_types::ErrorClass::FailedPrecondition);
    let empty = NamespaceName::new("empty").expect("good");
    client.create_namespace(empty.clone(), Default::default()).await.expect("creates");
    client.delete_namespace(empty).await.expect("deletes");
}

fn payload(text: &str) -> Any {
    Any { type_url: "test/json".to_owned(), value: text.as_bytes().to_vec() }
}

async fn next(stream: &mut Incoming<EventDelivery>) -> EventRecord {
    match stream.next().await {
        Some(Ok(EventDelivery::Event(event))) => event,
        other => panic!("an event, not {other:?}"),
    }
}

/// Every topic but those of oom and checkpoints, which tests of their own bring about.
#[tokio::test(flavor = "multi_thread")]
async fn evt_5_evt_6_evt_7_everything_that_happens_is_told_with_its_payload() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    let image = import(&client).await;
    let space = namespace(&client);
    let own = NamespaceName::new("told").expect("good");
    client.create_namespace(own.clone(), Labels::new()).await.expect("creates");
    let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
    client.update_namespace(own.clone(), labels.clone(), false).await.expect("updates");
    client.delete_namespace(own).await.expect("deletes");
    let run =
        bosun_client::RunRequest { container: shell("life", "sleep 1000"), task: TaskRequest::default() };
    let running = space.run(run).await.expect("runs");
    let container = space.container(ContainerId::new("life").expect("good"));
    let mut record = container.record().await.expect("is known");
    record.labels = labels.clone();
    container.update(record, &["labels.a"]).await.expect("updates");
    let task = container.task();
    let exec = ExecRequest {
        id: "e1".parse().expect("good"),
        process: ExecProcess::Inherit {
            args: vec!["true".to_owned()],
            env: Vec::new(),
            cwd: None,
            user: None,
        },
        stdio: bosun_types::stdio::Stdio::default(),
    };
    task.exec(exec).await.expect("is registered").start().await.expect("starts");
    task.process("e1".parse().expect("good")).wait().await.expect("ends");
    task.pause().await.expect("pauses");
    task.resume().await.expect("resumes");
    task.kill(9, true).await.expect("kills");
    running.wait().await.expect("ends");
    task.delete().await.expect("deletes");
    container.delete(true).await.expect("deletes");
    let snapshots = space.default_snapshots();
    let key = |text: &str| bosun_types::SnapshotKey::new(text).expect("good");
    snapshots.prepare(key("s1"), None, Labels::new()).await.expect("prepares");
    snapshots.commit(key("s2"), key("s1"), Labels::new()).await.expect("commits");
    snapshots.remove(key("s2")).await.expect("removes");
    let mut writer = space.content().writer("r".to_owned(), 0, None).await.expect("opens");
    writer.write(Bytes::from_static(b"told")).await.expect("writes");
    let blob = writer.commit(0, None, Labels::new()).await.expect("commits").digest;
    space.content().delete(blob).await.expect("deletes");
    let mut record = space.images().get(image.clone()).await.expect("is known");
    record.labels = labels;
    space.images().update(record, &["labels"]).await.expect("updates");
    space.images().delete(image).await.expect("deletes");
    let told = events(&client).await;
    let topics: BTreeSet<&str> = told.iter().map(|record| record.event.topic()).collect();
    for topic in [
        "/containers/create",
        "/containers/delete",
        "/containers/update",
        "/content/create",
        "/content/delete",
        "/images/create",
        "/images/delete",
        "/images/update",
        "/namespaces/create",
        "/namespaces/delete",
        "/namespaces/update",
        "/snapshot/commit",
        "/snapshot/prepare",
        "/snapshot/remove",
        "/tasks/create",
        "/tasks/delete",
        "/tasks/exec-added",
        "/tasks/exec-started",
        "/tasks/exit",
        "/tasks/paused",
        "/tasks/resumed",
        "/tasks/start",
    ] {
        assert!(topics.contains(topic), "{topic} was not told, only {topics:?}");
    }
    assert!(told.is_sorted_by_key(|record| (record.at, record.sequence)), "EVT-2: times grow with positions");
    let wants = |filter: &str| {
        let filter = bosun_filter(filter);
        told.iter().filter(|record| filter(record)).count()
    };
    assert_eq!(wants("topic==/tasks/exit,event.container_id==life,event.id==life,event.exit_status==137"), 1);
    assert_eq!(wants("topic==/tasks/exit,event.container_id==life,event.id==e1,event.exit_status==0"), 1);
    assert_eq!(wants("topic==/tasks/exec-added,event.exec_id==e1"), 1);
    assert_eq!(wants("topic==/tasks/create,event.bundle~=^/,event.io.terminal==false,event.pid!=0"), 1);
    assert_eq!(wants(&format!("topic==/images/delete,event.name==\"{IMAGE}\"")), 1);
    assert_eq!(wants("topic==/namespaces/delete,namespace==told"), 1, "NS-7: stamped with the deleted one");
    assert_eq!(wants("topic==/containers/update,event.labels.a==b"), 1);
}

/// As the daemon applies it, over what was read.
fn bosun_filter(text: &str) -> impl Fn(&EventRecord) -> bool {
    let filter = bosun_filter::Filter::parse(text).expect("a filter");
    move |record| filter.matches(record)
}

#[tokio::test(flavor = "multi_thread")]
async fn evt_1_evt_2_evt_3_evt_4_publish_and_forward_have_their_rules() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    let default = NamespaceName::default_name();
    let published = client.events();
    let mut stream = published.subscribe(EventFilter::default(), EventStart::Now).await.expect("subscribes");
    let before = Timestamp::now();
    published.publish(default.clone(), "/mine/a".to_owned(), payload("{\"n\":1}")).await.expect("publishes");
    let event = next(&mut stream).await;
    assert_eq!((event.namespace.as_str(), event.event.topic()), ("default", "/mine/a"));
    assert!(event.at >= before && event.at <= Timestamp::now(), "EVT-2: stamped by the daemon");
    let long_ago = Timestamp(1_000);
    let other = NamespaceName::new("other").expect("good");
    // A topic of the daemon's own, from elsewhere: it is taken for what it is, and breaks no subscriber.
    for topic in ["/images/delete", "/tasks/exit"] {
        published.forward(other.clone(), topic.to_owned(), payload("{}"), long_ago).await.expect("forwards");
        let refused = published.publish(other.clone(), topic.to_owned(), payload("{}")).await;
        assert_eq!(refused.expect_err(topic).class, ErrorClass::InvalidArgument, "{topic}");
        let forwarded = next(&mut stream).await;
        let Event::Forwarded { published_at, .. } = &forwarded.event else { panic!("{forwarded:?}") };
        assert_eq!((*published_at, forwarded.namespace.as_str()), (long_ago, "other"));
        assert!(forwarded.at >= before, "its place in time is that of its coming");
    }
    for topic in ["", "/", "mine", "/mine/", "/mine//a", "/mine/.a", "/mi ne"] {
        let refused = published.publish(default.clone(), topic.to_owned(), payload("")).await;
        assert_eq!(refused.expect_err(topic).class, ErrorClass::InvalidArgument, "{topic}");
        let refused = published.forward(default.clone(), topic.to_owned(), payload(""), long_ago).await;
        assert_eq!(refused.expect_err(topic).class, ErrorClass::InvalidArgument, "{topic}");
    }
    let refused = published.forward(default.clone(), "/mine/a".to_owned(), payload(""), Timestamp(0)).await;
    assert_eq!(refused.expect_err("no time").class, ErrorClass::InvalidArgument);
    let huge = Any { type_url: "t".to_owned(), value: vec![0; 257 << 10] };
    let refused =
        published.publish(default.clone(), "/mine/a".to_owned(), huge).await.expect_err("too large");
    assert_eq!(refused.class, ErrorClass::InvalidArgument);
    // What is allowed is small beside a message, however many come together.
    let large = Any { type_url: "t".to_owned(), value: vec![7; 250 << 10] };
    let head = client.status().await.expect("answers").event_sequence;
    for _ in 0..80 {
        published.publish(default.clone(), "/mine/large".to_owned(), large.clone()).await.expect("publishes");
    }
    let start = EventStart::Sequence(head + 1);
    let mut stream = published.read(EventFilter::default(), start, head + 80).await.expect("reads");
    for number in 1..=80 {
        assert_eq!(next(&mut stream).await.sequence, head + number);
    }
    assert!(stream.next().await.is_none(), "EVT-10: the end is an end, not an error");
}

#[tokio::test(flavor = "multi_thread")]
async fn evt_9_a_named_cursor_survives_restarts_and_never_goes_back() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    let own = client.events();
    let publish = async |topic: &str| {
        own.publish(NamespaceName::default_name(), topic.to_owned(), payload("{}")).await.expect("publishes");
    };
    publish("/mine/before").await;
    let cursor = own.cursor(CursorId::new("backup").expect("good"));
    let made = cursor.create(EventStart::Now).await.expect("creates");
    assert_eq!(cursor.create(EventStart::Sequence(1)).await.expect("is there"), made, "made once");
    for topic in ["/mine/one", "/mine/two", "/mine/three"] {
        publish(topic).await;
    }
    let mut stream = cursor.subscribe(EventFilter::default()).await.expect("subscribes");
    assert_eq!(next(&mut stream).await.event.topic(), "/mine/one");
    let two = next(&mut stream).await;
    assert_eq!(cursor.acknowledge(two.sequence).await.expect("acknowledges").position, two.sequence);
    assert_eq!(cursor.acknowledge(1).await.expect("is nothing").position, two.sequence);
    let error = cursor.acknowledge(two.sequence + 1000).await.expect_err("not yet there");
    assert_eq!(error.class, ErrorClass::InvalidArgument);
    daemon.kill();
    let _daemon = world.start();
    let mut stream = cursor.subscribe(EventFilter::default()).await.expect("subscribes");
    assert_eq!(next(&mut stream).await.event.topic(), "/mine/three");
    // A namespace's cursors are its own, and see its events alone.
    let scoped = namespace(&client).events().cursor(CursorId::new("backup").expect("good"));
    let there = scoped.create(EventStart::Sequence(1)).await.expect("creates");
    assert_eq!((there.namespace.as_ref().map(NamespaceName::as_str), there.position), (Some("default"), 0));
    assert_eq!(own.cursors("id~=back").await.expect("lists").len(), 1);
    assert_eq!(
        namespace(&client).events().cursors(bosun_client::Filters::all()).await.expect("lists"),
        [there]
    );
    // By the command line: shown, acknowledged, listed, removed.
    let bosun = |words: &[&str]| {
        let output = world.bosun(words).output().expect("runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let words = ["events", "--cursor", "backup", "--no-follow", "-A"];
    let shown = bosun(&words);
    assert!(shown.contains("/mine/three") && !shown.contains("/mine/two"), "{shown}");
    assert_eq!(bosun(&words), "", "all of it is done");
    publish("/mine/four").await;
    assert!(bosun(&words).contains("/mine/four"));
    let listed = bosun(&["events", "cursors", "ls"]);
    assert!(listed.starts_with("CURSOR") && listed.contains("backup"), "{listed}");
    bosun(&["events", "cursors", "rm", "backup"]);
    assert_eq!(cursor.remove().await.expect_err("gone").class, ErrorClass::NotFound);
    assert_eq!(cursor.acknowledge(1).await.expect_err("gone").class, ErrorClass::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn evt_9_who_is_too_late_is_told_exactly_what_is_missing() {
    let world = World::new();
    let config = world.path("config.toml");
    std::fs::write(&config, "[events]\nkeep_max = 20\nkeep_for = \"30d\"\n").expect("writes");
    let _daemon = world.start_with_words(&["--config", &config.to_string_lossy()]);
    let client = world.client().await;
    let own = client.events();
    let cursor = own.cursor(CursorId::new("late").expect("good"));
    cursor.create(EventStart::Sequence(1)).await.expect("creates");
    for number in 0..70_u32 {
        let topic = format!("/mine/n{number}");
        own.publish(NamespaceName::default_name(), topic, payload("{}")).await.expect("publishes");
    }
    let missed = async || {
        let mut stream = cursor.subscribe(EventFilter::default()).await.expect("subscribes");
        match stream.next().await {
            Some(Ok(EventDelivery::Missed { from: 1, to })) => {
                assert_eq!(next(&mut stream).await.sequence, to + 1, "the next is the first that is kept");
                to
            }
            other => panic!("told what is missing, not {other:?}"),
        }
    };
    eventually("all but twenty to be dropped", async || missed().await == 50).await;
    // By time: what was dropped may have been of that time. By the command line: for programs too.
    let mut stream =
        own.subscribe(EventFilter::default(), EventStart::Time(Timestamp(1))).await.expect("subscribes");
    assert!(matches!(stream.next().await, Some(Ok(EventDelivery::Missed { from: 1, to: 50 }))));
    let bosun = |words: &[&str]| world.bosun(words).output().expect("runs");
    let shown = bosun(&["events", "--since", "11", "--no-follow", "--json"]);
    let lines = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(lines.lines().next(), Some("{\"missed\":{\"count\":40,\"from\":11,\"to\":50}}"), "{lines}");
    assert_eq!(lines.lines().count(), 21);
    let shown = bosun(&["events", "--since", "1h", "--no-follow"]);
    let told = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(told.starts_with("missed 50 events, 1 to 50: "), "{told}");
    let bad = world.path("bad.toml");
    std::fs::write(&bad, "[events]\nkeep_for = \"soon\"\n").expect("writes");
    let other = World::new();
    let refused = std::process::Command::new(bosun_tests::world::program("bosund"))
        .args(["--config", &bad.to_string_lossy(), "--root", &other.path("r").to_string_lossy()])
        .args(["--state", &other.path("s").to_string_lossy()])
        .output()
        .expect("runs");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("keep_for"), "{refused:?}");
}

/// Subscribers that do not read: the daemon has a position of each and at most a page, however much happens meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn evt_9_slow_subscribers_do_not_grow_the_daemon_and_are_told_exactly_what_they_missed() {
    const SUBSCRIBERS: usize = 12;
    const EVENTS: u64 = 240;
    let world = World::new();
    let config = world.path("config.toml");
    std::fs::write(&config, "[events]\nkeep_max = 10\n").expect("writes");
    let daemon = world.start_with_words(&["--config", &config.to_string_lossy()]);
    let client = world.client().await;
    let own = client.events();
    own.publish(NamespaceName::default_name(), "/mine/first".to_owned(), payload("{}"))
        .await
        .expect("publishes");
    let output = |number: usize| world.path(&format!("slow{number}"));
    let shown = |number| std::fs::read_to_string(output(number)).expect("reads");
    let mut slow = Vec::new();
    for number in 0..SUBSCRIBERS {
        let file = std::fs::File::create(output(number)).expect("creates");
        let mut command = world.bosun(&["events", "--since", "1", "--json"]);
        slow.push(command.stdout(file).spawn().expect("runs"));
    }
    eventually("all to be subscribed", async || (0..SUBSCRIBERS).all(|number| !shown(number).is_empty()))
        .await;
    slow.iter().for_each(|child| signal(child.id(), nix::sys::signal::Signal::SIGSTOP));
    let before = resident(daemon.pid());
    let large = Any { type_url: "t".to_owned(), value: vec![7; 250 << 10] };
    let mut newest = 0;
    for _ in 0..EVENTS {
        newest = own
            .publish(NamespaceName::default_name(), "/mine/large".to_owned(), large.clone())
            .await
            .expect("publishes");
    }
    // Queues would hold 700 MB by now; what grew are the database's own buffers.
    let grown = resident(daemon.pid()).saturating_sub(before);
    println!("{} MiB more", grown >> 20);
    assert!(grown < 300 << 20, "{} MiB more for {SUBSCRIBERS} subscribers", grown >> 20);
    slow.iter().for_each(|child| signal(child.id(), nix::sys::signal::Signal::SIGCONT));
    let last = format!("\"sequence\":{newest},");
    for (number, mut child) in slow.into_iter().enumerate() {
        eventually("the newest to be shown", async || shown(number).contains(&last)).await;
        child.kill().expect("ends");
        child.wait().expect("ends");
        let (seen, missed) = without_holes(&shown(number), newest);
        assert!(missed > 100 && seen >= 10, "{seen} seen, {missed} missed");
    }
}

/// Each event once and in order, or in a range that is said to be missed: how many of each.
fn without_holes(lines: &str, newest: u64) -> (u64, u64) {
    let (mut wanted, mut seen, mut missed) = (1, 0, 0);
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if let Some(gone) = line.get("missed") {
            assert_eq!(gone["from"], wanted);
            missed += gone["count"].as_u64().expect("a number");
            wanted = gone["to"].as_u64().expect("a number") + 1;
        } else {
            assert_eq!(line["sequence"], wanted);
            (seen, wanted) = (seen + 1, wanted + 1);
        }
    }
    assert_eq!((wanted, seen + missed), (newest + 1, newest));
    (seen, missed)
}

fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    nix::sys::signal::kill(pid, signal).expect("is there");
}

/// Bytes of memory that a process has in use.
fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("runs");
    let pages: u64 = statm.split(' ').nth(1).expect("resident").parse().expect("a number");
    pages * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_from_a_time_begins_with_the_first_event_of_that_time_or_later() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    for number in 0..5 {
        let topic = format!("/times/{number}");
        client.events().publish(NamespaceName::default_name(), topic, payload("x")).await.expect("publishes");
    }
    daemon.kill();
    let _daemon = world.start();
    let told = events(&client).await;
    for (position, record) in told.iter().enumerate() {
        for (time, first) in [(record.at.0, position), (record.at.0 + 1, position + 1)] {
            // Of several at the same time, the first.
            let wanted = told.iter().position(|other| other.at.0 >= time).unwrap_or(told.len());
            assert!(wanted <= first, "times grow with positions");
            let Some(wanted) = told.get(wanted) else { continue };
            let start = EventStart::Time(Timestamp(time));
            let mut stream =
                client.events().subscribe(EventFilter::default(), start).await.expect("subscribes");
            assert_eq!(next(&mut stream).await.sequence, wanted.sequence, "from {time}");
        }
    }
}
