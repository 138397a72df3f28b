//! What happens to the host under a daemon's feet: the root is moved, pids are given to others, the clock is set, the machine is restarted.

use std::path::Path;
use std::process::{Child, Command, Stdio as ProcessStdio};

use bosun_client::{Client, RunRequest, Task};
use bosun_tests::client::{events, import, log_of, logged, namespace, shell};
use bosun_tests::invariants::{identity, shim_of};
use bosun_tests::world::{World, eventually, wait_until};
use bosun_types::event::{Event, EventDelivery, EventStart};
use bosun_types::stdio::{LogTarget, Stdio};
use bosun_types::task::{ExitCause, OnShimDeath, ProcessStatus, TaskRequest};
use bosun_types::{ContainerId, Timestamp};
use nix::sys::signal::Signal;

use crate::deaths::{directories, end_of, exec, exits, pid, send, started, task_of};

const TICKS: &str = "i=0; while [ ! -e /end ]; do i=$((i+1)); echo tick $i; sleep 0.01; done; exit 42";

async fn run(client: &Client, name: &str, command: &str, on_shim_death: OnShimDeath) -> (Task, u32) {
    let request =
        RunRequest { container: shell(name, command), task: TaskRequest { on_shim_death, ..logged() } };
    let init = namespace(client).run(request).await.expect("runs").pid();
    (task_of(client, name), init)
}

fn finish(init: u32) {
    std::fs::write(format!("/proc/{init}/root/end"), "").expect("writes");
}

async fn last_tick(client: &Client, name: &str) -> usize {
    let log = log_of(client, name).await;
    log.lines().rev().find_map(|line| line.strip_prefix("tick ")?.parse().ok()).unwrap_or(0)
}

async fn runs_on(client: &Client, name: &str) {
    let before = last_tick(client, name).await;
    eventually("more ticks", || async { last_tick(client, name).await > before + 3 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_root_is_the_same_root_and_its_containers_do_not_notice() {
    let (mut world, daemon, client) = started().await;
    let log = LogTarget { path: String::new(), bytes_max: 2000, files_max: 2 };
    let task = TaskRequest {
        stdio: Stdio { log: Some(log), ..Stdio::default() },
        on_shim_death: OnShimDeath::Adopt,
        ..logged()
    };
    let request = RunRequest { container: shell("c", TICKS), task };
    let init = namespace(&client).run(request).await.expect("runs").pid();
    let task = task_of(&client, "c");
    runs_on(&client, "c").await;
    let before = identity(init).expect("lives");
    daemon.kill();
    let old = world.places().root.clone();
    world.move_root("elsewhere");
    let _daemon = world.start();
    world.recovered(&client).await;
    eventually("its state", || async { task.info().await.expect("known").status == ProcessStatus::Running })
        .await;
    assert_eq!(identity(init), Some(before));
    // Past the next rotation of its log.
    let tick = last_tick(&client, "c").await;
    eventually("many ticks", || async { last_tick(&client, "c").await > tick + 100 }).await;
    let path = task.info().await.expect("known").stdio.log.expect("has one").path;
    assert!(Path::new(&path).starts_with(&world.places().root) && Path::new(&path).exists(), "{path}");
    // A new shim finds the log there too; execs, new containers of the image: all as before.
    send(Signal::SIGKILL, shim_of(init));
    eventually("a new shim", || async { task.pids().await.is_ok() }).await;
    runs_on(&client, "c").await;
    assert_eq!(identity(init), Some(before));
    let done = task.run_exec(exec("e", "exit 3")).await.expect("runs");
    assert_eq!(end_of(done.wait()).await, ExitCause::Code(3));
    let (other, _) = run(&client, "other", "exit 5", OnShimDeath::Kill).await;
    assert_eq!(end_of(other.wait()).await, ExitCause::Code(5));
    finish(init);
    end_of(task.wait()).await;
    for name in ["c", "other"] {
        task_of(&client, name).delete().await.expect(name);
    }
    assert!(!old.exists(), "nobody made the old place again");
    world.check(&client).await;
}

/// A process of ours that has this pid. The kernel gives pids in turn; others take them too, so it may need more than one try.
fn somebody_with_pid(wanted: u32) -> Child {
    let mut somebody = None;
    wait_until("the pid to be ours", || {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string()).expect("sets the next pid");
        let mut child =
            Command::new("sleep").arg("1000").stdout(ProcessStdio::null()).spawn().expect("starts");
        if child.id() == wanted {
            somebody = Some(child);
            return true;
        }
        child.kill().expect("is ours");
        child.wait().expect("is ours");
        false
    });
    somebody.expect("just seen")
}

#[tokio::test(flavor = "multi_thread")]
async fn f_31_a_pid_that_was_given_to_another_is_neither_killed_nor_adopted() {
    let (world, daemon, client) = started().await;
    let (_, killed) = run(&client, "killed", "sleep 1000", OnShimDeath::Kill).await;
    let (_, adopted) = run(&client, "adopted", "sleep 1000", OnShimDeath::Adopt).await;
    let shims = [killed, adopted].map(shim_of);
    daemon.kill();
    let gone = |pid: u32| !Path::new(&format!("/proc/{pid}")).exists();
    for shim in shims {
        send(Signal::SIGKILL, shim);
    }
    [killed, adopted].into_iter().for_each(|init| send(Signal::SIGKILL, pid(init)));
    let shim = u32::try_from(shims[0].as_raw()).expect("a pid");
    wait_until("all to be gone", || [killed, adopted, shim].into_iter().all(gone));
    let mut others = [killed, adopted, shim].map(somebody_with_pid);
    let before = [killed, adopted, shim].map(|pid| identity(pid).expect("lives"));
    let _daemon = world.start();
    world.recovered(&client).await;
    for name in ["killed", "adopted"] {
        let end = end_of(task_of(&client, name).wait()).await;
        assert!(matches!(end, ExitCause::Unknown(_) | ExitCause::Signal(9)), "{name}: {end:?}");
    }
    let told = exits(&client).await;
    assert!(told.len() == 2 && told[0].0 != told[1].0, "{told:?}");
    for name in ["killed", "adopted"] {
        task_of(&client, name).delete().await.expect(name);
    }
    assert_eq!([killed, adopted, shim].map(|pid| identity(pid).expect("lives")), before);
    world.check(&client).await;
    for other in &mut others {
        other.kill().expect("is ours");
        other.wait().expect("is ours");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_makes_no_end_before_its_beginning_and_no_disorder() {
    let world = World::new();
    let clock = world.path("clock");
    let set = |seconds: i64| std::fs::write(&clock, seconds.to_string()).expect("writes");
    let clock_path = clock.to_string_lossy().into_owned();
    set(3600);
    let daemon = world.start_with(&[("BOSUN_FAULTS_CLOCK", &clock_path)]);
    let client = world.client().await;
    import(&client).await;
    let (first, init) = run(&client, "first", TICKS, OnShimDeath::Kill).await;
    let (over, over_init) = run(&client, "over", TICKS, OnShimDeath::Kill).await;
    let begun = first.info().await.expect("known").started_at.expect("started");
    assert!(begun > Timestamp(Timestamp::now().0 + 3_000_000_000_000), "the daemon's clock is set: {begun}");
    set(-3600);
    finish(init);
    let exit = first.wait().await.expect("ends");
    assert_eq!(exit.cause, ExitCause::Code(42));
    assert!(exit.exited_at >= begun, "{exit:?} of {begun}");
    // A task that is made now is known at once, although this daemon started "later".
    let (second, init) = run(&client, "second", TICKS, OnShimDeath::Kill).await;
    assert_eq!(second.info().await.expect("known").status, ProcessStatus::Running);
    // And one that seems to be of the future is not believed before its shim was heard.
    daemon.kill();
    set(-7200);
    let _daemon = world.start_with(&[("BOSUN_FAULTS_CLOCK", &clock_path)]);
    world.recovered(&client).await;
    eventually("its state", || async { over.info().await.expect("known").status == ProcessStatus::Running })
        .await;
    finish(over_init);
    assert_eq!(end_of(over.wait()).await, ExitCause::Code(42));
    finish(init);
    assert_eq!(end_of(second.wait()).await, ExitCause::Code(42));
    let told = events(&client).await;
    assert!(told.is_sorted_by_key(|event| event.at), "times grow with numbers");
    for name in ["first", "over", "second"] {
        let position = |wanted: fn(&Event) -> bool| {
            let of_task =
                |event: &Event| format!("{event:?}").contains(&format!("{name:?}")) && wanted(event);
            let mut found = told.iter().filter(|record| of_task(&record.event));
            let position = found.next().expect("told").sequence;
            assert!(found.next().is_none(), "{name}: told once");
            position
        };
        let start = position(|event| matches!(event, Event::TaskStart { .. }));
        assert!(start < position(|event| matches!(event, Event::TaskExit { .. })), "{name}");
    }
    // A time finds its place.
    let wanted = told.iter().find(|record| record.at >= begun).expect("later ones").sequence;
    let filter = bosun_client::EventFilter::default();
    let mut stream = client.events().subscribe(filter, EventStart::Time(begun)).await.expect("subscribes");
    match stream.next().await {
        Some(Ok(EventDelivery::Event(record))) => assert_eq!(record.sequence, wanted),
        other => panic!("{other:?}"),
    }
    for name in ["first", "over", "second"] {
        task_of(&client, name).delete().await.expect(name);
    }
    world.check(&client).await;
}

/// Out of the container's groups, which a reboot takes as well.
fn leave_cgroups(process: u32, world: &World) {
    let parent = world.places().cgroup_parent.trim_start_matches('/').to_owned();
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).expect("lists").flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_path_buf()]) {
        if hierarchy.join(&parent).exists() {
            std::fs::write(hierarchy.join("cgroup.procs"), process.to_string()).expect("moves");
            for group in ["default/lives", "default/other", "default", ""] {
                let _ = std::fs::remove_dir(hierarchy.join(&parent).join(group));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_30_after_a_reboot_what_ran_has_ended_unknown_once_and_everything_kept_is_there() {
    let (world, daemon, client) = started().await;
    let (_, stand_in) = run(&client, "lives", "sleep 1000", OnShimDeath::Adopt).await;
    let (_, other) = run(&client, "other", "echo said; sleep 1000", OnShimDeath::Kill).await;
    let (ended, _) = run(&client, "ended", "exit 7", OnShimDeath::Kill).await;
    assert_eq!(end_of(ended.wait()).await, ExitCause::Code(7));
    eventually("its word", || async { log_of(&client, "other").await.contains("said") }).await;
    daemon.kill();
    for directory in directories(&world) {
        let shim = directory.beacon().expect("reads").expect("written").shim;
        send(Signal::SIGKILL, pid(shim.pid));
    }
    send(Signal::SIGKILL, pid(other));
    wait_until("it to be gone", || identity(other).is_none());
    // The worst case: on the new boot somebody has the same pid and the same start time.
    leave_cgroups(stand_in, &world);
    let before = identity(stand_in).expect("lives");
    std::fs::remove_dir_all(&world.places().state).expect("removes");
    let _daemon = world.start_on_boot("ffffffff-0000-4000-8000-000000000001");
    world.recovered(&client).await;
    for name in ["lives", "other"] {
        let end = end_of(task_of(&client, name).wait()).await;
        assert!(matches!(&end, ExitCause::Unknown(why) if why.contains("restarted")), "{name}: {end:?}");
    }
    assert_eq!(end_of(ended.wait()).await, ExitCause::Code(7), "that was told before");
    let mut told: Vec<String> = exits(&client).await.into_iter().map(|(id, _)| id).collect();
    told.sort();
    assert_eq!(told, ["ended", "lives", "other"]);
    assert!(log_of(&client, "other").await.contains("said"));
    for name in ["lives", "other", "ended"] {
        task_of(&client, name).delete().await.expect(name);
    }
    assert_eq!(identity(stand_in), Some(before), "it is nothing of ours");
    send(Signal::SIGKILL, pid(stand_in));
    // Containers are kept, and start again.
    let container = namespace(&client).container(ContainerId::new("ended").expect("good"));
    let again = container.create_task(logged()).await.expect("creates");
    again.start().await.expect("starts");
    assert_eq!(end_of(again.wait()).await, ExitCause::Code(7));
    again.delete().await.expect("deletes");
    world.check(&client).await;
}
