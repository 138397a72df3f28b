//! Changes under random `kill -9` of the daemon: the client's keys make each of them happen once, and nobody sees a lost connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bosun_client::{Client, Task};
use bosun_tests::client::{events, import, logged, namespace, shell};
use bosun_tests::world::{World, eventually};
use bosun_types::container::Any;
use bosun_types::event::Event;
use bosun_types::stdio::{LogRequest, Stdio};
use bosun_types::task::{ExecProcess, ExecRequest};
use bosun_types::{ContainerId, Labels, NamespaceName, SnapshotKey};

use crate::kill::{Random, seed, setting};

/// SIGUSR1: the shell counts it, and nothing else.
const USR1: u32 = 10;

/// Counts signals in its log, and execs in a file of its own.
const COUNTER: &str = "trap 'echo signal' USR1; trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).expect("good")
}

/// Lines of its log; 0 while there is no daemon.
async fn counted(client: &Client, line: &str) -> usize {
    let task = namespace(client).container(id("counter")).task();
    let Ok(mut records) = task.logs(LogRequest::default()).await else { return 0 };
    let mut text = Vec::new();
    while let Some(record) = records.next().await {
        let Ok(record) = record else { return 0 };
        text.extend_from_slice(&record.bytes);
    }
    String::from_utf8_lossy(&text).lines().filter(|one| *one == line).count()
}

/// One after the other, each counted before the next: two that are pending at once would be one.
async fn signal(client: Client, task: Task, stop: Arc<AtomicBool>) -> usize {
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        task.kill(USR1, false).await.expect("a signal is sent over a kill of the daemon");
        sent += 1;
        eventually("the signal to be counted", async || counted(&client, "signal").await >= sent).await;
    }
    sent
}

async fn execs(task: Task, stop: Arc<AtomicBool>) -> usize {
    let mut done = 0;
    while !stop.load(Ordering::SeqCst) {
        let request = ExecRequest {
            id: format!("e{done}").parse().expect("good"),
            process: ExecProcess::Inherit {
                args: ["/bin/sh", "-c", "echo x >> /execs"].map(str::to_owned).to_vec(),
                env: Vec::new(),
                cwd: None,
                user: None,
            },
            stdio: Stdio::default(),
        };
        let process = if done % 2 == 0 {
            let running = task.run_exec(request).await.expect("an exec runs over a kill of the daemon");
            running.process().clone()
        } else {
            let process = task.exec(request).await.expect("an exec is made over a kill of the daemon");
            process.start().await.expect("an exec is started over a kill of the daemon");
            process
        };
        assert_eq!(process.wait().await.expect("ends").code(), 0);
        let exit = process.delete().await.expect("an exec is deleted over a kill of the daemon");
        assert_eq!(exit.expect("it ran").code(), 0, "the first answer is the answer");
        done += 1;
    }
    done
}

/// The rows: whatever is made is new, whatever is removed is there.
async fn rows(client: Client, stop: Arc<AtomicBool>) -> usize {
    let mut rounds = 0;
    while !stop.load(Ordering::SeqCst) {
        let name = NamespaceName::new(format!("n{rounds}")).expect("good");
        client.create_namespace(name.clone(), Labels::new()).await.expect("a namespace is made");
        let snapshots = namespace(&client).default_snapshots();
        let key = |text: &str| SnapshotKey::new(format!("{text}{rounds}")).expect("good");
        snapshots.prepare(key("a"), None, Labels::new()).await.expect("a snapshot is made");
        snapshots.commit(key("b"), key("a"), Labels::new()).await.expect("a snapshot is committed");
        snapshots.remove(key("b")).await.expect("a snapshot is removed");
        client.delete_namespace(name).await.expect("a namespace is removed");
        rounds += 1;
    }
    rounds
}

async fn lives(client: Client, stop: Arc<AtomicBool>) -> usize {
    let mut rounds = 0;
    while !stop.load(Ordering::SeqCst) {
        let name = format!("c{rounds}");
        let space = namespace(&client);
        let run = bosun_client::RunRequest { container: shell(&name, "exit 3"), task: logged() };
        let running = space.run(run).await.expect("a container runs over a kill of the daemon");
        assert_eq!(running.wait().await.expect("ends").code(), 3);
        let container = space.container(id(&name));
        let exit = container.task().delete().await.expect("a task is deleted over a kill of the daemon");
        assert_eq!(exit.expect("it ran").code(), 3, "the first answer is the answer");
        container.delete(true).await.expect("a container is deleted over a kill of the daemon");
        rounds += 1;
    }
    rounds
}

async fn publish(client: Client, next: Arc<AtomicUsize>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let payload = Any { type_url: "number".to_owned(), value: number.to_string().into_bytes() };
        let topic = "/repeats/number".to_owned();
        let sequence = client
            .events()
            .publish(NamespaceName::default_name(), topic, payload)
            .await
            .expect("an event is published over a kill of the daemon");
        assert!(sequence > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_change_is_lost_or_done_twice_over_kills_of_the_daemon() {
    let mut random = Random(seed());
    let world = World::new();
    let mut daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let run = bosun_client::RunRequest { container: shell("counter", COUNTER), task: logged() };
    namespace(&client).run(run).await.expect("runs");
    let task = namespace(&client).container(id("counter")).task();
    // Until its traps are set, the kernel drops signals: it is the first process of its own.
    eventually("the container to be ready", async || counted(&client, "ready").await == 1).await;
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicUsize::new(0));
    let signalling = tokio::spawn(signal(client.clone(), task.clone(), stop.clone()));
    let executing = tokio::spawn(execs(task.clone(), stop.clone()));
    let changing = tokio::spawn(rows(client.clone(), stop.clone()));
    let living = tokio::spawn(lives(client.clone(), stop.clone()));
    let publishing: Vec<_> =
        (0..2).map(|_| tokio::spawn(publish(client.clone(), next.clone(), stop.clone()))).collect();
    let (begin, mut kills) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(setting("BOSUN_CHAOS_SECONDS", 8)) {
        tokio::time::sleep(Duration::from_millis(150 + random.next(600))).await;
        daemon.kill();
        daemon = world.start();
        kills += 1;
    }
    stop.store(true, Ordering::SeqCst);
    let sent = signalling.await.expect("every signal was answered");
    let executed = executing.await.expect("every exec was answered");
    let changed = changing.await.expect("every row was answered");
    let lived = living.await.expect("every container was answered");
    for publisher in publishing {
        publisher.await.expect("every event was answered");
    }
    world.recovered(&client).await;
    println!("{kills} kills, {sent} signals, {executed} execs, {changed} rows, {lived} containers");
    assert!(kills > 3 && sent > 0 && executed > 0 && changed > 0 && lived > 0);
    assert_eq!(counted(&client, "signal").await, sent, "each signal once");
    let count = world.bosun(&["exec", "counter", "wc", "-l", "/execs"]).output().expect("runs");
    let count = String::from_utf8_lossy(&count.stdout).into_owned();
    assert_eq!(
        count.split_whitespace().next(),
        Some(executed.to_string().as_str()),
        "each exec once: {count}"
    );
    let mut numbers: Vec<usize> = events(&client)
        .await
        .into_iter()
        .filter_map(|record| match record.event {
            Event::Custom { payload, .. } => String::from_utf8(payload.value).ok()?.parse().ok(),
            _ => None,
        })
        .collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..next.load(Ordering::SeqCst)), "each event once: {numbers:?}");
    task.kill(15, false).await.expect("is asked to end");
    world.check(&client).await;
}
