//! Groups: containers supervised together, in OTP's words.

use std::collections::BTreeMap;

use bosun_client::Client;
use bosun_tests::client::{events, import, namespace, shell};
use bosun_tests::world::{Daemon, World, eventually};
use bosun_types::event::Event;
use bosun_types::group::{
    GroupInfo, GroupMember, GroupSpec, GroupStatus, GroupStrategy, MemberName, MemberRestart, SHUTDOWN_MS,
};
use bosun_types::relaunch::{RestartIntensity, RestartPolicy, StopRequest};
use bosun_types::{ContainerId, ErrorClass, GroupName};

const LIVES: &str = "trap 'exit 0' TERM; trap 'exit 7' HUP; while :; do sleep 0.05; done";

async fn started(members: &[&str]) -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    for member in members {
        namespace(&client).containers().create(shell(member, LIVES)).await.expect("creates");
    }
    (world, daemon, client)
}

fn name(text: &str) -> GroupName {
    GroupName::new(text).expect("good")
}

fn container(client: &Client, name: &str) -> bosun_client::Container {
    namespace(client).container(ContainerId::new(name).expect("good"))
}

fn member(word: &str) -> GroupMember {
    let member = match word.strip_prefix('@') {
        Some(group) => MemberName::Group(name(group)),
        None => MemberName::Container(ContainerId::new(word).expect("good")),
    };
    GroupMember { name: member, restart: MemberRestart::Permanent, shutdown_ms: SHUTDOWN_MS }
}

fn spec(group: &str, strategy: GroupStrategy, members: &[&str]) -> GroupSpec {
    GroupSpec {
        name: name(group),
        strategy,
        intensity: RestartIntensity { restarts: 3, period_ms: 600_000 },
        members: members.iter().map(|word| member(word)).collect(),
    }
}

async fn make(client: &Client, spec: GroupSpec) -> bosun_client::Group {
    let group = spec.name.clone();
    namespace(client).groups().create(spec).await.expect("creates");
    let group = namespace(client).groups().get(group);
    group.start().await.expect("starts");
    group
}

async fn pid(client: &Client, name: &str) -> Option<u32> {
    let info = container(client, name).task().info().await.ok()?;
    (info.exit.is_none() && info.started_at.is_some()).then_some(info.pid)
}

async fn pids(client: &Client, names: &[&str]) -> BTreeMap<String, Option<u32>> {
    let mut all = BTreeMap::new();
    for name in names {
        all.insert((*name).to_owned(), pid(client, name).await);
    }
    all
}

/// The program ends itself with code 7: a failure, and nobody's wish.
async fn fails(client: &Client, name: &str) {
    container(client, name).task().kill(1, false).await.expect("signals");
}

async fn settled(group: &bosun_client::Group, restarts: u32) -> GroupInfo {
    eventually("the group to be up again", || async {
        let info = group.info().await.expect("is there");
        info.restarts >= restarts && info.status == GroupStatus::Up
    })
    .await;
    group.info().await.expect("is there")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_strategy_starts_again_whom_otp_starts_again() {
    let names = ["a", "b", "c"];
    let (world, _daemon, client) = started(&names).await;
    for (strategy, again) in [
        (GroupStrategy::OneForOne, vec!["b"]),
        (GroupStrategy::RestForOne, vec!["b", "c"]),
        (GroupStrategy::OneForAll, vec!["a", "b", "c"]),
    ] {
        let group = make(&client, spec("g", strategy, &names)).await;
        let before = pids(&client, &names).await;
        assert!(before.values().all(Option::is_some), "{before:?}");
        fails(&client, "b").await;
        settled(&group, 1).await;
        let after = pids(&client, &names).await;
        for name in names {
            assert_eq!(before[name] != after[name], again.contains(&name), "{strategy}: {name}");
        }
        group.stop().await.expect("stops");
        assert!(pids(&client, &names).await.values().all(Option::is_none));
        group.delete().await.expect("deletes");
    }
    let told = events(&client).await;
    let order = |wanted: &str, from: usize| -> Vec<String> {
        let of = |event: &Event| match event {
            Event::TaskStart { container_id, .. } if wanted == "start" => Some(container_id.to_string()),
            Event::TaskExit { id, .. } if wanted == "exit" => Some(id.clone()),
            _ => None,
        };
        told[from..].iter().filter_map(|record| of(&record.event)).take(3).collect()
    };
    assert_eq!(order("start", 0), ["a", "b", "c"], "in order");
    let stopping = told.iter().rposition(|record| matches!(&record.event, Event::GroupRestarting { .. }));
    assert_eq!(
        order("exit", stopping.expect("restarted")),
        ["c", "a", "c"],
        "those that live, in reverse; then the stop"
    );
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_its_intensity_a_group_is_stopped_and_failed_with_its_cause() {
    let (_world, _daemon, client) = started(&["a"]).await;
    namespace(&client).containers().create(shell("mad", "exit 3")).await.expect("creates");
    namespace(&client)
        .groups()
        .create(spec("g", GroupStrategy::OneForOne, &["a", "mad"]))
        .await
        .expect("creates");
    let group = namespace(&client).groups().get(name("g"));
    // Started is started: that it ends at once is the group's affair.
    let _ = group.start().await;
    eventually("it to fail", || async {
        group.info().await.expect("is there").status == GroupStatus::Failed
    })
    .await;
    let info = group.info().await.expect("is there");
    let cause = info.cause.expect("a cause");
    assert!(cause.contains("intensity") && cause.contains("mad ended with code 3"), "{cause}");
    assert_eq!((info.restarts, pid(&client, "a").await), (3, None));
    let told = events(&client).await;
    assert!(told.iter().any(|record| matches!(&record.event, Event::GroupFailed { .. })));
    // Up again by a person, counting from new: and failed again.
    let _ = group.start().await;
    eventually("it to fail again", || async {
        group.info().await.expect("is there").status == GroupStatus::Failed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_in_a_group_is_up_or_down_as_a_whole() {
    let (world, _daemon, client) = started(&["a", "b", "c"]).await;
    namespace(&client)
        .groups()
        .create(GroupSpec {
            intensity: RestartIntensity { restarts: 0, period_ms: 600_000 },
            ..spec("inner", GroupStrategy::OneForOne, &["b"])
        })
        .await
        .expect("creates");
    let outer = make(&client, spec("outer", GroupStrategy::RestForOne, &["a", "@inner", "c"])).await;
    let inner = namespace(&client).groups().get(name("inner"));
    assert_eq!(inner.info().await.expect("is there").status, GroupStatus::Up);
    let before = pids(&client, &["a", "b", "c"]).await;
    // One end is too many for the inner group: it fails, and the outer one starts it and what is after it again.
    fails(&client, "b").await;
    settled(&outer, 1).await;
    let after = pids(&client, &["a", "b", "c"]).await;
    assert_eq!(before["a"], after["a"]);
    assert!(
        after["b"].is_some() && before["b"] != after["b"] && before["c"] != after["c"],
        "{before:?} {after:?}"
    );
    let refused = inner.delete().await.expect_err("it is in a group");
    assert_eq!(refused.class, ErrorClass::FailedPrecondition);
    outer.stop().await.expect("stops");
    assert_eq!(inner.info().await.expect("is there").status, GroupStatus::Stopped);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_group_is_refused() {
    let (_world, _daemon, client) = started(&["a", "b"]).await;
    let groups = namespace(&client).groups();
    let refused = |spec: GroupSpec| {
        let groups = groups.clone();
        async move { groups.create(spec).await.expect_err("refused") }
    };
    let one = |members: &[&str]| spec("g", GroupStrategy::OneForOne, members);
    assert_eq!(refused(one(&["none"])).await.class, ErrorClass::NotFound);
    assert_eq!(refused(one(&[])).await.class, ErrorClass::InvalidArgument);
    groups.create(one(&["a"])).await.expect("creates");
    assert_eq!(refused(one(&["b"])).await.class, ErrorClass::AlreadyExists);
    let other = GroupSpec { name: name("h"), ..one(&["a"]) };
    assert_eq!(refused(other).await.class, ErrorClass::FailedPrecondition);
    container(&client, "b")
        .set_restart_policy(RestartPolicy::new("always".parse().expect("good")))
        .await
        .expect("sets");
    let other = GroupSpec { name: name("h"), ..one(&["b"]) };
    assert!(refused(other).await.hint.expect("a hint").contains("--restart no"));
    let error =
        container(&client, "a").set_restart_policy(RestartPolicy::new("always".parse().expect("good"))).await;
    assert_eq!(error.expect_err("its group decides").class, ErrorClass::FailedPrecondition);
    let error = container(&client, "a").delete(true).await.expect_err("it is in a group");
    assert!(error.message.contains("group g"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_a_person_stops_stays_down_and_one_that_is_killed_comes_again() {
    let (_world, _daemon, client) = started(&["a", "b"]).await;
    let group = make(&client, spec("g", GroupStrategy::OneForAll, &["a", "b"])).await;
    let before = pids(&client, &["a", "b"]).await;
    container(&client, "a").stop(StopRequest::default()).await.expect("stops");
    fails(&client, "b").await;
    settled(&group, 1).await;
    let after = pids(&client, &["a", "b"]).await;
    assert!(after["a"].is_some() && after["a"] != before["a"], "one_for_all starts all");
    container(&client, "b").task().kill(9, true).await.expect("kills");
    settled(&group, 2).await;
    assert_ne!(pid(&client, "b").await, after["b"]);
}
