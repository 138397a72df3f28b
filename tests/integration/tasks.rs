//! Running, waiting, signalling, exec, deleting (TSK-*, CTR-*).

use bosun_client::Client;
use bosun_tests::client::{import, log_of, logged, namespace, shell};
use bosun_tests::world::{Daemon, World};
use bosun_types::task::{ExecProcess, ExecRequest, ExitCause, ProcessStatus, TaskRequest};
use bosun_types::{ContainerId, ErrorClass, ExecId};

async fn started() -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    (world, daemon, client)
}

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).expect("good")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_says_something_and_ends_with_its_code() {
    let (world, _daemon, client) = started().await;
    let run = bosun_client::RunRequest {
        container: shell("one", "echo hello; echo oops >&2; exit 7"),
        task: logged(),
    };
    let exit = namespace(&client).run(run).await.expect("runs").wait().await.expect("ends");
    assert_eq!(exit.cause, ExitCause::Code(7));
    let text = log_of(&client, "one").await;
    assert!(text.contains("hello\n") && text.contains("oops\n"), "{text:?}");
    let container = namespace(&client).container(id("one"));
    // TSK-12: again, after the end.
    assert_eq!(container.task().wait().await.expect("still known"), exit);
    assert_eq!(container.task().delete().await.expect("deletes"), Some(exit));
    container.delete(true).await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_13_waiters_before_the_start_and_many_of_them_see_the_same_end() {
    let (world, _daemon, client) = started().await;
    let containers = namespace(&client).containers();
    containers.create(shell("many", "exit 3")).await.expect("creates");
    let task = containers.get(id("many")).create_task(TaskRequest::default()).await.expect("creates");
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Created);
    let waits: Vec<_> = (0..50)
        .map(|_| {
            let task = task.clone();
            tokio::spawn(async move { task.wait().await.expect("ends") })
        })
        .collect();
    let pid = task.start().await.expect("starts");
    assert!(pid > 1);
    let first = task.wait().await.expect("ends");
    for wait in waits {
        assert_eq!(wait.await.expect("joins"), first);
    }
    assert_eq!(first.cause, ExitCause::Code(3));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_14_a_killed_process_ends_with_its_signal_and_a_second_kill_is_not_found() {
    let (world, _daemon, client) = started().await;
    let run =
        bosun_client::RunRequest { container: shell("victim", "sleep 1000"), task: TaskRequest::default() };
    let running = namespace(&client).run(run).await.expect("runs");
    let task = namespace(&client).container(id("victim")).task();
    // TSK-16, CTR-11: neither the running task nor its container goes.
    assert_eq!(task.delete().await.expect_err("runs").class, ErrorClass::FailedPrecondition);
    assert_eq!(
        namespace(&client).container(id("victim")).delete(true).await.expect_err("has a task").class,
        ErrorClass::FailedPrecondition
    );
    task.kill(9, true).await.expect("kills");
    let exit = running.wait().await.expect("ends");
    assert_eq!((exit.cause.clone(), exit.code()), (ExitCause::Signal(9), 137));
    assert_eq!(task.kill(9, false).await.expect_err("is gone").class, ErrorClass::NotFound);
    assert_eq!(task.start().await.expect_err("is stopped").class, ErrorClass::FailedPrecondition);
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_21_children_left_behind_by_init_are_killed() {
    let (world, _daemon, client) = started().await;
    let run = bosun_client::RunRequest {
        container: shell("parent", "(trap '' TERM HUP; sleep 1000) & exit 5"),
        task: TaskRequest::default(),
    };
    let exit = namespace(&client).run(run).await.expect("runs").wait().await.expect("ends");
    assert_eq!(exit.cause, ExitCause::Code(5));
    namespace(&client).container(id("parent")).task().delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_22_execs_have_ids_codes_and_refusals() {
    let (world, _daemon, client) = started().await;
    let run =
        bosun_client::RunRequest { container: shell("host", "sleep 1000"), task: TaskRequest::default() };
    namespace(&client).run(run).await.expect("runs");
    let task = namespace(&client).container(id("host")).task();
    let request = |name: &str, command: &str| ExecRequest {
        id: ExecId::new(name).expect("good"),
        process: ExecProcess::Inherit {
            args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
            env: vec!["EXTRA=yes".to_owned()],
            cwd: Some("/tmp".to_owned()),
            user: Some("web".to_owned()),
        },
        stdio: bosun_types::stdio::Stdio::default(),
    };
    let check = r#"test "$EXTRA" = yes && test "$(pwd)" = /tmp && test "$(id -u)" = 1000 && exit 9"#;
    let exec = task.exec(request("e1", check)).await.expect("registers");
    assert_eq!(task.exec(request("e1", "true")).await.err().expect("taken").class, ErrorClass::AlreadyExists);
    exec.start().await.expect("starts");
    assert_eq!(exec.wait().await.expect("ends").cause, ExitCause::Code(9));
    assert_eq!(exec.delete().await.expect("forgets").map(|exit| exit.code()), Some(9));
    assert_eq!(exec.info().await.expect_err("forgotten").class, ErrorClass::NotFound);
    // Never started: may go.
    task.exec(request("e2", "true")).await.expect("registers").delete().await.expect("forgets");
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("ends");
    assert_eq!(
        task.exec(request("e3", "true")).await.err().expect("stopped").class,
        ErrorClass::FailedPrecondition
    );
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_3_tsk_7_duplicates_are_refused() {
    let (world, _daemon, client) = started().await;
    let containers = namespace(&client).containers();
    containers.create(shell("twin", "true")).await.expect("creates");
    assert_eq!(
        containers.create(shell("twin", "true")).await.expect_err("taken").class,
        ErrorClass::AlreadyExists
    );
    let container = containers.get(id("twin"));
    container.create_task(TaskRequest::default()).await.expect("creates");
    assert_eq!(
        container.create_task(TaskRequest::default()).await.err().expect("has one").class,
        ErrorClass::AlreadyExists
    );
    container.task().delete().await.expect("created may go");
    container.delete(true).await.expect("deletes");
    assert_eq!(container.record().await.expect_err("gone").class, ErrorClass::NotFound);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_exist_leaves_nothing_behind() {
    let (world, _daemon, client) = started().await;
    let mut request = shell("nope", "true");
    request.spec = bosun_types::spec::SpecRequest::Build(Box::new(bosun_types::spec::SpecOptions {
        args: vec!["/no/such/program".to_owned()],
        ..Default::default()
    }));
    let run = bosun_client::RunRequest { container: request, task: TaskRequest::default() };
    let error = match namespace(&client).run(run).await {
        Err(error) => error,
        Ok(running) => panic!("it runs as {}", running.pid()),
    };
    assert!(error.message.contains("/no/such/program") || error.message.contains("no such"), "{error}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runc_is_selectable() {
    let (world, _daemon, client) = started().await;
    let mut request = shell("by-runc", "exit 4");
    request.runtime.name = "runc".to_owned();
    let run = bosun_client::RunRequest { container: request, task: TaskRequest::default() };
    let exit = namespace(&client).run(run).await.expect("runs").wait().await.expect("ends");
    assert_eq!(exit.cause, ExitCause::Code(4));
    namespace(&client).container(id("by-runc")).task().delete().await.expect("deletes");
    world.check(&client).await;
}
