//! One test for each rule, and what must hold for anything that can be found.

use bosun_types::reference::Reference;
use bosun_types::snapshot::SnapshotKind;
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExitCause, ExitStatus, OnShimDeath};
use bosun_types::transfer::{ObjectRequest, PullRequest, PushRequest};
use bosun_types::{Labels, Timestamp};
use proptest::prelude::*;

use super::*;

const BOOT: &str = "this boot";
const NONCE: &str = "aa";
const OVERLAY: &str = "overlayfs";

fn namespace() -> NamespaceName {
    NamespaceName::new("web").expect("valid")
}

fn container() -> ContainerId {
    ContainerId::new("c").expect("valid")
}

fn key() -> SnapshotKey {
    SnapshotKey::new("k").expect("valid")
}

fn pull() -> Intent {
    let reference = "registry.example/a:1".parse::<Reference>().expect("valid");
    let request = PullRequest { unpack: None, ..PullRequest::new(reference, OVERLAY) };
    Intent::Pull { transfer: 1, request, lease: None }
}

fn checkpoint(nonce: &str, recorded: bool) -> Intent {
    let image = bosun_types::ImageName::new("cp").expect("valid");
    let (container, nonce) = (container(), nonce.to_owned());
    Intent::Checkpoint { container, nonce, image, frozen: false, exit: true, recorded }
}

/// Every kind of intent, about task `nonce` or directory `directory`.
fn intents(nonce: &str, directory: u64) -> [Intent; 16] {
    let (snapshotter, nonce) = (OVERLAY.to_owned(), nonce.to_owned());
    let reference = "registry.example/a:1".parse::<Reference>().expect("valid");
    let push = PushRequest::new(reference.clone());
    let digest = bosun_types::Digest::from_bytes([1; 32]);
    let object = ObjectRequest { reference, digest, media_type: String::new(), plain_http: false };
    [
        Intent::PrepareSnapshot { snapshotter: snapshotter.clone(), key: key(), directory },
        Intent::RemoveSnapshot { snapshotter: snapshotter.clone(), key: key(), directory },
        Intent::CreateTask { container: container(), nonce: nonce.clone() },
        Intent::StartProcess { container: container(), nonce: nonce.clone(), exec: None },
        Intent::DeleteTask { container: container(), nonce: nonce.clone() },
        pull(),
        Intent::CreateContainer {
            container: container(),
            snapshotter: snapshotter.clone(),
            key: key(),
            directory,
        },
        Intent::DeleteContainer {
            container: container(),
            snapshotter: snapshotter.clone(),
            key: key(),
            directory,
        },
        Intent::MakeLayer {
            snapshotter: snapshotter.clone(),
            key: key(),
            reference: "r".to_owned(),
            keep: false,
        },
        Intent::ApplyLayer { snapshotter: snapshotter.clone(), key: key(), directory },
        Intent::RemapSnapshot { snapshotter, key: key(), directory },
        Intent::Push { transfer: 2, request: push },
        Intent::FetchObject { transfer: 3, request: object.clone(), lease: None },
        Intent::PushObject { transfer: 4, request: object },
        checkpoint(&nonce, false),
        Intent::HoldTask { container: container(), nonce: nonce.clone(), frozen: false },
    ]
}

fn operation(id: u64, intent: Intent) -> OperationRecord {
    OperationRecord {
        id: OperationId(id),
        namespace: namespace(),
        intent,
        boot_id: BOOT.to_owned(),
        opened_at: Timestamp(1),
        status: OperationStatus::Forward,
        attempts: 0,
        call: None,
    }
}

fn intent_named(name: &str) -> Intent {
    intents(NONCE, 7).into_iter().find(|intent| intent.name() == name).expect("there is one of that name")
}

fn task(nonce: &str, phase: StoredPhase) -> TaskRecord {
    TaskRecord {
        namespace: namespace(),
        container: container(),
        nonce: nonce.to_owned(),
        boot_id: BOOT.to_owned(),
        shim: None,
        init: None,
        stdio: Stdio::default(),
        runtime: "bosun".to_owned(),
        phase,
        created_at: Timestamp(1),
        started_at: None,
        on_shim_death: OnShimDeath::Kill,
    }
}

fn snapshot(name: &str, directory: u64) -> SnapshotRecord {
    SnapshotRecord {
        namespace: namespace(),
        snapshotter: OVERLAY.to_owned(),
        key: SnapshotKey::new(name).expect("valid"),
        parent: None,
        kind: SnapshotKind::Active,
        directory,
        labels: Labels::new(),
        usage: None,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

fn stopped() -> StoredPhase {
    StoredPhase::Stopped(ExitStatus { cause: ExitCause::Code(0), exited_at: Timestamp(1) })
}

/// Nothing but a task row (unless `phase` is `None`) and a task directory (unless `shim` is `None`).
fn found(phase: Option<StoredPhase>, shim: Option<bool>) -> Observed {
    Observed {
        boot_id: BOOT.to_owned(),
        tasks: phase.map(|phase| task(NONCE, phase)).into_iter().collect(),
        task_directories: shim.map(|lives| (NONCE.to_owned(), lives)).into_iter().collect(),
        ..Observed::default()
    }
}

fn with(mut observed: Observed, operations: impl IntoIterator<Item = OperationRecord>) -> Observed {
    observed.operations.extend(operations);
    observed
}

fn action(observed: &Observed, subject: &Subject) -> Action {
    let plan = plan(observed);
    let decision = plan.decisions.iter().find(|decision| decision.subject == *subject);
    decision.unwrap_or_else(|| panic!("{subject:?} is decided")).action.clone()
}

fn of_operation(observed: Observed, intent: &str) -> Action {
    action(&with(observed, [operation(1, intent_named(intent))]), &Subject::Operation(OperationId(1)))
}

fn of_task(observed: &Observed) -> Action {
    action(observed, &Subject::Task(namespace(), container()))
}

fn parked(action: &Action) -> bool {
    matches!(action, Action::Park(_))
}

#[test]
fn making_a_snapshot_a_container_or_a_layer_is_taken_back_and_so_is_applying_one() {
    for name in ["prepare_snapshot", "create_container", "make_layer", "apply_layer"] {
        assert_eq!(of_operation(found(None, None), name), Action::Undo, "{name}");
    }
}

#[test]
fn removing_is_finished() {
    for intent in ["remove_snapshot", "delete_container", "delete_task"] {
        assert_eq!(of_operation(found(None, None), intent), Action::RollForward, "{intent}");
        assert_eq!(of_operation(found(Some(stopped()), Some(true)), intent), Action::RollForward, "{intent}");
    }
}

#[test]
fn a_pull_is_resumed() {
    assert_eq!(of_operation(found(None, None), "pull"), Action::Resume);
}

#[test]
fn making_a_task_asks_its_living_shim() {
    let creating = Some(StoredPhase::Creating);
    assert_eq!(of_operation(found(creating, Some(true)), "create_task"), Action::AskShim);
}

#[test]
fn making_a_task_is_taken_back_without_a_shim_a_row_or_its_boot() {
    let creating = || Some(StoredPhase::Creating);
    assert_eq!(of_operation(found(creating(), Some(false)), "create_task"), Action::Undo);
    assert_eq!(of_operation(found(creating(), None), "create_task"), Action::Undo);
    assert_eq!(of_operation(found(None, Some(true)), "create_task"), Action::Undo);
    let old = OperationRecord { boot_id: "before".to_owned(), ..operation(1, intent_named("create_task")) };
    let observed = with(found(creating(), Some(true)), [old]);
    assert_eq!(action(&observed, &Subject::Operation(OperationId(1))), Action::Undo);
}

#[test]
fn starting_is_closed_because_the_tasks_actor_finds_out() {
    for shim in [None, Some(false), Some(true)] {
        assert_eq!(of_operation(found(Some(StoredPhase::Created), shim), "start_process"), Action::Close);
    }
}

#[test]
fn what_was_being_taken_back_never_goes_forward_again_but_a_removal_does() {
    let status = OperationStatus::Undoing { cause: Error::internal("x") };
    for intent in intents(NONCE, 7) {
        let undoing = OperationRecord { status: status.clone(), ..operation(1, intent) };
        let observed = with(found(Some(StoredPhase::Creating), Some(true)), [undoing]);
        let wanted = if removes(&observed.operations[0].intent) { Action::RollForward } else { Action::Undo };
        assert_eq!(action(&observed, &Subject::Operation(OperationId(1))), wanted);
    }
}

#[test]
fn i_11_an_operation_that_no_life_of_the_daemon_finished_is_parked() {
    for intent in intents(NONCE, 7) {
        for (attempts, wanted) in [(LIVES_MAX - 1, false), (LIVES_MAX, true), (LIVES_MAX + 1, true)] {
            let tried = OperationRecord { attempts, ..operation(1, intent.clone()) };
            let observed = with(found(None, None), [tried]);
            // A relaunch has limits of its own: its container's restart policy.
            let wanted = wanted && !matches!(intent, Intent::Relaunch { .. });
            assert_eq!(parked(&action(&observed, &Subject::Operation(OperationId(1)))), wanted);
        }
    }
}

#[test]
fn a_parked_operation_keeps_its_cause() {
    let cause = Error::unavailable("the disk said no");
    let status = OperationStatus::Parked { cause: cause.clone() };
    let parked = OperationRecord { status, ..operation(1, intent_named("delete_task")) };
    let observed = with(found(None, None), [parked]);
    assert_eq!(action(&observed, &Subject::Operation(OperationId(1))), Action::Park(cause));
}

#[test]
fn operations_of_this_life_are_left_and_keep_what_they_name() {
    let mut observed = found(None, Some(true));
    observed.first_of_this_life = Some(OperationId(5));
    observed.snapshot_directories.insert(OVERLAY.to_owned(), BTreeSet::from([7]));
    let names = ["create_task", "prepare_snapshot"];
    observed.operations = names.iter().zip(5..).map(|(name, id)| operation(id, intent_named(name))).collect();
    assert!(plan(&observed).decisions.iter().all(|decision| decision.action == Action::Leave));
    observed.first_of_this_life = Some(OperationId(6));
    assert_eq!(action(&observed, &Subject::Operation(OperationId(5))), Action::Undo);
}

#[test]
fn a_task_of_this_boot_is_adopted() {
    for phase in [StoredPhase::Created, StoredPhase::Running, StoredPhase::Paused, stopped()] {
        for shim in [None, Some(false), Some(true)] {
            assert_eq!(of_task(&found(Some(phase.clone()), shim)), Action::Adopt, "{phase:?}");
        }
    }
}

#[test]
fn after_a_reboot_what_lived_has_ended_unknown_and_an_end_stays_as_it_is() {
    for phase in [StoredPhase::Created, StoredPhase::Running, StoredPhase::Paused] {
        let mut observed = found(Some(phase), None);
        observed.boot_id = "the next boot".to_owned();
        assert_eq!(of_task(&observed), Action::EndUnknown);
    }
    let mut observed = found(Some(stopped()), None);
    observed.boot_id = "the next boot".to_owned();
    assert_eq!(of_task(&observed), Action::Adopt);
}

#[test]
fn a_task_that_is_being_made_is_its_operations_and_never_without_one() {
    let observed = found(Some(StoredPhase::Creating), None);
    assert!(parked(&of_task(&observed)));
    let observed = with(observed, [operation(1, intent_named("create_task"))]);
    assert_eq!(of_task(&observed), Action::Leave);
}

#[test]
fn a_task_that_is_being_removed_is_its_operations_until_that_is_given_up() {
    for boot in [BOOT, "the next boot"] {
        let mut observed = with(found(Some(stopped()), None), [operation(1, intent_named("delete_task"))]);
        observed.boot_id = boot.to_owned();
        assert_eq!(of_task(&observed), Action::Leave);
        observed.tasks[0].phase = StoredPhase::Created;
        assert_eq!(of_task(&observed), Action::Leave);
        observed.operations[0].status = OperationStatus::Parked { cause: Error::internal("x") };
        assert_ne!(of_task(&observed), Action::Leave);
    }
}

#[test]
fn a_task_directory_that_nothing_names_is_removed() {
    let subject = Subject::TaskDirectory(NONCE.to_owned());
    assert_eq!(action(&found(None, Some(true)), &subject), Action::Remove);
    assert_eq!(action(&found(Some(StoredPhase::Running), Some(true)), &subject), Action::Leave);
    for name in ["create_task", "start_process", "delete_task"] {
        let observed = with(found(None, Some(false)), [operation(1, intent_named(name))]);
        assert_eq!(action(&observed, &subject), Action::Leave, "{name}");
    }
    let observed = with(found(None, Some(false)), [operation(1, intent_named("pull"))]);
    assert_eq!(action(&observed, &subject), Action::Remove);
}

#[test]
fn a_snapshot_directory_that_nothing_names_is_removed() {
    let subject = Subject::SnapshotDirectory(OVERLAY.to_owned(), 7);
    let mut observed = found(None, None);
    observed.snapshot_directories.insert(OVERLAY.to_owned(), BTreeSet::from([7]));
    assert_eq!(action(&observed, &subject), Action::Remove);
    let named = Observed { snapshots: vec![snapshot("k", 7)], ..observed.clone() };
    assert_eq!(action(&named, &subject), Action::Leave);
    // The same number of another snapshotter names nothing here.
    let elsewhere = SnapshotRecord { snapshotter: "native".to_owned(), ..snapshot("k", 7) };
    assert_eq!(
        action(&Observed { snapshots: vec![elsewhere], ..observed.clone() }, &subject),
        Action::Remove
    );
    // A transfer of this life makes directories before rows name them.
    let young = Observed { first_directory_of_this_life: Some(7), ..observed.clone() };
    assert_eq!(action(&young, &subject), Action::Leave);
    let old = Observed { first_directory_of_this_life: Some(8), ..observed.clone() };
    assert_eq!(action(&old, &subject), Action::Remove);
    for name in ["prepare_snapshot", "remove_snapshot", "create_container", "delete_container", "apply_layer"]
    {
        let observed = with(observed.clone(), [operation(1, intent_named(name))]);
        assert_eq!(action(&observed, &subject), Action::Leave, "{name}");
    }
}

#[test]
fn an_active_snapshot_whose_directory_is_gone_is_made_again() {
    for kind in [SnapshotKind::Active, SnapshotKind::View] {
        let mut observed = found(None, None);
        observed.snapshots = vec![SnapshotRecord { kind, ..snapshot("k", 7) }];
        observed.snapshot_directories.insert(OVERLAY.to_owned(), BTreeSet::new());
        let subject = Subject::Snapshot(namespace(), OVERLAY.to_owned(), key());
        assert_eq!(action(&observed, &subject), Action::Remake);
    }
}

#[test]
fn a_committed_snapshot_whose_directory_is_gone_is_shown() {
    let mut observed = found(None, None);
    observed.snapshots = vec![SnapshotRecord { kind: SnapshotKind::Committed, ..snapshot("k", 7) }];
    observed.snapshot_directories.insert(OVERLAY.to_owned(), BTreeSet::new());
    let subject = Subject::Snapshot(namespace(), OVERLAY.to_owned(), key());
    assert!(parked(&action(&observed, &subject)));
    // Its making is taken back: nothing is lost that ever was.
    let making = with(observed.clone(), [operation(1, intent_named("prepare_snapshot"))]);
    assert!(plan(&making).decisions.iter().all(|decision| decision.subject != subject));
    // Made after the host was looked at.
    observed.first_directory_of_this_life = Some(7);
    assert_eq!(plan(&observed), Plan::default());
    observed.first_directory_of_this_life = Some(8);
    assert!(parked(&action(&observed, &subject)));
    // A snapshotter that could not be read proves nothing.
    observed.snapshot_directories.clear();
    assert_eq!(plan(&observed), Plan::default());
}

#[test]
fn a_checkpoint_is_taken_back_until_its_image_is_recorded_and_then_only_finished() {
    for boot in [BOOT, "before"] {
        for (recorded, wanted) in [(false, Action::Undo), (true, Action::RollForward)] {
            let open =
                OperationRecord { boot_id: boot.to_owned(), ..operation(1, checkpoint(NONCE, recorded)) };
            let observed = with(Observed { boot_id: BOOT.to_owned(), ..Observed::default() }, [open]);
            assert_eq!(action(&observed, &Subject::Operation(OperationId(1))), wanted);
        }
    }
    let lying = BTreeSet::from([NONCE.to_owned(), "bb".to_owned()]);
    let observed = Observed {
        checkpoint_directories: lying,
        tasks: vec![task(NONCE, StoredPhase::Running)],
        ..Observed::default()
    };
    let of = |nonce: &str| action(&observed, &Subject::CheckpointDirectory(nonce.to_owned()));
    assert_eq!((of(NONCE), of("bb")), (Action::Leave, Action::Remove));
}

#[test]
fn nothing_found_is_nothing_to_do() {
    assert_eq!(plan(&Observed::default()), Plan::default());
}

fn any_status() -> impl Strategy<Value = OperationStatus> {
    prop_oneof![
        Just(OperationStatus::Forward),
        Just(OperationStatus::Undoing { cause: Error::internal("x") }),
        Just(OperationStatus::Parked { cause: Error::internal("y") }),
    ]
}

fn any_boot() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(BOOT.to_owned()), 1 => Just("before".to_owned())]
}

fn any_phase() -> impl Strategy<Value = StoredPhase> {
    prop_oneof![
        Just(StoredPhase::Creating),
        Just(StoredPhase::Created),
        Just(StoredPhase::Running),
        Just(StoredPhase::Paused),
        Just(stopped()),
    ]
}

fn nonce_of(number: u8) -> String {
    format!("{number:02x}")
}

fn any_operations() -> impl Strategy<Value = Vec<OperationRecord>> {
    let one = (0_u8..6, 0_u64..6, 0_usize..15, any_boot(), any_status(), 0_u32..5);
    prop::collection::vec(one, 0..8).prop_map(|drawn| {
        let made =
            drawn.into_iter().zip(1..).map(|((nonce, directory, kind, boot_id, status, attempts), id)| {
                let intent = intents(&nonce_of(nonce), directory)[kind].clone();
                OperationRecord { boot_id, status, attempts, ..operation(id, intent) }
            });
        made.collect()
    })
}

/// At most one task for a container, as CTR-2 has it.
fn any_tasks() -> impl Strategy<Value = Vec<TaskRecord>> {
    prop::collection::btree_map(0_u8..6, (any_phase(), any_boot()), 0..5).prop_map(|drawn| {
        let made = drawn.into_iter().map(|(number, (phase, boot_id))| {
            let container = ContainerId::new(format!("c{number}")).expect("valid");
            TaskRecord { container, boot_id, ..task(&nonce_of(number), phase) }
        });
        made.collect()
    })
}

prop_compose! {
    fn anything()(
        operations in any_operations(),
        tasks in any_tasks(),
        rows in prop::collection::btree_set(0_u64..6, 0..5),
        directories in prop::collection::btree_set(0_u64..6, 0..6),
        task_directories in prop::collection::btree_map((0_u8..6).prop_map(nonce_of), any::<bool>(), 0..6),
        checkpoints in prop::collection::btree_set((0_u8..6).prop_map(nonce_of), 0..4),
        first in prop::option::of((1_u64..9).prop_map(OperationId)),
    ) -> Observed {
        Observed {
            checkpoint_directories: checkpoints,
            boot_id: BOOT.to_owned(),
            first_of_this_life: first,
            first_directory_of_this_life: None,
            operations,
            tasks,
            snapshots: rows.into_iter().map(|number| snapshot(&format!("s{number}"), number)).collect(),
            task_directories,
            snapshot_directories: BTreeMap::from([(OVERLAY.to_owned(), directories)]),
        }
    }
}

/// Everything that must be decided, by hand.
fn subjects(observed: &Observed) -> BTreeSet<Subject> {
    let operations = observed.operations.iter().map(|operation| Subject::Operation(operation.id));
    let tasks =
        observed.tasks.iter().map(|task| Subject::Task(task.namespace.clone(), task.container.clone()));
    let directories = observed.task_directories.keys().cloned().map(Subject::TaskDirectory);
    let snapshots = observed.snapshot_directories.iter().flat_map(|(snapshotter, numbers)| {
        numbers.iter().map(|number| Subject::SnapshotDirectory(snapshotter.clone(), *number))
    });
    let checkpoints = observed.checkpoint_directories.iter().cloned().map(Subject::CheckpointDirectory);
    operations.chain(tasks).chain(directories).chain(snapshots).chain(checkpoints).collect()
}

fn intents_text(observed: &Observed) -> String {
    format!("{:?}", observed.operations)
}

proptest! {
    #[test]
    fn everything_found_is_decided_exactly_once(observed in anything()) {
        let plan = plan(&observed);
        let decided: Vec<&Subject> = plan.decisions.iter().map(|decision| &decision.subject).collect();
        let unique: BTreeSet<&Subject> = decided.iter().copied().collect();
        prop_assert_eq!(unique.len(), decided.len());
        for subject in subjects(&observed) {
            prop_assert!(unique.contains(&subject), "{:?} is not decided", subject);
        }
        prop_assert_eq!(plan.count().values().sum::<usize>(), plan.decisions.len());
    }

    /// The order in which things were found says nothing.
    #[test]
    fn the_plan_depends_on_what_is_found_alone(observed in anything()) {
        let mut turned = observed.clone();
        turned.operations.reverse();
        turned.tasks.reverse();
        turned.snapshots.reverse();
        prop_assert_eq!(plan(&observed), plan(&turned));
    }

    /// I1: what a row or an open operation names is never removed from under it.
    #[test]
    fn only_what_nothing_names_is_removed(observed in anything()) {
        for decision in plan(&observed).decisions {
            if decision.action != Action::Remove {
                continue;
            }
            match decision.subject {
                Subject::TaskDirectory(nonce) | Subject::CheckpointDirectory(nonce) => {
                    prop_assert!(observed.tasks.iter().all(|task| task.nonce != nonce));
                    let named = intents_text(&observed).contains(&format!("nonce: {nonce:?}"));
                    prop_assert!(!named);
                }
                Subject::SnapshotDirectory(_, number) => {
                    prop_assert!(observed.snapshots.iter().all(|row| row.directory != number));
                    let named = intents_text(&observed).contains(&format!("directory: {number} "));
                    prop_assert!(!named);
                }
                other => prop_assert!(false, "{:?} is no thing of the host", other),
            }
        }
    }

    /// A task is ended unseen only by proof: another boot.
    #[test]
    fn only_a_reboot_ends_a_task_unseen(observed in anything()) {
        for decision in plan(&observed).decisions {
            if decision.action == Action::EndUnknown {
                let Subject::Task(_, id) = &decision.subject else { panic!("only tasks end") };
                let task = observed.tasks.iter().find(|task| task.container == *id).expect("it was found");
                prop_assert_ne!(&task.boot_id, &observed.boot_id);
            }
        }
    }
}
