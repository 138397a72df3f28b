//! A shim dies, and its container is one that shall go on: a new shim takes it over, and nothing but the shim's pid tells (SHM-9, the other policy).

use bosun_client::{Client, RunRequest, Task};
use bosun_tests::client::{log_of, logged, namespace, shell};
use bosun_tests::invariants::identity;
use bosun_tests::world::{World, eventually, wait_until};
use bosun_types::shim::Request;
use bosun_types::stdio::{AttachFrom, AttachRecord, AttachRequest, Overflow, Stdio};
use bosun_types::task::{ExitCause, OnShimDeath, ProcessStatus, TaskRequest};
use bosun_types::{ContainerId, ErrorClass, ExecId};
use nix::sys::signal::Signal;

use crate::deaths::{directories, end_of, exec, exits, pid, send, started, task_of, true_end};

/// Ticks, answers SIGUSR1, and ends with 42 when it is told to.
const SCRIPT: &str = "trap 'echo asked' USR1; i=0; while [ ! -e /end ]; do i=$((i+1)); echo tick $i; sleep 0.01; done; exit 42";

fn adoptable() -> TaskRequest {
    TaskRequest { on_shim_death: OnShimDeath::Adopt, ..logged() }
}

async fn run(client: &Client, name: &str, command: &str) -> (Task, u32) {
    let request = RunRequest { container: shell(name, command), task: adoptable() };
    let init = namespace(client).run(request).await.expect("runs").pid();
    (task_of(client, name), init)
}

/// The shim of the world's only task, as its beacon says: after an adoption it is nobody's parent.
fn shim(world: &World) -> u32 {
    let directory = directories(world).pop().expect("one");
    directory.beacon().expect("reads").expect("written").shim.pid
}

/// Kills it and waits until another one has the container.
async fn kill_shim(world: &World, client: &Client, name: &str) {
    let dead = shim(world);
    send(Signal::SIGKILL, pid(dead));
    wait_until("a new shim", || shim(world) != dead && identity(shim(world)).is_some());
    eventually("the task to be served", || async { task_of(client, name).pids().await.is_ok() }).await;
}

fn ticks(log: &str) -> Vec<usize> {
    log.lines().filter_map(|line| line.strip_prefix("tick ")?.parse().ok()).collect()
}

async fn ticks_on(client: &Client, name: &str) {
    let before = ticks(&log_of(client, name).await).len();
    eventually("more ticks", || async { ticks(&log_of(client, name).await).len() > before + 3 }).await;
}

fn finish(init: u32) {
    std::fs::write(format!("/proc/{init}/root/end"), "").expect("writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn shm_9_an_adopted_container_keeps_its_process_its_output_every_verb_and_its_true_end() {
    let (world, _daemon, client) = started().await;
    let (task, init) = run(&client, "c", SCRIPT).await;
    let before = identity(init).expect("lives");
    ticks_on(&client, "c").await;
    for _ in 0..2 {
        kill_shim(&world, &client, "c").await;
        assert_eq!(identity(init), Some(before));
        assert_eq!(task.info().await.expect("known").status, ProcessStatus::Running);
        ticks_on(&client, "c").await;
    }
    // Every verb works.
    task.kill(10, false).await.expect("is delivered");
    eventually("the signal", || async { log_of(&client, "c").await.contains("asked") }).await;
    let done = task.run_exec(exec("e", "exit 3")).await.expect("runs");
    assert_eq!(end_of(done.wait()).await, ExitCause::Code(3));
    let done = task.process(ExecId::new("e").expect("good"));
    assert_eq!(done.delete().await.expect("is forgotten").expect("ran").cause, ExitCause::Code(3));
    task.pause().await.expect("pauses");
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Paused);
    task.resume().await.expect("goes on");
    task.update(br#"{"pids":{"limit":77}}"#.to_vec()).await.expect("updates");
    assert_eq!(task.metrics().await.expect("samples").usage.pids.limit, 77);
    assert!(task.pids().await.expect("lists").iter().any(|it| it.pid == init));
    let from = AttachRequest { from: AttachFrom::Replay(1 << 10), overflow: Overflow::DropOldest };
    let mut reader = task.init().attach(from).await.expect("attaches");
    let record = reader.next().await.expect("says something").expect("reads");
    assert!(matches!(record, AttachRecord::Output { .. }), "{record:?}");
    finish(init);
    let end = end_of(task.wait()).await;
    assert!(true_end(&ExitCause::Code(42), &end), "{end:?}");
    let told: Vec<_> = exits(&client).await.into_iter().filter(|(id, _)| id == "c").collect();
    assert_eq!(told, [("c".to_owned(), end)]);
    let numbers = ticks(&log_of(&client, "c").await);
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "none is missing, none came twice");
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_container_outlives_the_daemon_and_a_shim_that_dies_while_there_is_none() {
    let (world, daemon, client) = started().await;
    let (task, init) = run(&client, "c", SCRIPT).await;
    let before = identity(init).expect("lives");
    kill_shim(&world, &client, "c").await;
    // The new shim is as good as the first: a daemon finds it.
    let adopted = shim(&world);
    daemon.kill();
    let daemon = world.start();
    world.recovered(&client).await;
    eventually("its state", || async { task.info().await.expect("known").status == ProcessStatus::Running })
        .await;
    assert_eq!(shim(&world), adopted);
    daemon.kill();
    send(Signal::SIGKILL, pid(adopted));
    wait_until("the shim to be gone", || identity(adopted).is_none());
    assert_eq!(identity(init), Some(before), "it goes on alone");
    let _daemon = world.start();
    world.recovered(&client).await;
    ticks_on(&client, "c").await;
    assert_eq!(identity(init), Some(before));
    finish(init);
    let end = end_of(task.wait()).await;
    assert!(true_end(&ExitCause::Code(42), &end), "{end:?}");
    assert_eq!(exits(&client).await, [("c".to_owned(), end)]);
    let numbers = ticks(&log_of(&client, "c").await);
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "none is missing, none came twice");
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_that_the_daemon_does_not_survive_is_done_by_the_next() {
    let points = ["end_rest.before", "end_rest.after", "write_adoption.after", "spawn_shim.after"];
    let world = World::new();
    let mut daemon = world.start();
    let client = world.client().await;
    bosun_tests::client::import(&client).await;
    let (task, init) = run(&client, "c", SCRIPT).await;
    let before = identity(init).expect("lives");
    for point in points {
        daemon.kill();
        daemon = world.start_with(&[("BOSUN_FAULTS", &format!("take_over.{point}=abort"))]);
        world.recovered(&client).await;
        eventually("the shim to be connected", || async { task.pids().await.is_ok() }).await;
        send(Signal::SIGKILL, pid(shim(&world)));
        assert!(!daemon.ended().success(), "{point}");
        daemon = world.start();
        world.recovered(&client).await;
        eventually("the task to be served", || async { task.pids().await.is_ok() }).await;
        assert_eq!(identity(init), Some(before), "{point}");
        world.check(&client).await;
    }
    finish(init);
    let end = end_of(task.wait()).await;
    assert!(true_end(&ExitCause::Code(42), &end), "{end:?}");
    assert_eq!(exits(&client).await, [("c".to_owned(), end)]);
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn execs_are_adopted_with_their_container_or_end_truly() {
    let (world, _daemon, client) = started().await;
    let (task, init) = run(&client, "c", "sleep 1000").await;
    let lives =
        task.run_exec(exec("lives", "while [ ! -e /go ]; do sleep 0.01; done; exit 5")).await.expect("runs");
    let unseen = task.run_exec(exec("unseen", "while [ ! -e /now ]; do sleep 0.01; done; exit 6")).await;
    let unseen = unseen.expect("runs");
    let waiting = task.exec(exec("waiting", "exit 7")).await.expect("is registered");
    let before = identity(lives.pid()).expect("lives");
    // Its end comes while the shim is stopped, and the shim never goes on: only this daemon's descriptor tells.
    let dead = shim(&world);
    send(Signal::SIGSTOP, pid(dead));
    std::fs::write(format!("/proc/{init}/root/now"), "").expect("writes");
    wait_until("the exec to have ended", || identity(unseen.pid()).is_none());
    kill_shim(&world, &client, "c").await;
    let end = end_of(unseen.wait()).await;
    assert!(true_end(&ExitCause::Code(6), &end), "{end:?}");
    assert_eq!(identity(lives.pid()), Some(before));
    std::fs::write(format!("/proc/{init}/root/go"), "").expect("writes");
    let end = end_of(lives.wait()).await;
    assert!(true_end(&ExitCause::Code(5), &end), "{end:?}");
    waiting.start().await.expect("starts under the new shim");
    assert_eq!(end_of(waiting.wait()).await, ExitCause::Code(7));
    task.kill(9, true).await.expect("kills");
    let end = end_of(task.wait()).await;
    assert!(true_end(&ExitCause::Signal(9), &end), "{end:?}");
    let told = exits(&client).await;
    for id in ["lives", "unseen", "waiting", "c"] {
        assert_eq!(told.iter().filter(|(told, _)| told == id).count(), 1, "{id} in {told:?}");
    }
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_container_is_adopted_paused_and_one_that_has_not_begun_is_ended() {
    let (world, _daemon, client) = started().await;
    let (task, init) = run(&client, "c", "sleep 1000").await;
    task.pause().await.expect("pauses");
    kill_shim(&world, &client, "c").await;
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Paused);
    assert!(identity(init).is_some());
    task.resume().await.expect("goes on");
    task.kill(9, true).await.expect("kills");
    end_of(task.wait()).await;
    task.delete().await.expect("deletes");
    let created = namespace(&client).containers().create(shell("d", "exit 1")).await.expect("creates");
    let task = namespace(&client).container(created.id).create_task(adoptable()).await.expect("creates");
    send(Signal::SIGKILL, pid(shim(&world)));
    let end = end_of(task.wait()).await;
    assert!(true_end(&ExitCause::Signal(9), &end), "{end:?}");
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_adopted_is_refused_and_says_why() {
    let (world, _daemon, client) = started().await;
    namespace(&client).containers().create(shell("tty", "sh")).await.expect("creates");
    let request = TaskRequest { stdio: Stdio { terminal: true, ..Stdio::default() }, ..adoptable() };
    let container = namespace(&client).container(ContainerId::new("tty").expect("good"));
    let refusal = container.create_task(request).await.err().expect("is refused");
    assert_eq!(refusal.class, ErrorClass::InvalidArgument, "{refusal}");
    assert!(refusal.message.contains("terminal"), "{refusal}");
    // A terminal of an exec: it goes with its shim, and says so to who would resize it.
    let (task, init) = run(&client, "c", "sleep 1000").await;
    let mut request = exec("shell", "trap '' HUP; while [ ! -e /end ]; do sleep 0.01; done");
    request.stdio.terminal = true;
    let shell = task.run_exec(request).await.expect("runs");
    kill_shim(&world, &client, "c").await;
    let refusal =
        task.process(ExecId::new("shell").expect("good")).resize(80, 25).await.expect_err("is gone");
    assert_eq!(refusal.class, ErrorClass::FailedPrecondition, "{refusal}");
    assert!(refusal.message.contains("terminal"), "{refusal}");
    finish(init);
    end_of(shell.wait()).await;
    task.kill(9, true).await.expect("kills");
    end_of(task.wait()).await;
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_that_nobody_was_told_of_is_forgotten() {
    let (world, daemon, client) = started().await;
    let (task, _) = run(&client, "c", "sleep 1000").await;
    daemon.kill();
    // As if the daemon had asked in its last moment, and died before its commit.
    let directory = directories(&world).pop().expect("one");
    let deadline = std::time::Duration::from_secs(10);
    let connected = bosun_runtime::shim::connect(directory.path(), directory.nonce(), deadline).await;
    let (shim, _notices) = connected.expect("connects");
    let left = Request::AddExec {
        id: ExecId::new("e").expect("good"),
        process: b"{}".to_vec(),
        stdio: Stdio::default(),
    };
    shim.request(left, deadline).await.expect("is registered");
    drop(shim);
    let _daemon = world.start();
    // Its client asks again, for something else.
    let exec = loop {
        match task.run_exec(exec("e", "exit 4")).await {
            Ok(exec) => break exec,
            Err(error) => assert_eq!(error.class, ErrorClass::Unavailable, "{error}"),
        }
    };
    assert_eq!(end_of(exec.wait()).await, ExitCause::Code(4));
    task.kill(9, true).await.expect("kills");
    end_of(task.wait()).await;
    task.delete().await.expect("deletes");
    world.check(&client).await;
}
