//! The end of a task whose shim is gone.

use bosun_runtime::clean_up::{Known, clean_up};
use bosun_runtime::process;
use bosun_runtime::reaper::Reaper;
use bosun_types::shim::{ExitNotice, Request};
use bosun_types::task::{ExitCause, ExitStatus};
use nix::sys::signal::Signal;

use crate::world::{Task, World, exit_of, until};

async fn kill_shim(task: &Task) {
    assert!(process::kill(&task.shim, Signal::SIGKILL).unwrap());
    Reaper::get().unwrap().wait(&task.shim).await;
}

fn init_of(ends: Vec<ExitNotice>) -> ExitStatus {
    ends.into_iter().find(|end| end.exec.is_none()).expect("it ended").status
}

/// Twice: the second time there is nothing to do, and the answer is the same.
async fn clean_up_twice(world: &World, task: &Task, known: &Known) -> ExitCause {
    let first = init_of(clean_up(&task.directory, known).await.unwrap());
    assert!(!process::alive(&task.init) && !process::alive(&task.shim));
    let records = task.directory.exit_records().unwrap();
    assert_eq!((records.len(), &records[0].status), (1, &first), "kept until the daemon's commit");
    assert_eq!(init_of(clean_up(&task.directory, known).await.unwrap()), first, "I4");
    task.directory.ensure_not().unwrap();
    world.assert_nothing_left();
    first.cause
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_a_container_whose_shim_was_killed_is_ended_and_nothing_stays() {
    for runtime in ["bosun", "runc"] {
        let world = World::new();
        let task = world.run("sleep 1000 & exec sleep 1000", "", runtime).await;
        kill_shim(&task).await;
        let known = world.known(&task, runtime);
        assert_eq!(clean_up_twice(&world, &task, &known).await, ExitCause::Signal(9), "{runtime}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_the_true_exit_code_survives_the_death_of_the_shim() {
    let world = World::new();
    // Init waits for the file that the test makes once the shim is dead.
    let task = world.run("while ! [ -e /tmp/go ]; do :; done; exit 42", "", "bosun").await;
    kill_shim(&task).await;
    std::fs::write(format!("/proc/{}/root/tmp/go", task.init.pid), "").unwrap();
    until("init ends by itself", || !process::alive(&task.init));
    assert_eq!(clean_up_twice(&world, &task, &world.known(&task, "bosun")).await, ExitCause::Code(42));
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_an_exit_that_the_shim_recorded_is_the_one_that_counts() {
    let world = World::new();
    let mut task = world.run("exit 5", "", "bosun").await;
    exit_of(&mut task.notices).await;
    kill_shim(&task).await;
    assert_eq!(clean_up_twice(&world, &task, &world.known(&task, "bosun")).await, ExitCause::Code(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_a_shim_that_hangs_is_ended_with_its_container() {
    let world = World::new();
    let task = world.run("exec sleep 1000", "", "bosun").await;
    assert!(process::kill(&task.shim, Signal::SIGSTOP).unwrap());
    assert_eq!(clean_up_twice(&world, &task, &world.known(&task, "bosun")).await, ExitCause::Signal(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_frozen_container_is_ended_too() {
    let world = World::new();
    // At once after its start: it may not even have become the program yet.
    let task = world.run("exec sleep 1000", "", "bosun").await;
    task.connection.request(Request::Pause, crate::world::PATIENCE).await.unwrap();
    kill_shim(&task).await;
    assert_eq!(clean_up_twice(&world, &task, &world.known(&task, "bosun")).await, ExitCause::Signal(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_record_does_not_know_is_found() {
    let world = World::new();
    let task = world.run("exec sleep 1000", "", "bosun").await;
    // No record at all, as after a crash before the first commit: the beacon tells.
    assert_eq!(clean_up_twice(&world, &task, &Known::default()).await, ExitCause::Signal(9));

    let directory = world.directory(&world.spec("true", ""));
    let shim = world.shim(&directory).await;
    // Not even a beacon: the command line tells.
    std::fs::remove_file(directory.path().join(bosun_types::shim::file::BEACON)).unwrap();
    assert_eq!(clean_up(&directory, &Known::default()).await.unwrap(), []);
    assert!(!process::alive(&shim));
    directory.ensure_not().unwrap();
    assert_eq!(clean_up(&directory, &Known::default()).await.unwrap(), [], "nothing at all is fine as well");
    world.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_end_is_reaped_and_told() {
    let world = World::new();
    let reaper = Reaper::get().unwrap();
    // 64: a real-time signal, which has no name.
    for (script, cause) in [
        ("exit 255", ExitCause::Code(255)),
        ("kill -TERM $$", ExitCause::Signal(15)),
        ("kill -64 $$", ExitCause::Signal(64)),
        ("sh -c 'kill -64 $$' & exec true", ExitCause::Code(0)),
    ] {
        let mut command = std::process::Command::new("sh");
        let child = reaper.spawn(command.args(["-c", script])).unwrap();
        assert_eq!(reaper.wait(&child).await.cause, cause, "{script}");
        assert_eq!(reaper.status(&child).unwrap().cause, cause);
    }
    until("no zombie is left", || zombies().is_empty());
    drop(world);
}

/// Children of this process that have ended and were not reaped.
fn zombies() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let children =
        threads.flatten().map(|it| std::fs::read_to_string(it.path().join("children")).unwrap_or_default());
    let pids: Vec<String> =
        children.flat_map(|it| it.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
    let is_zombie = |pid: &String| {
        std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| text.contains("State:\tZ"))
    };
    pids.into_iter().filter(|pid| !pid.is_empty()).filter(is_zombie).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_killed_by_a_real_time_signal_is_reported() {
    let world = World::new();
    let mut task = world.run("exec sleep 1000", "", "bosun").await;
    let words = ["/bin/sleep", "1000"].map(str::to_owned).to_vec();
    let process =
        bosun_types::task::ExecProcess::Inherit { args: words, env: Vec::new(), cwd: None, user: None };
    let process = bosun_runtime::spec::exec_process(&world.spec("true", ""), &process, false, None).unwrap();
    let id = bosun_types::ExecId::new("e1").unwrap();
    let ask = async |request| task.connection.request(request, crate::world::PATIENCE).await.unwrap();
    ask(Request::AddExec { id: id.clone(), process, stdio: Default::default() }).await;
    ask(Request::Start { exec: Some(id.clone()) }).await;
    ask(Request::Kill { target: bosun_types::task::KillTarget::Exec(id.clone()), signal: 64, call: None })
        .await;
    let exit = exit_of(&mut task.notices).await;
    assert_eq!((exit.exec, exit.status.cause), (Some(id), ExitCause::Signal(64)));
    assert_eq!(clean_up_twice_of(&world, &task).await, ExitCause::Signal(9));
}

async fn clean_up_twice_of(world: &World, task: &Task) -> ExitCause {
    let known = world.known(task, "bosun");
    let status = init_of(clean_up(&task.directory, &known).await.unwrap());
    task.directory.ensure_not().unwrap();
    world.assert_nothing_left();
    status.cause
}
