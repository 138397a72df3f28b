//! A shim that dies while it is at work: making, starting, adding a process, winding up, deleting. The work is held up by an OCI runtime that hangs where it is told
//! to, or by a reader of output that stands still.

use std::path::{Path, PathBuf};

use bosun_client::{Client, Result, Task};
use bosun_tests::client::{namespace, shell};
use bosun_tests::invariants::identity;
use bosun_tests::world::{World, wait_until};
use bosun_types::spec::ContainerRequest;
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExitCause, TaskRequest};
use bosun_types::{ContainerId, ErrorClass};
use nix::sys::signal::Signal;

use super::deaths::{directories, end_of, exec, exits, pid, send, started, task_of, true_end};

/// runc, but hanging at the verb whose name is in a file.
fn hanging_runtime(world: &World) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let (path, at) = (world.path("hangs"), world.path("at"));
    let (at, reached) = (at.display(), world.path("reached").display().to_string());
    let text = format!(
        "#!/bin/sh\nfor word; do if test \"$word\" = \"$(cat {at})\"; then touch {reached}; exec sleep 1000; fi; done\nexec runc \"$@\"\n"
    );
    std::fs::write(world.path("at"), "").expect("writes");
    std::fs::write(&path, text).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("is made executable");
    path
}

fn by(runtime: &Path, name: &str, command: &str) -> ContainerRequest {
    let mut request = shell(name, command);
    request.runtime.name = runtime.display().to_string();
    request
}

fn hang_at(world: &World, verb: &str) {
    let _ = std::fs::remove_file(world.path("reached"));
    std::fs::write(world.path("at"), verb).expect("writes");
}

/// The only shim there is, once the runtime hangs.
fn kill_shim_at_work(world: &World) {
    wait_until("the runtime to hang", || world.path("reached").exists());
    let shim = directories(world).iter().find_map(|it| Some(it.beacon().ok()??.shim)).expect("has a shim");
    send(Signal::SIGKILL, pid(shim.pid));
    hang_at(world, "");
}

async fn created(client: &Client, request: ContainerRequest) -> Result<Task> {
    let container = namespace(client).containers().create(request).await?;
    namespace(client).container(container.id).create_task(TaskRequest::default()).await
}

async fn ends_once(client: &Client, name: &str, wanted: &ExitCause) {
    let end = end_of(task_of(client, name).wait()).await;
    assert!(true_end(wanted, &end), "{name}: {end:?}");
    let told: Vec<_> = exits(client).await.into_iter().filter(|(id, _)| id == name).collect();
    assert_eq!(told, [(name.to_owned(), end)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f_4_a_shim_killed_while_it_makes_a_container_leaves_nothing_of_it() {
    let (world, _daemon, client) = started().await;
    let runtime = hanging_runtime(&world);
    hang_at(&world, "create");
    let making = {
        let (client, request) = (client.clone(), by(&runtime, "made", "exit 3"));
        tokio::spawn(async move { created(&client, request).await })
    };
    kill_shim_at_work(&world);
    let refused = making.await.expect("joins").err().expect("its shim died");
    assert_eq!(refused.class, ErrorClass::Unavailable, "{refused}");
    world.check(&client).await;
    // The container is there as before, and nothing is in the way.
    let container = namespace(&client).container(ContainerId::new("made").expect("good"));
    let task = container.create_task(TaskRequest::default()).await.expect("makes");
    task.start().await.expect("starts");
    ends_once(&client, "made", &ExitCause::Code(3)).await;
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_4_a_shim_killed_while_it_starts_init_or_an_exec_ends_its_container_once() {
    let (world, _daemon, client) = started().await;
    let runtime = hanging_runtime(&world);
    let task = created(&client, by(&runtime, "init", "sleep 1000")).await.expect("makes");
    hang_at(&world, "start");
    let starting = tokio::spawn(async move { task.start().await });
    kill_shim_at_work(&world);
    starting.await.expect("joins").expect_err("its shim died");
    ends_once(&client, "init", &ExitCause::Signal(9)).await;
    task_of(&client, "init").delete().await.expect("deletes");

    let task = created(&client, by(&runtime, "host", "sleep 1000")).await.expect("makes");
    let init = task.start().await.expect("starts");
    let process = task.exec(exec("helper", "sleep 1000")).await.expect("registers");
    hang_at(&world, "exec");
    let starting = tokio::spawn(async move { process.start().await });
    kill_shim_at_work(&world);
    starting.await.expect("joins").expect_err("its shim died");
    ends_once(&client, "host", &ExitCause::Signal(9)).await;
    assert!(identity(init).is_none());
    assert!(!exits(&client).await.iter().any(|(id, _)| id == "helper"), "it was never said to run");
    task.delete().await.expect("deletes");
    assert!(client.operations().await.expect("lists").is_empty());
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_4_a_shim_killed_while_it_deletes_is_deleted_with_what_it_held() {
    let (world, _daemon, client) = started().await;
    let runtime = hanging_runtime(&world);
    let task = created(&client, by(&runtime, "done", "exit 5")).await.expect("makes");
    task.start().await.expect("starts");
    ends_once(&client, "done", &ExitCause::Code(5)).await;
    hang_at(&world, "delete");
    let deleting = tokio::spawn(async move { task.delete().await });
    kill_shim_at_work(&world);
    let exit = deleting.await.expect("joins").expect("is done without it").expect("it ran");
    assert_eq!(exit.cause, ExitCause::Code(5));
    world.check(&client).await;
    assert!(namespace(&client).tasks().await.expect("lists").is_empty());
}

/// Its output has not gone out yet when its shim dies: the end is in no record, and known to the kernel.
#[tokio::test(flavor = "multi_thread")]
async fn f_4_a_shim_killed_between_an_end_and_its_record_does_not_lose_the_end() {
    let (world, _daemon, client) = started().await;
    // More than the FIFO takes, and no more than it and the pipe before it.
    let (fifo, container) = (world.path("full"), shell("full", "head -c 100000 /dev/zero; exit 19"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("makes");
    // Held open and never read.
    let _reader = std::fs::File::options().read(true).write(true).open(&fifo).expect("opens");
    let id = namespace(&client).containers().create(container).await.expect("creates").id;
    let stdio = Stdio { stdout: Some(fifo.display().to_string()), ..Stdio::default() };
    let task = TaskRequest { stdio, ..TaskRequest::default() };
    let task = namespace(&client).container(id).create_task(task).await.expect("makes");
    let init = task.start().await.expect("starts");
    let shim = directories(&world).iter().find_map(|it| Some(it.beacon().ok()??.shim)).expect("has a shim");
    wait_until("init to have ended", || identity(init).is_none());
    assert!(
        directories(&world).iter().all(|it| it.exit_records().expect("reads").is_empty()),
        "not said yet"
    );
    send(Signal::SIGKILL, pid(shim.pid));
    let end = end_of(task.wait()).await;
    assert!(true_end(&ExitCause::Code(19), &end), "{end:?}");
    assert_eq!(exits(&client).await, [("full".to_owned(), end)]);
    task.delete().await.expect("deletes");
    world.check(&client).await;
}
