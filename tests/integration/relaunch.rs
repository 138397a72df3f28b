//! Restart policies: containers come up again, as often and as soon as their policy says, whatever happens to the daemon (RST-1).

use bosun_client::{Client, RunRequest};
use bosun_tests::client::{events, import, logged, namespace, shell};
use bosun_tests::invariants::identity;
use bosun_tests::world::{Daemon, World, eventually};
use bosun_types::event::Event;
use bosun_types::relaunch::{
    POLICY_LABEL, RelaunchInfo, RelaunchStatus, RestartIntensity, RestartPolicy, StopRequest,
};
use bosun_types::spec::ContainerRequest;
use bosun_types::task::{ExitCause, ProcessStatus};
use bosun_types::{ContainerId, ErrorClass};

async fn started() -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    (world, daemon, client)
}

fn container(client: &Client, name: &str) -> bosun_client::Container {
    namespace(client).container(ContainerId::new(name).expect("good"))
}

/// Short pauses, so that a test sees several.
fn policy(text: &str) -> RestartPolicy {
    RestartPolicy {
        backoff_first_ms: 10,
        backoff_most_ms: 50,
        ..RestartPolicy::new(text.parse().expect(text))
    }
}

fn with_policy(name: &str, command: &str, policy: RestartPolicy) -> ContainerRequest {
    ContainerRequest { restart: Some(policy), ..shell(name, command) }
}

async fn run(client: &Client, request: ContainerRequest) -> u32 {
    namespace(client).run(RunRequest { container: request, task: logged() }).await.expect("runs").pid()
}

async fn info(client: &Client, name: &str) -> RelaunchInfo {
    container(client, name).relaunch().await.expect("answers").expect("has a policy")
}

async fn is_running(client: &Client, name: &str) -> bool {
    let info = container(client, name).task().info().await;
    info.is_ok_and(|info| info.status == ProcessStatus::Running)
}

async fn until(
    client: &Client,
    name: &str,
    what: &str,
    holds: impl Fn(&RelaunchInfo) -> bool,
) -> RelaunchInfo {
    eventually(what, || async { holds(&info(client, name).await) }).await;
    info(client, name).await
}

async fn relaunches(client: &Client, name: &str) -> usize {
    let told = events(client).await;
    let is = |event: &Event| matches!(event, Event::ContainerRelaunched { id, .. } if id.as_str() == name);
    told.iter().filter(|record| is(&record.event)).count()
}

async fn remove(client: &Client, name: &str) {
    let container = container(client, name);
    container.stop(StopRequest { signal: None, timeout_ms: Some(0) }).await.expect("stops");
    match container.task().delete().await {
        Err(error) if error.class != ErrorClass::NotFound => panic!("{error}"),
        _ => container.delete(true).await.expect("deletes"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rst_1_on_failure_starts_it_again_so_often_and_then_gives_it_up() {
    let (world, _daemon, client) = started().await;
    run(&client, with_policy("f", "exit 4", policy("on-failure:2"))).await;
    run(&client, with_policy("good", "exit 0", policy("on-failure:2"))).await;
    let given_up =
        until(&client, "f", "it to be given up", |info| info.status == RelaunchStatus::GivenUp).await;
    assert_eq!(given_up.count, 2);
    assert!(given_up.cause.expect("a cause").contains("2 times"));
    assert_eq!(relaunches(&client, "f").await, 2);
    let told = events(&client).await;
    let given_up =
        |event: &Event| matches!(event, Event::ContainerGivenUp { id, count: 2, .. } if id.as_str() == "f");
    assert_eq!(told.iter().filter(|record| given_up(&record.event)).count(), 1);
    // Each life has its end, and its task's output stays.
    let exits = told.iter().filter(|record| matches!(&record.event, Event::TaskExit { id, .. } if id == "f"));
    assert_eq!(exits.count(), 3);
    eventually("the good one's end to be seen", || async { info(&client, "good").await.last_exit.is_some() })
        .await;
    assert_eq!(relaunches(&client, "good").await, 0);
    for name in ["f", "good"] {
        remove(&client, name).await;
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rst_1_more_restarts_than_the_intensity_allows_are_too_many() {
    let (_world, _daemon, client) = started().await;
    let intensity = Some(RestartIntensity { restarts: 3, period_ms: 600_000 });
    run(&client, with_policy("mad", "exit 0", RestartPolicy { intensity, ..policy("always") })).await;
    let info =
        until(&client, "mad", "it to be given up", |info| info.status == RelaunchStatus::GivenUp).await;
    assert_eq!(info.count, 3);
    assert!(info.cause.expect("a cause").contains("intensity"));
    // A person's start counts from new.
    container(&client, "mad").start().await.expect("starts");
    let info =
        until(&client, "mad", "it to be given up again", |info| info.status == RelaunchStatus::GivenUp).await;
    assert_eq!(info.count, 3);
}

const LIVES: &str = "trap 'exit 0' TERM; trap 'exit 1' HUP; echo up; while :; do sleep 0.05; done";

#[tokio::test(flavor = "multi_thread")]
async fn rst_1_what_a_person_stopped_stays_down_until_a_person_or_for_always_the_daemon_starts() {
    let (world, daemon, client) = started().await;
    for (name, text) in
        [("a", "always"), ("u", "unless-stopped"), ("k", "unless-stopped"), ("r", "unless-stopped")]
    {
        run(&client, with_policy(name, LIVES, policy(text))).await;
    }
    for name in ["a", "u"] {
        let stopped = container(&client, name).stop(StopRequest::default()).await.expect("stops");
        assert_eq!(stopped.expect("it ran").cause, ExitCause::Code(0), "{name}: its own end, not a kill");
    }
    let task = container(&client, "k").task();
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("ends");
    // SIGHUP ends it here, but is no word of a person that it should end: it comes again.
    let before = container(&client, "r").task().info().await.expect("known").pid;
    container(&client, "r").task().kill(1, false).await.expect("signals");
    eventually("r to come again", || async {
        container(&client, "r")
            .task()
            .info()
            .await
            .is_ok_and(|info| info.pid != before && info.started_at.is_some())
    })
    .await;
    for name in ["a", "u", "k"] {
        assert!(info(&client, name).await.stopped, "{name}");
        assert_eq!(relaunches(&client, name).await, 0, "{name}");
    }
    daemon.kill();
    let _daemon = world.start();
    eventually("always to come up", || async { is_running(&client, "a").await }).await;
    // It runs before its operation is closed, and the event is told with that.
    eventually("it to be told", || async { relaunches(&client, "a").await == 1 }).await;
    for name in ["u", "k"] {
        assert!(!is_running(&client, name).await, "{name}");
        container(&client, name).start().await.expect("starts");
        assert!(is_running(&client, name).await, "{name}");
        assert!(!info(&client, name).await.stopped, "{name}");
    }
    for name in ["a", "u", "k", "r"] {
        remove(&client, name).await;
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_not_heard_becomes_a_kill_and_a_restart_starts_again() {
    let (_world, _daemon, client) = started().await;
    run(&client, shell("deaf", "trap '' TERM; while :; do sleep 0.05; done")).await;
    let container = container(&client, "deaf");
    let begin = std::time::Instant::now();
    let exit = container.stop(StopRequest { signal: None, timeout_ms: Some(300) }).await.expect("stops");
    assert_eq!(exit.expect("it ran").cause, ExitCause::Signal(9));
    assert!(begin.elapsed() >= std::time::Duration::from_millis(300));
    // Stopped already: the same answer, at once.
    let again = container.stop(StopRequest::default()).await.expect("stops");
    assert_eq!(again.expect("it ran").cause, ExitCause::Signal(9));
    let pid = container.start().await.expect("starts");
    assert_eq!(container.start().await.expect("it runs"), pid, "a start of what runs changes nothing");
    let new = container.restart(StopRequest { signal: Some(9), timeout_ms: None }).await.expect("restarts");
    assert_ne!(new, pid);
    assert!(identity(new).is_some() && identity(pid).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rst_1_the_ecosystems_labels_are_a_policy() {
    let (_world, _daemon, client) = started().await;
    let mut request = shell("l", "exit 1");
    request.labels.insert(POLICY_LABEL.to_owned(), "on-failure:1".to_owned());
    run(&client, request).await;
    until(&client, "l", "it to be given up", |info| info.status == RelaunchStatus::GivenUp).await;
    let container = container(&client, "l");
    // A changed label is a changed policy, and a changed policy a changed label.
    let mut record = container.record().await.expect("is there");
    record.labels.insert(POLICY_LABEL.to_owned(), "unless-stopped".to_owned());
    container.update(record, &["labels"]).await.expect("updates");
    assert_eq!(info(&client, "l").await.policy.when.to_string(), "unless-stopped");
    container.set_restart_policy(policy("no")).await.expect("sets");
    let record = container.record().await.expect("is there");
    assert_eq!(record.labels.get(POLICY_LABEL).map(String::as_str), Some("no"));
    let mut bad = shell("bad", "true");
    bad.labels.insert(POLICY_LABEL.to_owned(), "now and then".to_owned());
    let error = namespace(&client).containers().create(bad).await.expect_err("no policy");
    assert_eq!(error.class, ErrorClass::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_at_any_time_forgets_no_relaunch_and_does_none_twice() {
    let (world, mut daemon, client) = started().await;
    run(&client, with_policy("again", "exit 1", policy("always"))).await;
    for pause in [3, 17, 40, 80, 5, 120, 60, 30] {
        // Any moment of a relaunch: which one is not told, and all must hold.
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        daemon.kill();
        daemon = world.start();
    }
    let before = relaunches(&client, "again").await;
    eventually("it to come again", || async { relaunches(&client, "again").await > before + 2 }).await;
    container(&client, "again").stop(StopRequest::default()).await.expect("stops");
    let told = events(&client).await;
    let count = |is: fn(&Event) -> bool| told.iter().filter(|record| is(&record.event)).count();
    let starts = count(|event| matches!(event, Event::TaskStart { .. }));
    let exits = count(|event| matches!(event, Event::TaskExit { .. }));
    let relaunched = count(|event| matches!(event, Event::ContainerRelaunched { .. }));
    let creates = count(|event| matches!(event, Event::TaskCreate { .. }));
    assert_eq!(exits, starts, "each life has one end");
    assert_eq!(relaunched + 1, starts, "each relaunch is one life, each life but the first one relaunch");
    assert!(creates >= starts);
    assert!(usize::try_from(info(&client, "again").await.count).expect("small") >= relaunched);
    remove(&client, "again").await;
    world.check(&client).await;
    assert!(client.operations().await.expect("lists").is_empty(), "operations are left open");
    drop(daemon);
}
