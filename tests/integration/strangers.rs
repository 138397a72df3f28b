//! Execs that a shim holds and no row has, as a daemon leaves them that dies at the wrong moment, or a database that was set back: they are ended, nobody hears
//! of them, and their names are free again.

use std::path::Path;
use std::time::Duration;

use bosun_client::{Client, Task};
use bosun_runtime::shim::ShimConnection;
use bosun_tests::client::{events, import, logged, namespace, shell};
use bosun_tests::invariants::identity;
use bosun_tests::world::{DEADLINE, World, eventually};
use bosun_types::shim::{Request, Response, ShimPhase, ShimState};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExecProcess, ExecRequest, ProcessIdentity, ProcessStatus};
use bosun_types::{ContainerId, ErrorClass, ExecId};

const ANSWER: Duration = Duration::from_secs(10);

fn id(name: &str) -> ExecId {
    ExecId::new(name).expect("good")
}

/// To the world's only shim, as its daemon would.
async fn shim(world: &World) -> ShimConnection {
    let mut tasks = std::fs::read_dir(world.places().state.join("tasks")).expect("tasks");
    let directory = tasks.next().expect("one").expect("reads").path();
    let nonce = directory.file_name().and_then(|name| name.to_str()).expect("a nonce").to_owned();
    ShimConnection::connect(Path::new(&directory), &nonce, DEADLINE).await.expect("connects").0
}

async fn ask(shim: &ShimConnection, request: Request) -> Response {
    shim.request(request, ANSWER).await.expect("is done")
}

async fn add(shim: &ShimConnection, name: &str, command: &str) {
    let process = format!(
        r#"{{"terminal":false,"user":{{"uid":0,"gid":0}},"args":["/bin/sh","-c","{command}"],"env":["PATH=/bin"],"cwd":"/"}}"#
    );
    let request = Request::AddExec { id: id(name), process: process.into_bytes(), stdio: Stdio::default() };
    ask(shim, request).await;
}

async fn start(shim: &ShimConnection, name: &str) -> ProcessIdentity {
    match ask(shim, Request::Start { exec: Some(id(name)) }).await {
        Response::Process(identity) => identity,
        other => panic!("{other:?}"),
    }
}

async fn state(shim: &ShimConnection) -> ShimState {
    match ask(shim, Request::State).await {
        Response::State(state) => state,
        other => panic!("{other:?}"),
    }
}

fn exec(name: &str, command: &str) -> ExecRequest {
    let process = ExecProcess::Inherit {
        args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
        env: Vec::new(),
        cwd: None,
        user: None,
    };
    ExecRequest { id: id(name), process, stdio: Stdio::default() }
}

async fn running(world: &World) -> (Client, Task) {
    let client = world.client().await;
    import(&client).await;
    let containers = namespace(&client).containers();
    containers.create(shell("host", "sleep 1000")).await.expect("creates");
    let container = containers.get(ContainerId::new("host").expect("good"));
    let task = container.create_task(logged()).await.expect("makes");
    task.start().await.expect("starts");
    (client, task)
}

async fn is_forgotten(client: &Client, task: &Task, shim: &ShimConnection, ghost: ProcessIdentity) {
    eventually("the shim to forget them", || async { state(shim).await.execs.is_empty() }).await;
    let lives = identity(ghost.pid).is_some_and(|it| it.start_ticks == ghost.start_ticks);
    assert!(!lives, "what nobody asked for runs on");
    assert!(task.execs().await.expect("lists").is_empty());
    let told = events(client).await;
    assert!(!told.iter().any(|record| format!("{record:?}").contains("ghost")), "nobody is told of it");
    let again = task.exec(exec("ghost", "exit 5")).await.expect("the name is free");
    again.start().await.expect("starts");
    assert_eq!(again.wait().await.expect("ends").code(), 5);
    again.delete().await.expect("deletes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_that_no_row_has_is_killed_reaped_and_forgotten() {
    let world = World::new();
    let daemon = world.start();
    let (client, task) = running(&world).await;
    let init = task.info().await.expect("runs").pid;
    daemon.kill();
    let shim = shim(&world).await;
    for (name, command) in [("ghost", "sleep 1000"), ("left", "true"), ("ended", "exit 3")] {
        add(&shim, name, command).await;
    }
    let ghost = start(&shim, "ghost").await;
    start(&shim, "ended").await;
    eventually("its end", || async {
        state(&shim).await.execs.iter().any(|(_, phase)| matches!(phase, ShimPhase::Exited(..)))
    })
    .await;
    let _daemon = world.start();
    is_forgotten(&client, &task, &shim, ghost).await;
    let info = task.info().await.expect("answers");
    assert_eq!((info.status, info.pid), (ProcessStatus::Running, init), "the container goes on");
    task.kill(9, false).await.expect("kills");
    task.wait().await.expect("ends");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_a_frozen_container_dies_when_it_is_thawed_and_holds_nobody_up() {
    let world = World::new();
    let daemon = world.start();
    let (client, task) = running(&world).await;
    daemon.kill();
    let shim = shim(&world).await;
    add(&shim, "ghost", "sleep 1000").await;
    let ghost = start(&shim, "ghost").await;
    ask(&shim, Request::Pause).await;
    let _daemon = world.start();
    eventually("the freeze to be told", || async {
        task.info().await.is_ok_and(|info| info.status == ProcessStatus::Paused)
    })
    .await;
    world.check(&client).await;
    let refused = task.exec(exec("other", "true")).await.err().expect("is frozen");
    assert_eq!(refused.class, ErrorClass::FailedPrecondition, "{refused}");
    task.resume().await.expect("thaws");
    is_forgotten(&client, &task, &shim, ghost).await;
    task.kill(9, false).await.expect("kills");
    task.wait().await.expect("ends");
    world.check(&client).await;
}
