//! `kill -9` of the daemon in the middle of every verb: each call is repeated until it is answered, and in the end every process has exactly one exit, the
//! true one. The seed is printed; `BOSUN_SEED` runs it again, `BOSUN_CHAOS_SECONDS` makes it long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bosun_client::{Client, Task};
use bosun_tests::client::{events, import, logged, namespace, shell};
use bosun_tests::world::World;
use bosun_types::event::{Event, EventRecord};
use bosun_types::stdio::{AttachFrom, AttachRecord, AttachRequest, Overflow};
use bosun_types::task::{ExitCause, ProcessStatus};
use bosun_types::{ContainerId, ErrorClass, ExecId, Result};

use super::kill::{Random, seed, setting};
use super::script::{exec, one_exit_each};

const WORKERS: usize = 2;
/// Whoever is asked during a restart asks again.
const AGAIN: Duration = Duration::from_millis(10);
/// Lives until it is told to end; says so once.
const LIFE: &str = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done";

/// Asks until there is an answer; then a refusal of these classes says that an earlier call was heard.
async fn until_heard<T, F: Future<Output = Result<T>>>(
    what: &str,
    heard: &[ErrorClass],
    mut call: impl FnMut() -> F,
) -> Option<T> {
    let begin = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return Some(answer),
            Err(error) if heard.contains(&error.class) => return None,
            Err(error) => {
                let again = matches!(error.class, ErrorClass::Unavailable | ErrorClass::DeadlineExceeded);
                assert!(again && begin.elapsed() < Duration::from_secs(60), "{what}: {error}");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f_3_kill_9_in_the_middle_of_every_verb_leaves_one_true_exit_each() {
    let mut random = Random(seed());
    let world = World::new();
    let mut daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut lives = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let name = format!("v{worker}-{}", lives.len());
                    life(&client, &name).await;
                    lives.push(name);
                }
                lives
            })
        })
        .collect();
    let begin = Instant::now();
    let mut kills = 0;
    while begin.elapsed() < Duration::from_secs(setting("BOSUN_CHAOS_SECONDS", 8)) {
        tokio::time::sleep(Duration::from_millis(5 + random.next(300))).await;
        daemon.kill();
        daemon = world.start();
        kills += 1;
    }
    stop.store(true, Ordering::SeqCst);
    let mut lives = Vec::new();
    for worker in workers {
        lives.extend(worker.await.expect("a worker"));
    }
    println!("{kills} kills, {} lives", lives.len());
    let told = events(&client).await;
    for name in &lives {
        let exits = |id: String| exits_of(&told, &id);
        assert_eq!(exits(name.clone()), [ExitCause::Code(9)], "{name}");
        assert_eq!(exits(format!("{name}-short")), [ExitCause::Code(5)], "{name}");
        assert_eq!(exits(format!("{name}-long")), [ExitCause::Signal(9)], "{name}");
    }
    one_exit_each(&told);
    world.recovered(&client).await;
    world.check(&client).await;
    assert!(client.operations().await.expect("lists").is_empty(), "operations are left open");
}

fn exits_of(told: &[EventRecord], wanted: &str) -> Vec<ExitCause> {
    let exits = told.iter().filter_map(|record| match &record.event {
        Event::TaskExit { id, exit, .. } if id == wanted => Some(exit.cause.clone()),
        _ => None,
    });
    exits.collect()
}

/// Every verb, each until it is heard.
async fn life(client: &Client, name: &str) {
    use ErrorClass::{AlreadyExists, FailedPrecondition, NotFound};
    let containers = namespace(client).containers();
    let container = containers.get(ContainerId::new(name).expect("good"));
    let task = container.task();
    // What was there already may be on its way out: an earlier try that nobody heard the answer of is taken back.
    loop {
        until_heard("create", &[AlreadyExists], || containers.create(shell(name, LIFE))).await;
        until_heard("create a task", &[AlreadyExists, NotFound], || async {
            container.create_task(logged()).await.map(drop)
        })
        .await;
        until_heard("start", &[FailedPrecondition, NotFound], || task.start()).await;
        let info = until_heard("info", &[NotFound], || task.info()).await;
        if info.is_some_and(|info| info.status == ProcessStatus::Running) {
            break;
        }
    }
    let output = tokio::spawn(read_all(task.clone()));
    short_exec(&task, &format!("{name}-short")).await;
    frozen(&task, true).await;
    frozen(&task, false).await;
    until_heard("update", &[], || task.update(br#"{"pids":{"limit":99}}"#.to_vec())).await;
    killed_exec(&task, &format!("{name}-long")).await;
    until_heard("pids", &[], || task.pids()).await;
    until_heard("kill", &[NotFound], || task.kill(15, false)).await;
    assert_eq!(
        until_heard("wait", &[], || task.wait()).await.map(|exit| exit.cause),
        Some(ExitCause::Code(9))
    );
    assert_eq!(output.await.expect("reads"), "ready\n", "not a byte lost, none twice");
    until_heard("delete", &[NotFound], || task.delete()).await;
    until_heard("delete the container", &[NotFound], || container.delete(true)).await;
}

async fn short_exec(task: &Task, id: &str) {
    use ErrorClass::{AlreadyExists, FailedPrecondition, NotFound};
    until_heard("exec", &[AlreadyExists], || async { task.exec(exec(id, "exit 5")).await.map(drop) }).await;
    let process = task.process(ExecId::new(id).expect("good"));
    until_heard("start an exec", &[FailedPrecondition], || process.start()).await;
    let exit = until_heard("wait for an exec", &[], || process.wait()).await;
    assert_eq!(exit.map(|exit| exit.cause), Some(ExitCause::Code(5)), "{id}");
    until_heard("delete an exec", &[NotFound], || process.delete()).await;
}

/// A kill may be heard by nobody; one that was heard is seen by its end.
async fn killed_exec(task: &Task, id: &str) {
    use ErrorClass::{AlreadyExists, FailedPrecondition, NotFound};
    until_heard("exec", &[AlreadyExists], || async { task.exec(exec(id, "sleep 1000")).await.map(drop) })
        .await;
    let process = task.process(ExecId::new(id).expect("good"));
    until_heard("start an exec", &[FailedPrecondition], || process.start()).await;
    until_heard("kill an exec", &[NotFound], || process.kill(9, false)).await;
    let exit = until_heard("wait for an exec", &[], || process.wait()).await;
    assert_eq!(exit.map(|exit| exit.cause), Some(ExitCause::Signal(9)), "{id}");
    until_heard("delete an exec", &[NotFound], || process.delete()).await;
}

async fn frozen(task: &Task, freeze: bool) {
    let wanted = if freeze { ProcessStatus::Paused } else { ProcessStatus::Running };
    loop {
        until_heard("freeze", &[ErrorClass::FailedPrecondition], || async {
            if freeze { task.pause().await } else { task.resume().await }
        })
        .await;
        let status = until_heard("info", &[], || task.info()).await.map(|info| info.status);
        if status == Some(wanted) {
            return;
        }
    }
}

/// All output from the first byte on, over every restart.
async fn read_all(task: Task) -> String {
    let from = AttachRequest { from: AttachFrom::Position(0), overflow: Overflow::Block };
    let Some(mut reader) = until_heard("attach", &[], || task.init().attach(from)).await else {
        return String::new();
    };
    let mut bytes = Vec::new();
    while let Some(record) = reader.next().await {
        match record.expect("goes on over restarts") {
            AttachRecord::Output { bytes: more, .. } => bytes.extend_from_slice(&more),
            AttachRecord::Missed(count) => bytes.extend_from_slice(format!("({count} missed)").as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
