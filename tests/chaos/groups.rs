//! A group keeps its promises across `kill -9` of the daemon at any instant: members fail, the daemon dies, and the group is up again as its
//! strategy says, with each life ended once and nobody started twice.

use std::collections::BTreeMap;
use std::time::Duration;

use bosun_client::Client;
use bosun_tests::client::{events, import, namespace, shell};
use bosun_tests::world::{World, eventually};
use bosun_types::event::{Event, EventRecord};
use bosun_types::group::{GroupMember, GroupSpec, GroupStatus, GroupStrategy, MemberName, MemberRestart};
use bosun_types::relaunch::RestartIntensity;
use bosun_types::task::ProcessStatus;
use bosun_types::{ContainerId, GroupName};

use super::kill::{Random, seed, setting};

const NAMES: [&str; 3] = ["a", "b", "c"];
const LIVES: &str = "trap 'exit 0' TERM; trap 'exit 7' HUP; while :; do sleep 0.02; done";

fn id(name: &str) -> ContainerId {
    ContainerId::new(name).expect("good")
}

async fn up(client: &Client, group: &bosun_client::Group) {
    eventually("the group to be up with all its members", || async {
        if !group.info().await.is_ok_and(|info| info.status == GroupStatus::Up) {
            return false;
        }
        for name in NAMES {
            let task = namespace(client).container(id(name)).task();
            if !task.info().await.is_ok_and(|info| info.status == ProcessStatus::Running) {
                return false;
            }
        }
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_keeps_its_promises_across_kills_at_any_instant() {
    let mut random = Random(seed());
    let world = World::new();
    let mut daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    for name in NAMES {
        namespace(&client).containers().create(shell(name, LIVES)).await.expect("creates");
    }
    let member = |name: &str| GroupMember {
        name: MemberName::Container(id(name)),
        restart: MemberRestart::Permanent,
        shutdown_ms: 5000,
    };
    let spec = GroupSpec {
        name: GroupName::new("g").expect("good"),
        strategy: GroupStrategy::RestForOne,
        intensity: RestartIntensity { restarts: 1000, period_ms: 3_600_000 },
        members: NAMES.iter().map(|name| member(name)).collect(),
    };
    let groups = namespace(&client).groups();
    groups.create(spec).await.expect("creates");
    let group = groups.get(GroupName::new("g").expect("good"));
    // It may be killed in the middle of its first start too.
    let starting = {
        let group = group.clone();
        tokio::spawn(async move { group.start().await })
    };
    let begin = std::time::Instant::now();

    while begin.elapsed() < Duration::from_secs(setting("BOSUN_CHAOS_SECONDS", 8)) {
        tokio::time::sleep(Duration::from_millis(random.next(150))).await;
        if random.next(2) == 0 {
            let name = NAMES[usize::try_from(random.next(3)).expect("small")];
            let _ = namespace(&client).container(id(name)).task().kill(1, false).await;
        } else {
            daemon.kill();
            daemon = world.start();
        }
    }

    starting.await.expect("joins").expect("starts");
    let client = world.client().await;
    world.recovered(&client).await;
    let group = namespace(&client).groups().get(GroupName::new("g").expect("good"));
    up(&client, &group).await;
    each_life_has_one_end_and_no_two_at_once(&events(&client).await);
    rest_for_one_kept_its_order(&events(&client).await);
    group.stop().await.expect("stops");
    group.delete().await.expect("deletes");
    for name in NAMES {
        let container = namespace(&client).container(id(name));
        container.task().delete().await.expect("deletes");
        container.delete(true).await.expect("deletes");
    }
    world.check(&client).await;
    assert!(client.operations().await.expect("lists").is_empty(), "operations are left open");
    drop(daemon);
}

fn each_life_has_one_end_and_no_two_at_once(told: &[EventRecord]) {
    let mut alive: BTreeMap<String, bool> = BTreeMap::new();
    for record in told {
        match &record.event {
            Event::TaskStart { container_id, .. } => {
                let twice = alive.insert(container_id.to_string(), true);
                assert_ne!(twice, Some(true), "{container_id} was started while it lived");
            }
            Event::TaskExit { id, .. } => {
                assert_eq!(alive.insert(id.clone(), false), Some(true), "{id} ended and did not live");
            }
            _ => {}
        }
    }
}

/// Whenever one is started, those before it have been started since they ended last: nobody runs before what it rests on was started.
fn rest_for_one_kept_its_order(told: &[EventRecord]) {
    let mut started = [0_u64; 3];
    let position = |name: &str| NAMES.iter().position(|it| *it == name);
    let mut generation = 0;
    for record in told {
        if let Event::TaskStart { container_id, .. } = &record.event
            && let Some(at) = position(container_id.as_str())
        {
            generation += 1;
            started[at] = generation;
            assert!(
                started[..at].iter().all(|before| *before > 0),
                "{container_id} was started before those it rests on"
            );
        }
    }
    // At rest: each was started after the one before it, for whoever is started again takes those after it along.
    assert!(started.is_sorted(), "{started:?}");
}
