//! Every death (TSK-*, SHM-*): who dies, in which phase, and what is said of it: exactly one exit with the true end where anybody can know it, a typed
//! unknown where not, and nothing left on the host.

use std::time::Duration;

use bosun_client::{Client, RunRequest, Task};
use bosun_runtime::task_directory::TaskDirectory;
use bosun_tests::client::{events, import, logged, namespace, shell};
use bosun_tests::invariants::{identity, shim_of};
use bosun_tests::world::{Daemon, World, eventually, wait_until};
use bosun_types::event::Event;
use bosun_types::shim::Request;
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExecProcess, ExecRequest, ExitCause, ExitStatus, ProcessStatus};
use bosun_types::{ContainerId, ErrorClass, ExecId, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub async fn started() -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    (world, daemon, client)
}

pub fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a pid"))
}

pub fn send(signal: Signal, to: Pid) {
    kill(to, signal).expect("lives");
}

pub fn task_of(client: &Client, name: &str) -> Task {
    namespace(client).container(ContainerId::new(name).expect("good")).task()
}

async fn run(client: &Client, name: &str, command: &str) -> (Task, u32) {
    let request = RunRequest { container: shell(name, command), task: logged() };
    let init = namespace(client).run(request).await.expect("runs").pid();
    (task_of(client, name), init)
}

pub fn exec(name: &str, command: &str) -> ExecRequest {
    ExecRequest {
        id: ExecId::new(name).expect("good"),
        process: ExecProcess::Inherit {
            args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
            env: Vec::new(),
            cwd: None,
            user: None,
        },
        stdio: Stdio::default(),
    }
}

pub fn directories(world: &World) -> Vec<TaskDirectory> {
    TaskDirectory::list(&world.places().state).expect("lists")
}

/// How it ends. An end that nobody tells is what these tests look for: nothing waits for ever here.
pub async fn end_of(wait: impl Future<Output = bosun_client::Result<ExitStatus>>) -> ExitCause {
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.expect("its end is told").expect("it ends").cause
}

/// Exits that were told, of init and execs, in order.
pub async fn exits(client: &Client) -> Vec<(String, ExitCause)> {
    let told = events(client).await.into_iter().filter_map(|record| match record.event {
        Event::TaskExit { id, exit, .. } => Some((id, exit.cause)),
        _ => None,
    });
    told.collect()
}

/// Nobody but the shim could have read this end before the kernel told holders of a descriptor.
fn kernel_tells() -> bool {
    let release = nix::sys::utsname::uname().expect("known").release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).filter_map(|word| word.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

pub fn true_end(wanted: &ExitCause, told: &ExitCause) -> bool {
    if kernel_tells() { told == wanted } else { told == wanted || matches!(told, ExitCause::Unknown(_)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_4_a_shim_killed_in_each_phase_takes_its_container_with_it_and_its_end_is_told_once() {
    let (world, _daemon, client) = started().await;
    let nine = ExitCause::Signal(9);
    // Created: init is held before exec.
    let created = namespace(&client).containers().create(shell("created", "exit 1")).await.expect("creates");
    let created = namespace(&client).container(created.id).create_task(logged()).await.expect("creates");
    let init = created.info().await.expect("known").pid;
    send(Signal::SIGKILL, shim_of(init));
    let end = end_of(created.wait()).await;
    assert!(true_end(&nine, &end), "{end:?}");
    // Running, paused.
    for (name, frozen) in [("running", false), ("paused", true)] {
        let (task, init) = run(&client, name, "sleep 1000").await;
        let shim = shim_of(init);
        if frozen {
            task.pause().await.expect("pauses");
        }
        send(Signal::SIGKILL, shim);
        let end = end_of(task.wait()).await;
        assert!(true_end(&nine, &end), "{name}: {end:?}");
        assert!(identity(init).is_none());
    }
    // Stopped: the end was told before, and stays.
    let (task, init) = run(&client, "stopped", "sleep 1000").await;
    let shim = shim_of(init);
    task.kill(9, false).await.expect("kills");
    end_of(task.wait()).await;
    send(Signal::SIGKILL, shim);
    eventually("the shim to be missed", || async {
        identity(u32::try_from(shim.as_raw()).expect("a pid")).is_none()
    })
    .await;
    for name in ["created", "running", "paused", "stopped"] {
        let end = task_of(&client, name).delete().await.expect(name).expect("it ran").cause;
        let told: Vec<_> = exits(&client).await.into_iter().filter(|(id, _)| id == name).collect();
        assert_eq!(told, [(name.to_owned(), end)]);
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn execs_of_a_dead_shim_end_as_the_kernel_says() {
    let (world, _daemon, client) = started().await;
    let (task, init) = run(&client, "c", "sleep 1000").await;
    let shim = shim_of(init);
    let killed = task.run_exec(exec("killed", "sleep 1000")).await.expect("runs");
    let done = task.run_exec(exec("done", "read go; exit 3")).await.expect("runs");
    assert_eq!(end_of(done.wait()).await, ExitCause::Code(3));
    let created = task.exec(exec("created", "true")).await.expect("is registered");
    // The shim does not see this end: it is stopped when it comes, and killed before it goes on.
    let unseen = task.run_exec(exec("unseen", "while [ ! -e /end ]; do sleep 0.01; done; exit 42")).await;
    let unseen = unseen.expect("runs");
    send(Signal::SIGSTOP, shim);
    std::fs::write(format!("/proc/{init}/root/end"), "").expect("writes");
    wait_until("the exec to have ended", || identity(unseen.pid()).is_none());
    send(Signal::SIGKILL, shim);
    let end = end_of(killed.wait()).await;
    assert!(true_end(&ExitCause::Signal(9), &end), "{end:?}");
    let end = end_of(unseen.wait()).await;
    assert!(true_end(&ExitCause::Code(42), &end), "{end:?}");
    let end = end_of(task.wait()).await;
    assert!(true_end(&ExitCause::Signal(9), &end), "{end:?}");
    assert_eq!(created.info().await.expect("known").exit, None, "it never ran");
    let told = exits(&client).await;
    for id in ["killed", "done", "unseen", "c"] {
        assert_eq!(told.iter().filter(|(told, _)| told == id).count(), 1, "{id} in {told:?}");
    }
    assert_eq!(told.last().map(|(id, _)| id.as_str()), Some("c"), "init's end is the last");
    for id in ["killed", "done", "created", "unseen"] {
        task.process(ExecId::new(id).expect("good")).delete().await.expect(id);
    }
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_only_the_kernel_saw_is_told_truly() {
    let (world, _daemon, client) = started().await;
    let (task, init) = run(&client, "c", "while [ ! -e /end ]; do sleep 0.01; done; exit 17").await;
    let shim = shim_of(init);
    send(Signal::SIGSTOP, shim);
    std::fs::write(format!("/proc/{init}/root/end"), "").expect("writes");
    wait_until("init to have ended", || identity(init).is_none());
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Running, "nobody has said so yet");
    send(Signal::SIGKILL, shim);
    let end = end_of(task.wait()).await;
    assert!(true_end(&ExitCause::Code(17), &end), "{end:?}");
    assert_eq!(exits(&client).await, [("c".to_owned(), end)]);
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_dies_while_it_starts_something_leaves_no_start_open() {
    let (world, _daemon, client) = started().await;
    // Init.
    let created = namespace(&client).containers().create(shell("init", "sleep 1000")).await.expect("creates");
    let init = namespace(&client).container(created.id).create_task(logged()).await.expect("creates");
    let shim = shim_of(init.info().await.expect("known").pid);
    // The daemon is connected to it: else it would keep the start until it is.
    init.pids().await.expect("answers");
    send(Signal::SIGSTOP, shim);
    let start = tokio::spawn({
        let init = init.clone();
        async move { init.start().await }
    });
    eventually("the start to be under way", || async {
        client
            .operations()
            .await
            .expect("lists")
            .iter()
            .any(|open| format!("{open:?}").contains("StartProcess"))
    })
    .await;
    send(Signal::SIGKILL, shim);
    let refusal = start.await.expect("joins").expect_err("its shim died");
    assert_eq!(refusal.class, ErrorClass::Unavailable, "{refusal}");
    let end = end_of(init.wait()).await;
    assert!(true_end(&ExitCause::Signal(9), &end), "{end:?}");
    // An exec.
    let (task, pid) = run(&client, "exec", "sleep 1000").await;
    let exec = task.exec(exec("e", "sleep 1000")).await.expect("is registered");
    let shim = shim_of(pid);
    send(Signal::SIGSTOP, shim);
    let start = tokio::spawn({
        let exec = exec.clone();
        async move { exec.start().await }
    });
    eventually("the start to be under way", || async {
        client
            .operations()
            .await
            .expect("lists")
            .iter()
            .any(|open| format!("{open:?}").contains("StartProcess"))
    })
    .await;
    send(Signal::SIGKILL, shim);
    start.await.expect("joins").expect_err("its shim died");
    end_of(task.wait()).await;
    let refusal = exec.wait().await.expect_err("nobody saw it run, and nobody will");
    assert_eq!(refusal.class, ErrorClass::FailedPrecondition, "{refusal}");
    assert!(client.operations().await.expect("lists").is_empty());
    for task in [init, task] {
        task.delete().await.expect("deletes");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_and_shim_die_together() {
    let (world, daemon, client) = started().await;
    let (alive, alive_init) = run(&client, "alive", "sleep 1000").await;
    let (_, orphan) = run(&client, "orphan", "sleep 1000").await;
    let (_, gone) = run(&client, "gone", "sleep 1000").await;
    let before = identity(alive_init).expect("lives");
    let shims = [shim_of(orphan), shim_of(gone)];
    daemon.kill();
    shims.into_iter().for_each(|shim| send(Signal::SIGKILL, shim));
    send(Signal::SIGKILL, pid(gone));
    wait_until("init to be gone", || identity(gone).is_none());
    let _daemon = world.start();
    world.recovered(&client).await;
    let end = end_of(task_of(&client, "orphan").wait()).await;
    assert!(true_end(&ExitCause::Signal(9), &end), "the daemon kills what nobody holds: {end:?}");
    let end = end_of(task_of(&client, "gone").wait()).await;
    // Known only if whoever became its parent has not reaped it yet; nobody invents it.
    assert!(matches!(end, ExitCause::Signal(9) | ExitCause::Unknown(_)), "{end:?}");
    assert!(identity(orphan).is_none());
    assert_eq!(identity(alive_init), Some(before), "others are not touched");
    let told = exits(&client).await;
    assert!(told.len() == 2 && told[0].0 != told[1].0, "{told:?}");
    alive.kill(9, true).await.expect("kills");
    assert_eq!(end_of(alive.wait()).await, ExitCause::Signal(9));
    for name in ["alive", "orphan", "gone"] {
        task_of(&client, name).delete().await.expect(name);
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_killed_from_outside_and_an_end_while_nobody_was_there() {
    let (world, daemon, client) = started().await;
    let (outside, init) = run(&client, "outside", "sleep 1000").await;
    send(Signal::SIGKILL, pid(init));
    assert_eq!(end_of(outside.wait()).await, ExitCause::Signal(9));
    let (down, init) = run(&client, "down", "while [ ! -e /end ]; do sleep 0.01; done; exit 23").await;
    let shim = shim_of(init);
    daemon.kill();
    std::fs::write(format!("/proc/{init}/root/end"), "").expect("writes");
    wait_until("the end to be recorded", || {
        directories(&world).iter().any(|it| !it.exit_records().expect("reads").is_empty())
    });
    // Even the shim's own death does not lose what it wrote.
    send(Signal::SIGKILL, shim);
    let _daemon = world.start();
    assert_eq!(end_of(down.wait()).await, ExitCause::Code(23));
    let told = exits(&client).await;
    assert_eq!(
        told,
        [("outside".to_owned(), ExitCause::Signal(9)), ("down".to_owned(), ExitCause::Code(23))]
    );
    for task in [outside, down] {
        task.delete().await.expect("deletes");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_14_an_end_has_the_time_it_had_however_late_it_is_told() {
    let (world, daemon, client) = started().await;
    let (task, init) = run(&client, "late", "while [ ! -e /end ]; do sleep 0.01; done; exit 24").await;
    daemon.kill();
    let before = Timestamp::now();
    std::fs::write(format!("/proc/{init}/root/end"), "").expect("writes");
    wait_until("the end to be recorded", || {
        directories(&world).iter().any(|it| !it.exit_records().expect("reads").is_empty())
    });
    let after = Timestamp::now();
    let _daemon = world.start();
    let exit = task.wait().await.expect("is told");
    assert_eq!(exit.cause, ExitCause::Code(24));
    assert!(before <= exit.exited_at && exit.exited_at <= after, "{before:?} {exit:?} {after:?}");
    let told = events(&client).await.into_iter().find_map(|record| match record.event {
        Event::TaskExit { exit, .. } => Some(exit),
        _ => None,
    });
    assert_eq!(told, Some(exit), "the event says the same");
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_whose_answer_was_lost_is_known_after_the_restart() {
    let (world, daemon, client) = started().await;
    let (task, _) = run(&client, "c", "sleep 1000").await;
    daemon.kill();
    // As if the daemon had asked in its last moment: done, and nobody heard of it.
    let directory = directories(&world).pop().expect("one");
    let deadline = std::time::Duration::from_secs(10);
    let connected = bosun_runtime::shim::connect(directory.path(), directory.nonce(), deadline).await;
    let (shim, _notices) = connected.expect("connects");
    shim.request(Request::Pause, deadline).await.expect("pauses");
    drop(shim);
    let _daemon = world.start();
    world.recovered(&client).await;
    eventually("the truth", || async { task.info().await.expect("known").status == ProcessStatus::Paused })
        .await;
    task.resume().await.expect("goes on");
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Running);
    task.kill(9, true).await.expect("kills");
    end_of(task.wait()).await;
    task.delete().await.expect("deletes");
    world.check(&client).await;
}
