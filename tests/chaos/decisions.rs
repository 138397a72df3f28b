//! A group's promises when the daemon dies at each of its decisions and acts: before and after the commit of each change of its phase, and at each member that is started or
//! stopped, for each strategy. Each life is begun once, in order, and ended in reverse.

use std::sync::Arc;
use std::thread::JoinHandle;

use bosun_client::Client;
use bosun_tests::client::{events, import, namespace, shell};
use bosun_tests::world::{Daemon, World, eventually};
use bosun_types::event::Event;
use bosun_types::group::{
    GroupMember, GroupSpec, GroupStatus, GroupStrategy, MemberName, MemberRestart, SHUTDOWN_MS,
};
use bosun_types::relaunch::RestartIntensity;
use bosun_types::{ContainerId, GroupName};
use futures::StreamExt as _;

/// Worlds at a time.
const AT_ONCE: usize = 3;
const NAMES: [&str; 3] = ["a", "b", "c"];
const LIVES: &str = "trap 'exit 0' TERM; trap 'exit 7' HUP; while :; do sleep 0.02; done";

fn id(name: &str) -> ContainerId {
    ContainerId::new(name).expect("good")
}

fn spec(strategy: GroupStrategy, restarts: u32) -> GroupSpec {
    let member = |name: &&str| GroupMember {
        name: MemberName::Container(id(name)),
        restart: MemberRestart::Permanent,
        shutdown_ms: SHUTDOWN_MS,
    };
    GroupSpec {
        name: GroupName::new("g").expect("good"),
        strategy,
        intensity: RestartIntensity { restarts, period_ms: 600_000 },
        members: NAMES.iter().map(member).collect(),
    }
}

/// Starts and ends of members in the order in which they were told.
async fn told(client: &Client) -> (Vec<String>, Vec<String>) {
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for record in events(client).await {
        match record.event {
            Event::TaskStart { container_id, .. } => starts.push(container_id.to_string()),
            Event::TaskExit { id, .. } => ends.push(id),
            _ => {}
        }
    }
    (starts, ends)
}

/// Whom the strategy starts again when `b` fails.
fn again(strategy: GroupStrategy) -> &'static [&'static str] {
    match strategy {
        GroupStrategy::OneForOne => &["b"],
        GroupStrategy::OneForAll => &["a", "b", "c"],
        GroupStrategy::RestForOne => &["b", "c"],
    }
}

/// Another daemon as soon as the first has died of its fault.
fn revive(world: &Arc<World>, dying: Daemon) -> JoinHandle<Daemon> {
    let world = Arc::clone(world);
    std::thread::spawn(move || {
        dying.ended();
        world.start()
    })
}

/// Up, a failure of `b`, what follows from it, down; the daemon dies once on the way, at `fault`.
async fn lives_through(strategy: GroupStrategy, restarts: u32, fault: String) {
    let world = Arc::new(World::new());
    let (point, visit) = fault.split_once('@').unwrap_or((&fault, "1"));
    let dying = world.start_with(&[("BOSUN_FAULTS", &format!("{point}=abort@{visit}"))]);
    let revived = revive(&world, dying);
    let client = world.client().await;
    import(&client).await;
    for name in NAMES {
        namespace(&client).containers().create(shell(name, LIVES)).await.expect("creates");
    }
    let groups = namespace(&client).groups();
    groups.create(spec(strategy, restarts)).await.expect("creates");
    let group = groups.get(GroupName::new("g").expect("good"));
    group.start().await.unwrap_or_else(|error| panic!("{strategy:?} {fault}: {error}"));
    namespace(&client).container(id("b")).task().kill(1, false).await.expect("is told to fail");
    let settled = if restarts == 0 { GroupStatus::Failed } else { GroupStatus::Up };
    eventually(&format!("{strategy:?} {fault}: the group to settle"), async || {
        let info = group.info().await;
        info.is_ok_and(|info| info.status == settled && (restarts == 0 || info.restarts == 1))
    })
    .await;
    let (starts, ends) = told(&client).await;
    let mut wanted: Vec<&str> = NAMES.to_vec();
    let mut gone: Vec<&str> = vec!["b"];
    if restarts == 0 {
        gone.extend(["c", "a"]);
    } else {
        wanted.extend(again(strategy));
        gone.extend(again(strategy).iter().rev().filter(|name| **name != "b"));
    }
    assert_eq!(starts, wanted, "{strategy:?} {fault}: starts");
    assert_eq!(ends, gone, "{strategy:?} {fault}: ends");
    group.stop().await.unwrap_or_else(|error| panic!("{strategy:?} {fault}: {error}"));
    if restarts > 0 {
        let (_, ends) = told(&client).await;
        assert_eq!(ends[gone.len()..], ["c", "b", "a"], "{strategy:?} {fault}: stopped in reverse");
    }
    eventually(&format!("{strategy:?} {fault}: the daemon to have been there"), async || {
        revived.is_finished()
    })
    .await;
    let _daemon = revived.join().expect("joins");
    world.recovered(&client).await;
    group.delete().await.expect("deletes");
    world.check(&client).await;
    assert!(client.operations().await.expect("lists").is_empty(), "{fault}: operations are left open");
}

fn both(points: &[&str]) -> Vec<String> {
    points.iter().flat_map(|point| [format!("{point}.before"), format!("{point}.after")]).collect()
}

/// The n-th visit of a point, for the n-th member.
fn visits(point: &str, count: usize) -> Vec<String> {
    (1..=count)
        .flat_map(|visit| {
            ["before", "after"]
                .map(|side| format!("{point}.{side}"))
                .map(|name| if visit == 1 { name } else { format!("{name}@{visit}") })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_keeps_its_order_and_its_strategy_when_the_daemon_dies_at_each_decision_and_act() {
    let mut cases = Vec::new();
    for strategy in [GroupStrategy::OneForOne, GroupStrategy::OneForAll, GroupStrategy::RestForOne] {
        let again = again(strategy).len();
        let mut faults = both(&["group.start", "group.up", "group.restart", "group.stop", "group.down"]);
        faults.extend(visits("start_member.start", NAMES.len() + again));
        faults.extend(visits("stop_member.stop", again - 1 + NAMES.len()));
        cases.extend(faults.into_iter().map(|fault| (strategy, 3, fault)));
    }
    // Over its intensity, whatever its strategy.
    let mut faults = both(&["group.escalate", "group.failed"]);
    faults.extend(visits("stop_member.stop", 2));
    cases.extend(faults.into_iter().map(|fault| (GroupStrategy::OneForAll, 0, fault)));
    println!("{} deaths", cases.len());
    futures::stream::iter(cases)
        .map(|(strategy, restarts, fault)| async move {
            tokio::spawn(lives_through(strategy, restarts, fault)).await.expect("keeps its promises");
        })
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}
