//! Rows of the feature table that no other test names: states, creation, refusals, process set-up of the shim (TSK-*, IO-*, SHM-*).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bosun_client::{Client, RunRequest, Task};
use bosun_tests::client::{events, import, log_of, logged, namespace, shell};
use bosun_tests::invariants::{identity, shim_of};
use bosun_tests::world::{World, eventually, wait_until};
use bosun_types::event::Event;
use bosun_types::spec::{ContainerRequest, SpecRequest};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExitCause, TaskRequest};
use bosun_types::{ContainerId, ErrorClass, ExecId};

use crate::deaths::{directories, end_of, exec, started, task_of};

async fn run(client: &Client, container: ContainerRequest, task: TaskRequest) -> (Task, u32) {
    let name = container.id.to_string();
    let init = namespace(client).run(RunRequest { container, task }).await.expect("runs").pid();
    (task_of(client, &name), init)
}

async fn state(task: &Task) -> String {
    task.info().await.expect("known").status.to_string()
}

/// Kills, waits, deletes.
async fn end(task: &Task) {
    task.kill(9, true).await.expect("kills");
    end_of(task.wait()).await;
    task.delete().await.expect("deletes");
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_2_tsk_5_tsk_11_tsk_16_a_task_is_made_held_started_once_and_deleted_when_it_may_be() {
    let (world, _daemon, client) = started().await;
    let nobody = namespace(&client).container(ContainerId::new("nobody").expect("good"));
    assert_eq!(nobody.create_task(logged()).await.err().expect("no container").class, ErrorClass::NotFound);
    let mut strange = shell("strange", "true");
    strange.runtime.name = "/no/such/runtime".to_owned();
    namespace(&client).containers().create(strange).await.expect("creates");
    let strange = namespace(&client).container(ContainerId::new("strange").expect("good"));
    let refusal = strange.create_task(logged()).await.err().expect("no such runtime");
    assert!(refusal.message.contains("/no/such/runtime"), "{refusal}");
    namespace(&client).containers().create(shell("c", "echo ran; sleep 1000")).await.expect("creates");
    let container = namespace(&client).container(ContainerId::new("c").expect("good"));
    let task = container.create_task(logged()).await.expect("creates");
    let init = task.info().await.expect("known").pid;
    assert!(identity(init).is_some(), "held before exec");
    assert_eq!((state(&task).await.as_str(), log_of(&client, "c").await.as_str()), ("created", ""));
    assert_eq!(task.start().await.expect("starts"), init);
    eventually("it to run", || async { log_of(&client, "c").await == "ran\n" }).await;
    assert_eq!(state(&task).await, "running");
    let again = task.start().await.expect_err("runs already");
    assert_eq!(again.class, ErrorClass::FailedPrecondition, "{again}");
    task.pause().await.expect("pauses");
    assert_eq!(state(&task).await, "paused");
    for refusal in [task.delete().await.expect_err("is paused"), task.start().await.expect_err("is paused")] {
        assert_eq!(refusal.class, ErrorClass::FailedPrecondition);
        assert!(refusal.message.contains("paused"), "TSK-3: it says the state: {refusal}");
    }
    task.resume().await.expect("goes on");
    task.kill(9, false).await.expect("kills");
    let exit = task.wait().await.expect("ends");
    assert_eq!(state(&task).await, "stopped");
    assert_eq!(task.delete().await.expect("deletes"), Some(exit.clone()));
    let told: Vec<Event> = events(&client).await.into_iter().map(|record| record.event).collect();
    let id = ContainerId::new("c").expect("good");
    assert!(told.contains(&Event::TaskStart { container_id: id.clone(), pid: init }));
    assert!(told.contains(&Event::TaskDelete { container_id: id, pid: init, exit: Some(exit) }));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_8_the_root_is_changed_without_pivot_root_where_asked() {
    let (world, _daemon, client) = started().await;
    let task = TaskRequest { no_pivot_root: true, ..logged() };
    let (task, _) =
        run(&client, shell("c", "test -x /bin/sh && ! test -e /proc/1/root/usr/bin/env && exit 6"), task)
            .await;
    assert_eq!(end_of(task.wait()).await, ExitCause::Code(6));
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_17_tsk_23_an_exec_shows_its_state_and_goes_only_when_it_may() {
    let (world, _daemon, client) = started().await;
    let (task, _) = run(&client, shell("c", "sleep 1000"), logged()).await;
    let unknown = task.process(ExecId::new("nobody").expect("good"));
    assert_eq!(unknown.delete().await.expect_err("unknown").class, ErrorClass::NotFound);
    let process = task.exec(exec("e", "sleep 1000")).await.expect("registers");
    let state = || async { process.info().await.expect("known").status.to_string() };
    assert_eq!(state().await, "created");
    process.start().await.expect("starts");
    assert_eq!(state().await, "running");
    assert_eq!(process.delete().await.expect_err("runs").class, ErrorClass::FailedPrecondition);
    task.pause().await.expect("pauses");
    assert_eq!(state().await, "paused", "with its container");
    assert_eq!(process.delete().await.expect_err("is paused").class, ErrorClass::FailedPrecondition);
    task.resume().await.expect("goes on");
    process.kill(15, false).await.expect("kills");
    assert_eq!(end_of(process.wait()).await, ExitCause::Signal(15));
    assert_eq!(state().await, "stopped");
    process.delete().await.expect("goes");
    end(&task).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_18_rm_with_force_kills_waits_and_removes_also_what_has_ended() {
    let (world, _daemon, client) = started().await;
    let (_, init) = run(&client, shell("runs", "trap '' TERM; while :; do sleep 1; done"), logged()).await;
    let (ended, _) = run(&client, shell("ended", "exit 3"), logged()).await;
    end_of(ended.wait()).await;
    let output = world.bosun(&["rm", "--force", "runs", "ended"]).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(identity(init).is_none());
    assert!(namespace(&client).containers().list().await.expect("lists").is_empty());
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn io_5_streams_that_go_nowhere_give_nothing_and_take_everything() {
    let (world, _daemon, client) = started().await;
    let writes = "echo out && echo err >&2 || exit 9; if read line; then exit 8; fi; exit 7";
    let (writer, _) = run(&client, shell("writer", writes), TaskRequest::default()).await;
    assert_eq!(end_of(writer.wait()).await, ExitCause::Code(7), "9: cannot write; 8: reads something");
    let (task, init) = run(&client, shell("c", "sleep 1000"), TaskRequest::default()).await;
    // Devices, and nothing that could fill: the shim says why output has another one (`stdio/null.rs`).
    for (number, device) in ["null", "zero", "zero"].iter().enumerate() {
        let target = std::fs::read_link(format!("/proc/{init}/fd/{number}")).expect("is open");
        assert_eq!(target, Path::new("/dev").join(device));
    }
    writer.delete().await.expect("deletes");
    end(&task).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn io_4_output_goes_to_files_that_exist_and_one_file_takes_both() {
    let (world, _daemon, client) = started().await;
    let file = world.path("both");
    let path = file.to_string_lossy().into_owned();
    let stdio = Stdio { stdout: Some(path.clone()), stderr: Some(path), ..Stdio::default() };
    let task = || TaskRequest { stdio: stdio.clone(), ..TaskRequest::default() };
    let missing =
        namespace(&client).run(RunRequest { container: shell("missing", "true"), task: task() }).await;
    let refusal = missing.err().expect("it is not made for the caller");
    assert_eq!(refusal.class, ErrorClass::NotFound, "{refusal}");
    std::fs::write(&file, "before\n").expect("writes");
    let command = "echo out; echo err >&2; echo out again";
    let (task, _) = run(&client, shell("c", command), task()).await;
    assert_eq!(end_of(task.wait()).await, ExitCause::Code(0));
    let text = std::fs::read_to_string(&file).expect("reads");
    let (errors, output): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| *line == "err");
    assert_eq!((errors.len(), output.as_slice()), (1, &["before", "out", "out again"][..]), "{text:?}");
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn io_10_an_exec_whose_fifos_nobody_opens_starts_at_once_and_ends() {
    let (world, _daemon, client) = started().await;
    let (task, _) = run(&client, shell("c", "sleep 1000"), logged()).await;
    let fifo = |name: &str| {
        let path = world.path(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("makes");
        Some(path.to_string_lossy().into_owned())
    };
    let mut request = exec("e", "echo hello; exit 5");
    request.stdio = Stdio { stdin: fifo("in"), stdout: fifo("out"), stderr: fifo("err"), ..Stdio::default() };
    let process = task.exec(request).await.expect("registers");
    process.start().await.expect("waits for nobody");
    assert_eq!(end_of(process.wait()).await, ExitCause::Code(5));
    end(&task).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn io_11_pipes_belong_to_the_user_of_the_process() {
    let (world, _daemon, client) = started().await;
    let mut request = shell("c", "echo first > /dev/stdout; sleep 1000");
    match &mut request.spec {
        SpecRequest::Build(options) => options.user = Some("web".to_owned()),
        SpecRequest::Json(_) | SpecRequest::Checkpoint => unreachable!("shell builds"),
    }
    let (task, init) = run(&client, request, logged()).await;
    eventually("its word", || async { log_of(&client, "c").await == "first\n" }).await;
    let pipe = std::fs::metadata(format!("/proc/{init}/fd/1")).expect("is open");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&pipe), 1000);
    end(&task).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shm_3_shm_5_shm_11_shm_14_the_shims_directory_socket_session_and_end() {
    let (world, _daemon, client) = started().await;
    let (task, init) = run(&client, shell("c", "sleep 1000"), logged()).await;
    let directory = directories(&world).pop().expect("one");
    let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o7777;
    assert_eq!(mode(directory.path()), 0o700);
    for name in ["config.json", "owner", "shim.rec", "shim.sock"] {
        assert!(directory.path().join(name).exists(), "{name}");
    }
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("reads");
    let ours = |line: &&str| line.contains(directory.nonce()) || line.contains("bosun");
    assert!(!sockets.lines().filter(ours).any(|line| line.contains('@')), "no abstract socket: {sockets}");
    let shim = u32::try_from(shim_of(init).as_raw()).expect("a pid");
    let score = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("reads");
    let own = score(std::process::id());
    // A host that does not let root do it lets nobody.
    if std::fs::write("/proc/self/oom_score_adj", "-999").is_ok() {
        std::fs::write("/proc/self/oom_score_adj", own.trim()).expect("sets it back");
        assert_eq!(score(shim).trim(), "-999", "the last to go");
    }
    assert_ne!(score(init).trim(), "-999", "its container is not");
    let session = nix::unistd::getsid(Some(shim_of(init))).expect("has one");
    assert_eq!(session, shim_of(init), "it leads its own");
    let threads = std::fs::read_dir(format!("/proc/{shim}/task")).expect("lists").count();
    assert_eq!(threads, 1);
    end(&task).await;
    wait_until("the shim to be gone", || identity(shim).is_none());
    assert!(!directory.path().exists());
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shm_10_after_a_restart_memory_and_metrics_are_watched_as_before() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let hog = "while [ ! -e /go ]; do sleep 0.01; done; x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    let mut request = shell("hog", hog);
    match &mut request.spec {
        SpecRequest::Build(options) => options.memory_bytes_max = Some(16 << 20),
        SpecRequest::Json(_) | SpecRequest::Checkpoint => unreachable!("shell builds"),
    }
    let (task, init) = run(&client, request, logged()).await;
    daemon.kill();
    let _daemon = world.start();
    world.recovered(&client).await;
    eventually("its metrics", || async {
        task.metrics().await.is_ok_and(|metrics| metrics.usage.memory.limit == 16 << 20)
    })
    .await;
    std::fs::write(format!("/proc/{init}/root/go"), "").expect("writes");
    assert_eq!(end_of(task.wait()).await, ExitCause::Signal(9));
    eventually("the event", || async {
        events(&client).await.iter().any(|record| matches!(record.event, Event::TaskOom { .. }))
    })
    .await;
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_31_metrics_of_what_is_not_there_are_not_found() {
    let (world, _daemon, client) = started().await;
    let nobody = task_of(&client, "nobody").metrics().await.expect_err("no container");
    assert_eq!(nobody.class, ErrorClass::NotFound, "{nobody}");
    namespace(&client).containers().create(shell("c", "true")).await.expect("creates");
    let idle = task_of(&client, "c").metrics().await.expect_err("no task");
    assert_eq!(idle.class, ErrorClass::NotFound, "{idle}");
    world.check(&client).await;
}
