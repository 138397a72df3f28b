//! The daemon goes and comes back; containers do not notice (I3, I4).

use bosun_tests::client::{events, import, log_of, logged, namespace, shell};
use bosun_tests::invariants::{identity, shim_of};
use bosun_tests::world::{World, eventually, wait_until};
use bosun_types::event::Event;
use bosun_types::task::{ExitCause, ProcessStatus, TaskRequest};
use bosun_types::{ContainerId, ErrorClass};

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).expect("good")
}

const TICKS: &str = "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.02; done";
const MORTAL: &str = "while [ ! -e /tmp/end ]; do sleep 0.02; done; exit 42";

#[tokio::test(flavor = "multi_thread")]
async fn shm_1_kill_9_containers_keep_pid_output_and_exit_code() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let run = |container| bosun_client::RunRequest { container, task: logged() };
    let ticks = namespace(&client).run(run(shell("ticks", TICKS))).await.expect("runs").pid();
    let mortal = namespace(&client).run(run(shell("mortal", MORTAL))).await.expect("runs").pid();
    let before = identity(ticks).expect("lives");
    drop(client);
    daemon.kill();

    std::fs::write(format!("/proc/{mortal}/root/tmp/end"), "").expect("writes");
    wait_until("the mortal one to end", || identity(mortal).is_none());
    let log = world.places().root.join("logs/default/ticks/log");
    let size = std::fs::metadata(&log).expect("is there").len();
    wait_until("output without a daemon", || std::fs::metadata(&log).expect("is there").len() > size);

    let _daemon = world.start();
    let client = world.client().await;
    world.recovered(&client).await;
    let exit = namespace(&client).container(id("mortal")).task().wait().await.expect("known");
    assert_eq!(exit.cause, ExitCause::Code(42));
    let task = namespace(&client).container(id("ticks")).task();
    eventually("the shim to be found", || async {
        task.info().await.is_ok_and(|info| info.status == ProcessStatus::Running)
    })
    .await;
    assert_eq!(task.info().await.expect("known").pid, ticks);
    assert_eq!(identity(ticks), Some(before));
    let text = log_of(&client, "ticks").await;
    assert!(
        text.lines().enumerate().all(|(number, line)| line == format!("tick {number}")),
        "lines are missing:\n{text}"
    );
    let exits =
        events(&client).await.iter().filter(|event| matches!(event.event, Event::TaskExit { .. })).count();
    assert_eq!(exits, 1, "exactly one exit event");
    world.check(&client).await;

    task.kill(9, true).await.expect("kills");
    assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Signal(9));
    for name in ["ticks", "mortal"] {
        let container = namespace(&client).container(id(name));
        container.task().delete().await.expect("deletes");
        container.delete(true).await.expect("deletes");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shm_8_a_client_that_waits_through_a_restart_gets_its_answer() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let run = bosun_client::RunRequest { container: shell("long", MORTAL), task: TaskRequest::default() };
    let running = namespace(&client).run(run).await.expect("runs");
    let pid = running.pid();
    let wait = tokio::spawn(async move { running.wait().await });
    daemon.kill();
    let _daemon = world.start();
    std::fs::write(format!("/proc/{pid}/root/tmp/end"), "").expect("writes");
    assert_eq!(wait.await.expect("joins").expect("ends").cause, ExitCause::Code(42));
}

#[tokio::test(flavor = "multi_thread")]
async fn f_4_a_killed_shim_takes_its_container_with_it_and_says_so_once() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let run =
        bosun_client::RunRequest { container: shell("doomed", "sleep 1000"), task: TaskRequest::default() };
    let running = namespace(&client).run(run).await.expect("runs");
    let init = running.pid();
    let shim = shim_of(init);
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).expect("kills");
    let exit = running.wait().await.expect("ends");
    assert!(matches!(exit.cause, ExitCause::Signal(9) | ExitCause::Unknown(_)), "{exit:?}");
    wait_until("init to be gone", || identity(init).is_none());
    let exits =
        events(&client).await.iter().filter(|event| matches!(event.event, Event::TaskExit { .. })).count();
    assert_eq!(exits, 1);
    namespace(&client).container(id("doomed")).task().delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_18_tsk_24_a_stopped_shim_delays_only_itself() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let run = |container| bosun_client::RunRequest { container, task: TaskRequest::default() };
    let stuck = namespace(&client).run(run(shell("stuck", "sleep 1000"))).await.expect("runs").pid();
    let shim = shim_of(stuck);
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGSTOP).expect("stops");
    let tasks = namespace(&client).tasks().await.expect("lists");
    assert!(tasks.iter().any(|task| task.container.as_str() == "stuck"));
    let exit = namespace(&client)
        .run(run(shell("other", "exit 6")))
        .await
        .expect("runs")
        .wait()
        .await
        .expect("ends");
    assert_eq!(exit.cause, ExitCause::Code(6));
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGCONT).expect("goes on");
    let task = namespace(&client).container(id("stuck")).task();
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn f_33_a_second_daemon_on_the_same_root_ends_and_names_the_first() {
    let world = World::new();
    let first = world.start();
    let second = world.spawn(&[]);
    assert!(!second.ended().success());
    assert!(world.log().contains(&format!("pid {}", first.pid())), "{}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn f_35_sigterm_ends_the_daemon_in_order_and_leaves_containers() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let run =
        bosun_client::RunRequest { container: shell("stays", "sleep 1000"), task: TaskRequest::default() };
    let pid = namespace(&client).run(run).await.expect("runs").pid();
    drop(client);
    assert!(daemon.stop().success(), "{}", world.log());
    assert!(identity(pid).is_some());
    let _daemon = world.start();
    let client = world.client().await;
    let task = namespace(&client).container(id("stays")).task();
    eventually("the shim to be found", || async {
        task.info().await.is_ok_and(|info| info.status == ProcessStatus::Running)
    })
    .await;
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("ends");
}

/// F30: the state directory is gone, as after a reboot; the container is gone with it.
#[tokio::test(flavor = "multi_thread")]
async fn f_30_a_lost_state_directory_gives_the_true_end_or_a_typed_unknown_one() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let run =
        bosun_client::RunRequest { container: shell("lost", "sleep 1000"), task: TaskRequest::default() };
    let pid = namespace(&client).run(run).await.expect("runs").pid();
    drop(client);
    daemon.kill();
    let shim = shim_of(pid);
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).expect("kills");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid")),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("kills");
    wait_until("init to be gone", || identity(pid).is_none());
    std::fs::remove_dir_all(&world.places().state).expect("removes");
    let _daemon = world.start();
    let client = world.client().await;
    let container = namespace(&client).container(id("lost"));
    let exit = container.task().wait().await.expect("known");
    // The kernel may still tell how it ended; if not, it is a typed unknown.
    assert!(matches!(exit.cause, ExitCause::Signal(9) | ExitCause::Unknown(_)), "{exit:?}");
    container.task().delete().await.expect("deletes");
    assert_eq!(container.task().info().await.expect_err("gone").class, ErrorClass::NotFound);
}
