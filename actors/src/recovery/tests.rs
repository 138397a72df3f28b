//! Recovery over what an earlier life left, with a real tree, a real snapshotter and a host of words.

mod fake;

use bosun_storage::key;
use bosun_storage::snapshotter::Snapshotter as _;
use bosun_types::container::{ContainerRecord, RuntimeChoice};
use bosun_types::event::Event;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::shim::ShimPhase;
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExitCause, ExitStatus, OnShimDeath};
use bosun_types::{ContainerId, Labels, NamespaceName, SnapshotKey, Timestamp};

use super::*;
use fake::{BOOT, PROCESS, World};

const OLD: &str = "aa";
const NEW: &str = "bb";
const OVERLAY: &str = "overlayfs";

fn namespace() -> NamespaceName {
    NamespaceName::new("web").unwrap()
}

fn container() -> ContainerId {
    ContainerId::new("c").unwrap()
}

fn stopped() -> StoredPhase {
    StoredPhase::Stopped(ExitStatus { cause: ExitCause::Code(3), exited_at: Timestamp(1) })
}

fn task(nonce: &str, phase: StoredPhase) -> TaskRecord {
    TaskRecord {
        namespace: namespace(),
        container: container(),
        nonce: nonce.to_owned(),
        boot_id: BOOT.to_owned(),
        shim: Some(PROCESS),
        init: Some(PROCESS),
        stdio: Stdio::default(),
        runtime: "bosun".to_owned(),
        phase,
        created_at: Timestamp(1),
        started_at: None,
        on_shim_death: OnShimDeath::Kill,
    }
}

fn snapshot(name: &str, kind: SnapshotKind, directory: u64) -> SnapshotRecord {
    SnapshotRecord {
        namespace: namespace(),
        snapshotter: OVERLAY.to_owned(),
        key: SnapshotKey::new(name).unwrap(),
        parent: None,
        kind,
        directory,
        labels: Labels::new(),
        usage: None,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

/// A namespace with a container.
async fn world() -> World {
    let world = World::new();
    let (name, labels, now) = (namespace(), Labels::new(), Timestamp(1));
    let namespace =
        NamespaceRecord { name: name.clone(), labels: labels.clone(), created_at: now, updated_at: now };
    let container = ContainerRecord {
        namespace: name,
        id: container(),
        labels,
        image: None,
        runtime: RuntimeChoice::default(),
        spec: b"{}".to_vec(),
        snapshotter: None,
        snapshot_key: None,
        extensions: std::collections::BTreeMap::default(),
        created_at: now,
        updated_at: now,
    };
    world.left(|batch| batch.put(&namespace).put(&container)).await;
    world
}

fn operation(world: &World, intent: Intent) -> OperationRecord {
    OperationRecord {
        id: world.store.next_operation_id(),
        namespace: namespace(),
        intent,
        boot_id: BOOT.to_owned(),
        opened_at: Timestamp(1),
        status: OperationStatus::Forward,
        attempts: 0,
        call: None,
    }
}

fn create_task(nonce: &str) -> Intent {
    Intent::CreateTask { container: container(), nonce: nonce.to_owned() }
}

fn delete_task(nonce: &str) -> Intent {
    Intent::DeleteTask { container: container(), nonce: nonce.to_owned() }
}

fn stored_task(world: &World) -> Option<TaskRecord> {
    world.store.get(&key::task(&namespace(), &container())).unwrap()
}

fn open(world: &World) -> Vec<OperationRecord> {
    world.store.scan(&key::Key::all()).unwrap()
}

fn events(world: &World) -> Vec<Event> {
    let page = world.store.events_from(1, 1000).unwrap();
    page.events.into_iter().map(|record| record.event).collect()
}

fn shim(world: &World, nonce: &str, phase: Option<ShimPhase>) {
    world.host.tasks.lock().unwrap().insert(nonce.to_owned(), phase);
}

#[tokio::test]
async fn a_task_that_its_shim_has_made_is_finished_with_its_event() {
    let world = world().await;
    shim(&world, NEW, Some(ShimPhase::Created(PROCESS)));
    let intent = operation(&world, create_task(NEW));
    world.left(|batch| batch.put(&task(NEW, StoredPhase::Creating)).open_operation(&intent)).await;
    let daemon = world.recovered().await;
    assert_eq!(stored_task(&world).unwrap().phase, StoredPhase::Created);
    assert!(open(&world).is_empty());
    let made = events(&world).into_iter().filter(|event| matches!(event, Event::TaskCreate { .. })).count();
    assert_eq!(made, 1);
    assert!(world.host.cleaned.lock().unwrap().is_empty());
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_whose_shim_had_not_begun_is_taken_back_without_a_trace() {
    let world = world().await;
    shim(&world, NEW, Some(ShimPhase::Registered));
    let intent = operation(&world, create_task(NEW));
    world.left(|batch| batch.put(&task(NEW, StoredPhase::Creating)).open_operation(&intent)).await;
    let daemon = world.recovered().await;
    assert_eq!(stored_task(&world), None);
    assert!(open(&world).is_empty());
    assert!(world.host.tasks.lock().unwrap().is_empty());
    assert_eq!(*world.host.cleaned.lock().unwrap(), [NEW]);
    daemon.shutdown().await.unwrap();
}

/// The container was given a new task before the old removal was taken up again.
#[tokio::test]
async fn a_removal_of_an_earlier_task_leaves_the_later_one_alone() {
    let world = world().await;
    shim(&world, OLD, None);
    shim(&world, NEW, Some(ShimPhase::Running(PROCESS)));
    let intent = operation(&world, delete_task(OLD));
    world.left(|batch| batch.put(&task(NEW, StoredPhase::Running)).open_operation(&intent)).await;
    let daemon = world.recovered().await;
    assert_eq!(stored_task(&world).unwrap(), task(NEW, StoredPhase::Running));
    assert!(open(&world).is_empty());
    assert_eq!(world.host.tasks.lock().unwrap().keys().collect::<Vec<_>>(), [NEW]);
    assert!(!world.host.cleaned.lock().unwrap().contains(&NEW.to_owned()));
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_removal_that_was_begun_is_finished_with_its_event() {
    let world = world().await;
    shim(
        &world,
        OLD,
        Some(ShimPhase::Exited(PROCESS, ExitStatus { cause: ExitCause::Code(3), exited_at: Timestamp(1) })),
    );
    let intent = operation(&world, delete_task(OLD));
    world.left(|batch| batch.put(&task(OLD, stopped())).open_operation(&intent)).await;
    let daemon = world.recovered().await;
    assert_eq!(stored_task(&world), None);
    assert!(open(&world).is_empty());
    let StoredPhase::Stopped(exit) = stopped() else { panic!("stopped") };
    assert!(events(&world).contains(&Event::TaskDelete {
        container_id: container(),
        pid: 7,
        exit: Some(exit)
    }));
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn i_11_a_removal_that_does_not_get_done_is_parked_and_its_task_answers_again() {
    let world = world().await;
    shim(&world, OLD, None);
    *world.host.stubborn.lock().unwrap() = Some(OLD.to_owned());
    let intent = operation(&world, delete_task(OLD));
    world.left(|batch| batch.put(&task(OLD, stopped())).open_operation(&intent)).await;
    let daemon = world.recovered().await;
    let parked = open(&world).remove(0);
    assert!(matches!(parked.status, OperationStatus::Parked { .. }));
    assert_eq!(parked.attempts, plan::ATTEMPTS_MAX);
    let handle = daemon.namespace(namespace()).containers().get(container()).task();
    let exit = handle.wait(None).await.unwrap();
    assert_eq!(exit.cause, ExitCause::Code(3));
    *world.host.stubborn.lock().unwrap() = None;
    daemon.retry_operation(parked.id).await.unwrap();
    assert!(open(&world).is_empty());
    assert_eq!(stored_task(&world), None);
    daemon.shutdown().await.unwrap();
}

/// Its caller was told that it failed: it may not appear after all.
#[tokio::test]
async fn a_retried_making_only_goes_back() {
    let world = world().await;
    shim(&world, NEW, Some(ShimPhase::Created(PROCESS)));
    let status = OperationStatus::Parked { cause: Error::internal("stuck") };
    let intent = OperationRecord { status, ..operation(&world, create_task(NEW)) };
    world.left(|batch| batch.put(&task(NEW, StoredPhase::Creating)).open_operation(&intent)).await;
    let daemon = world.recovered().await;
    assert!(stored_task(&world).is_some());
    assert!(
        world.host.cleaned.lock().unwrap().is_empty(),
        "what is being made has no actor that could end it"
    );
    daemon.retry_operation(intent.id).await.unwrap();
    assert_eq!(stored_task(&world), None);
    assert!(open(&world).is_empty());
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_panic_parks_one_operation_and_the_rest_is_recovered() {
    let world = world().await;
    shim(&world, OLD, None);
    *world.host.poison.lock().unwrap() = Some(OLD.to_owned());
    world.overlay.ensure_directory(1, &[], SnapshotKind::Active).unwrap();
    let (snapshotter, key) = (OVERLAY.to_owned(), SnapshotKey::new("s").unwrap());
    let first = operation(&world, create_task(OLD));
    let second = operation(&world, Intent::RemoveSnapshot { snapshotter, key, directory: 1 });
    let row = task(OLD, StoredPhase::Creating);
    world.left(|batch| batch.put(&row).open_operation(&first).open_operation(&second)).await;
    let daemon = world.recovered().await;
    let left = open(&world);
    assert_eq!(left.len(), 1);
    assert!(
        matches!(&left[0].status, OperationStatus::Parked { cause } if cause.to_string().contains("a poisoned task"))
    );
    assert!(world.overlay.directories().unwrap().is_empty());
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_was_committed_meanwhile_keeps_its_directory() {
    let world = world().await;
    for directory in [1, 2] {
        world.overlay.ensure_directory(directory, &[], SnapshotKind::Active).unwrap();
    }
    let prepare = |key: &str, directory| {
        let (snapshotter, key) = (OVERLAY.to_owned(), SnapshotKey::new(key).unwrap());
        operation(&world, Intent::PrepareSnapshot { snapshotter, key, directory })
    };
    let (first, second) = (prepare("draft", 1), prepare("other", 2));
    let committed = snapshot("layer", SnapshotKind::Committed, 1);
    let active = snapshot("other", SnapshotKind::Active, 2);
    world
        .left(|batch| batch.put(&committed).put(&active).open_operation(&first).open_operation(&second))
        .await;
    let daemon = world.recovered().await;
    assert_eq!(world.overlay.directories().unwrap(), [1]);
    let rows: Vec<SnapshotRecord> = world.store.scan(&key::Key::all()).unwrap();
    assert_eq!(rows, vec![committed]);
    assert!(open(&world).is_empty());
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_container_that_was_made_again_keeps_its_logs() {
    let world = world().await;
    let logs = world.root.path().join("logs/web/c");
    std::fs::create_dir_all(&logs).unwrap();
    let (snapshotter, key) = (String::new(), SnapshotKey::new("c").unwrap());
    let intent = Intent::DeleteContainer { container: container(), snapshotter, key, directory: 0 };
    let intent = operation(&world, intent);
    world.left(|batch| batch.open_operation(&intent)).await;
    let daemon = world.recovered().await;
    assert!(logs.exists());
    assert!(open(&world).is_empty());
    daemon.shutdown().await.unwrap();
}

/// F30.
#[tokio::test]
async fn f_30_after_a_reboot_a_running_task_has_ended_unknown_once() {
    let world = world().await;
    let row = TaskRecord { boot_id: "the boot before".to_owned(), ..task(OLD, StoredPhase::Running) };
    world.left(|batch| batch.put(&row)).await;
    let daemon = world.recovered().await;
    let handle = daemon.namespace(namespace()).containers().get(container()).task();
    let exit = handle.wait(None).await.unwrap();
    assert_eq!(exit.cause, ExitCause::Unknown(plan::MACHINE_RESTARTED.to_owned()));
    let ends = events(&world).into_iter().filter(|event| matches!(event, Event::TaskExit { .. })).count();
    assert_eq!(ends, 1);
    daemon.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_nothing_names_is_removed_and_what_a_power_cut_took_is_made_again() {
    let world = world().await;
    shim(&world, OLD, None);
    world.overlay.ensure_directory(1, &[], SnapshotKind::Active).unwrap();
    // Directory numbers of the earlier life.
    while world.store.next_directory() < 4 {}
    world.left(|batch| batch.put(&snapshot("s", SnapshotKind::Active, 2))).await;
    let daemon = world.recovered().await;
    assert_eq!(world.overlay.directories().unwrap(), [2]);
    assert!(world.host.tasks.lock().unwrap().is_empty());
    daemon.shutdown().await.unwrap();
}
