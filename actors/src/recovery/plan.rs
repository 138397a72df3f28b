//! The decisions of recovery, as a function of values: every operation, every task and every thing on the host gets exactly one
//! decision, with its reason.
//!
//! | found | decision |
//! |---|---|
//! | an operation of this life of the daemon | left: whoever opened it drives it |
//! | a parked operation, or one tried in [`LIVES_MAX`] lives of the daemon | parked |
//! | an operation that was being taken back | taken back; a removal never is |
//! | making a snapshot, a copy of one, a container, a layer; applying one | taken back: its caller is gone and heard nothing |
//! | making a task | its shim lives: asked, finished if the task is made; else taken back |
//! | a checkpoint | its image is recorded: the task is let go; else it goes on as it was, and nothing is left |
//! | starting a process | closed: the task's actor asks the shim whether it started, or finds out how it ended |
//! | removing a task, a snapshot, a container, the files of garbage | finished |
//! | a pull, a push | resumed |
//! | starting a container again | adopted: the container's restart policy goes on with it |
//! | a task that was alive, of another boot | ended, unknown how: the machine was restarted |
//! | a task that an open operation makes or removes | left to the operation |
//! | any other task | adopted: its actor reattaches |
//! | a directory that a row or an operation names, or of this life | left |
//! | a directory that neither names | removed |
//! | a committed snapshot's row without its directory | parked: its bytes are lost, and that is shown |
//! | another snapshot's row without its directory | made again: it is not synced before the row is, and a power cut took it |

use std::collections::{BTreeMap, BTreeSet};

use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord};
use bosun_types::task::{StoredPhase, TaskRecord};
use bosun_types::{ContainerId, Error, NamespaceName, OperationId, SnapshotKey};

/// How often an operation may fail in one life of the daemon before it is parked (I11).
pub const ATTEMPTS_MAX: u32 = 3;
/// How often an operation is tried over the daemon's lives before it is parked: one that takes the daemon down must not do so for ever. More than
/// may fail, because a daemon that others kill now and then says nothing about what it was at.
pub const LIVES_MAX: u32 = 10;
/// How a process ended of which a reboot took every trace.
pub const MACHINE_RESTARTED: &str = "the machine was restarted";

/// What was found. Everything from the host was read before everything from the store.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// This boot.
    pub boot_id: String,
    /// Operations with this id or a later one were opened after the daemon started; `None`: all are old.
    pub first_of_this_life: Option<OperationId>,
    /// Snapshot directories with this number or a later one were made after the daemon started, by transfers perhaps, which make them
    /// before any row names them; `None`: all are old.
    pub first_directory_of_this_life: Option<u64>,
    /// Every open operation.
    pub operations: Vec<OperationRecord>,
    /// Every task's row.
    pub tasks: Vec<TaskRecord>,
    /// Every snapshot's row.
    pub snapshots: Vec<SnapshotRecord>,
    /// Nonces of all directories that hold checkpoints.
    pub checkpoint_directories: BTreeSet<String>,
    /// Nonce of every task directory; whether the shim that its beacon names lives.
    pub task_directories: BTreeMap<String, bool>,
    /// Directory numbers by snapshotter; a snapshotter that could not be read is absent, and nothing is concluded about it.
    pub snapshot_directories: BTreeMap<String, BTreeSet<u64>>,
}

/// What a decision is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An open operation.
    Operation(OperationId),
    /// A task's row.
    Task(NamespaceName, ContainerId),
    /// `<state>/tasks/<nonce>`.
    TaskDirectory(String),
    /// `<root>/checkpoints/<nonce>`.
    CheckpointDirectory(String),
    /// A directory of a snapshotter.
    SnapshotDirectory(String, u64),
    /// A snapshot's row whose directory is not there.
    Snapshot(NamespaceName, String, SnapshotKey),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run every step forward, then close it.
    RollForward,
    /// Take every step back, then close it.
    Undo,
    /// Ask the shim what is true, then finish what is done and take back what is not.
    AskShim,
    /// Nothing is left to do for it: close it.
    Close,
    /// Make the directory of a snapshot again, empty as it was.
    Remake,
    /// Hand it to the transfers, which go on where they stopped.
    Resume,
    /// Its actor reattaches on its own.
    Adopt,
    /// Record the end that nobody saw, with an event.
    EndUnknown,
    /// Show it, with its cause, and do nothing until someone asks.
    Park(Error),
    /// Nobody's: remove it.
    Remove,
    /// Somebody's: leave it.
    Leave,
}

/// The buckets of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Finished.
    RolledForward,
    /// Taken back.
    Undone,
    /// Adopted as it is.
    Adopted,
    /// In doubt, shown.
    Parked,
    /// An orphan, removed.
    Removed,
    /// Left to its owner.
    Left,
}

impl Action {
    /// Its bucket; `AskShim` is counted as adoption, because the shim's word is taken as it is.
    pub const fn bucket(&self) -> Bucket {
        match self {
            Self::RollForward | Self::Resume | Self::EndUnknown | Self::Remake => Bucket::RolledForward,
            Self::Undo => Bucket::Undone,
            Self::AskShim | Self::Adopt | Self::Close => Bucket::Adopted,
            Self::Park(_) => Bucket::Parked,
            Self::Remove => Bucket::Removed,
            Self::Leave => Bucket::Left,
        }
    }
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// About what.
    pub subject: Subject,
    /// What to do.
    pub action: Action,
    /// Why, for people.
    pub reason: &'static str,
}

/// Every decision, in the order in which they are carried out: operations by id, then tasks, then what lies about on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The decisions.
    pub decisions: Vec<Decision>,
}

impl Plan {
    /// How many decisions are in each bucket.
    pub fn count(&self) -> BTreeMap<Bucket, usize> {
        self.decisions.iter().fold(BTreeMap::new(), |mut count, decision| {
            *count.entry(decision.action.bucket()).or_default() += 1;
            count
        })
    }
}

/// Decides. Total, deterministic, without effects.
pub fn plan(observed: &Observed) -> Plan {
    let claims = Claims::of(observed);
    let mut decisions = BTreeMap::new();
    let mut decide = |subject, (action, reason)| {
        decisions.insert(subject, (action, reason));
    };
    for operation in &observed.operations {
        decide(Subject::Operation(operation.id), decide_operation(observed, &claims, operation));
    }
    for task in &observed.tasks {
        let subject = Subject::Task(task.namespace.clone(), task.container.clone());
        decide(subject, decide_task(observed, &claims, task));
    }
    for nonce in observed.task_directories.keys() {
        let named = claims.nonces.contains(nonce.as_str());
        decide(Subject::TaskDirectory(nonce.clone()), orphan_unless(named));
    }
    for nonce in &observed.checkpoint_directories {
        let named = claims.nonces.contains(nonce.as_str());
        decide(Subject::CheckpointDirectory(nonce.clone()), orphan_unless(named));
    }
    for (snapshotter, directories) in &observed.snapshot_directories {
        for directory in directories {
            let young = observed.first_directory_of_this_life.is_some_and(|first| *directory >= first);
            let named = young || claims.directories.contains(&(snapshotter.as_str(), *directory));
            decide(Subject::SnapshotDirectory(snapshotter.clone(), *directory), orphan_unless(named));
        }
    }
    for row in &observed.snapshots {
        if let Some(decision) = decide_snapshot(observed, &claims, row) {
            decide(
                Subject::Snapshot(row.namespace.clone(), row.snapshotter.clone(), row.key.clone()),
                decision,
            );
        }
    }
    let decisions = decisions.into_iter();
    Plan {
        decisions: decisions
            .map(|(subject, (action, reason))| Decision { subject, action, reason })
            .collect(),
    }
}

type Decided = (Action, &'static str);

/// What rows and operations say is theirs.
struct Claims<'a> {
    /// Of task directories.
    nonces: BTreeSet<&'a str>,
    /// Of snapshot directories.
    directories: BTreeSet<(&'a str, u64)>,
    /// Snapshot directories that an open operation makes or removes.
    in_work: BTreeSet<(&'a str, u64)>,
    /// Nonces of tasks that an open operation makes.
    in_making: BTreeSet<&'a str>,
    /// Nonces of tasks that an open operation removes, unless it was given up.
    in_removal: BTreeSet<&'a str>,
    /// Rows by nonce.
    tasks: BTreeMap<&'a str, &'a TaskRecord>,
}

impl<'a> Claims<'a> {
    fn of(observed: &'a Observed) -> Self {
        let tasks: BTreeMap<_, _> = observed.tasks.iter().map(|task| (task.nonce.as_str(), task)).collect();
        let mut nonces: BTreeSet<_> = tasks.keys().copied().collect();
        let mut directories: BTreeSet<_> =
            observed.snapshots.iter().map(|row| (row.snapshotter.as_str(), row.directory)).collect();
        let (mut in_work, mut in_making, mut in_removal) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for operation in &observed.operations {
            match &operation.intent {
                Intent::PrepareSnapshot { snapshotter, directory, .. }
                | Intent::RemapSnapshot { snapshotter, directory, .. }
                | Intent::RemoveSnapshot { snapshotter, directory, .. }
                | Intent::CreateContainer { snapshotter, directory, .. }
                | Intent::DeleteContainer { snapshotter, directory, .. }
                | Intent::ApplyLayer { snapshotter, directory, .. } => {
                    in_work.insert((snapshotter.as_str(), *directory));
                }
                Intent::Collect { directories: named, .. } => {
                    in_work.extend(
                        named.iter().map(|(snapshotter, directory)| (snapshotter.as_str(), *directory)),
                    );
                }
                Intent::CreateTask { nonce, .. } => {
                    in_making.insert(nonce.as_str());
                    nonces.insert(nonce);
                }
                Intent::DeleteTask { nonce, .. } => {
                    if !matches!(operation.status, OperationStatus::Parked { .. }) {
                        in_removal.insert(nonce.as_str());
                    }
                    nonces.insert(nonce);
                }
                Intent::StartProcess { nonce, .. }
                | Intent::Checkpoint { nonce, .. }
                | Intent::HoldTask { nonce, .. } => {
                    nonces.insert(nonce);
                }
                // The steps of a relaunch have intents of their own.
                Intent::Pull { .. }
                | Intent::Push { .. }
                | Intent::FetchObject { .. }
                | Intent::PushObject { .. }
                | Intent::MakeLayer { .. }
                | Intent::Relaunch { .. } => {}
            }
        }
        directories.extend(&in_work);
        Self { nonces, directories, in_work, in_making, in_removal, tasks }
    }
}

fn decide_operation(observed: &Observed, claims: &Claims<'_>, operation: &OperationRecord) -> Decided {
    if observed.first_of_this_life.is_some_and(|first| operation.id >= first) {
        return (Action::Leave, "opened after the daemon started: whoever opened it drives it");
    }
    match &operation.status {
        OperationStatus::Parked { cause } => {
            (Action::Park(cause.clone()), "parked before; it waits for a person")
        }
        OperationStatus::Forward | OperationStatus::Undoing { .. }
            if operation.attempts >= LIVES_MAX && !has_limits_of_its_own(&operation.intent) =>
        {
            let name = operation.intent.name();
            let cause = Error::internal(format!(
                "{name}: recovery gave up after {LIVES_MAX} tries, none of which the daemon outlived"
            ));
            (Action::Park(cause), "tried too often")
        }
        OperationStatus::Undoing { .. } if !removes(&operation.intent) => {
            (Action::Undo, "it was being taken back")
        }
        OperationStatus::Forward | OperationStatus::Undoing { .. } => {
            decide_intent(observed, claims, operation)
        }
    }
}

/// A relaunch goes back to its container's restart policy, which counts the lives of the daemon that it is tried in (`relaunch::actor`).
fn has_limits_of_its_own(intent: &Intent) -> bool {
    matches!(intent, Intent::Relaunch { .. })
}

fn decide_intent(observed: &Observed, claims: &Claims<'_>, operation: &OperationRecord) -> Decided {
    let same_boot = operation.boot_id == observed.boot_id;
    match &operation.intent {
        Intent::PrepareSnapshot { .. }
        | Intent::CreateContainer { .. }
        | Intent::MakeLayer { .. }
        | Intent::ApplyLayer { .. }
        | Intent::RemapSnapshot { .. } => {
            (Action::Undo, "whoever asked for it heard nothing: it was never there")
        }
        Intent::RemoveSnapshot { .. }
        | Intent::DeleteContainer { .. }
        | Intent::DeleteTask { .. }
        | Intent::Collect { .. } => (Action::RollForward, "a removal that was begun is finished"),
        Intent::Pull { .. } | Intent::FetchObject { .. } => {
            (Action::Resume, "what was fetched is kept; the rest is fetched now")
        }
        Intent::Push { .. } | Intent::PushObject { .. } => {
            (Action::Resume, "what the registry has is there; the rest is sent now")
        }
        Intent::CreateTask { nonce, .. } => match (same_boot, shim_lives(observed, nonce)) {
            (true, true) if claims.tasks.contains_key(nonce.as_str()) => {
                (Action::AskShim, "its shim lives: finished if it has made the task, else taken back")
            }
            (true, true) => (Action::Undo, "its shim lives, but no row knows the task"),
            (true, false) => (Action::Undo, "no shim of it lives"),
            (false, _) => (Action::Undo, "it is of another boot: nothing of it lives"),
        },
        Intent::Relaunch { .. } => {
            (Action::Adopt, "its container's restart policy goes on with it, once its parts are settled")
        }
        Intent::Checkpoint { recorded: true, .. } => {
            (Action::RollForward, "its image is recorded: the task is let go as was asked")
        }
        Intent::Checkpoint { .. } => (Action::Undo, "whoever asked for it heard nothing: the task goes on"),
        Intent::HoldTask { .. } => (Action::Undo, "what it was frozen for is over: the task goes on"),
        Intent::StartProcess { .. } => {
            (Action::Close, "its task's actor asks the shim whether it started, or finds out how it ended")
        }
    }
}

const fn removes(intent: &Intent) -> bool {
    matches!(
        intent,
        Intent::RemoveSnapshot { .. }
            | Intent::DeleteContainer { .. }
            | Intent::DeleteTask { .. }
            | Intent::Collect { .. }
    )
}

fn decide_task(observed: &Observed, claims: &Claims<'_>, task: &TaskRecord) -> Decided {
    let in_making = claims.in_making.contains(task.nonce.as_str());
    match (&task.phase, task.boot_id == observed.boot_id) {
        // Before the boot is asked about: an operation that makes the task takes its row along, and two hands would be one too many.
        (StoredPhase::Creating, _) if in_making => (Action::Leave, "the operation that makes it decides"),
        _ if claims.in_removal.contains(task.nonce.as_str()) => {
            (Action::Leave, "the operation that removes it decides")
        }
        (StoredPhase::Creating, _) => {
            let cause =
                Error::internal(format!("task {}: being made, but no operation makes it", task.container));
            (Action::Park(cause), "a row without its operation: the two are written together")
        }
        (StoredPhase::Stopped(_), _) => (Action::Adopt, "it has ended; its row says how"),
        (StoredPhase::Created | StoredPhase::Running | StoredPhase::Paused, true) => {
            (Action::Adopt, "its actor reattaches, or finds out what became of it")
        }
        (StoredPhase::Created | StoredPhase::Running | StoredPhase::Paused, false) => {
            (Action::EndUnknown, MACHINE_RESTARTED)
        }
    }
}

fn decide_snapshot(observed: &Observed, claims: &Claims<'_>, row: &SnapshotRecord) -> Option<Decided> {
    let there = observed.snapshot_directories.get(&row.snapshotter)?;
    let in_work = claims.in_work.contains(&(row.snapshotter.as_str(), row.directory));
    // A young one may have been made after the host was looked at.
    let young = observed.first_directory_of_this_life.is_some_and(|first| row.directory >= first);
    if in_work || young || there.contains(&row.directory) {
        return None;
    }
    if row.kind != SnapshotKind::Committed {
        return Some((Action::Remake, "a power cut took its directory, which was not synced yet"));
    }
    let cause = Error::internal(format!("snapshot {}: directory {} is not there", row.key, row.directory));
    Some((Action::Park(cause), "its bytes are lost"))
}

fn shim_lives(observed: &Observed, nonce: &str) -> bool {
    observed.task_directories.get(nonce).copied().unwrap_or(false)
}

fn orphan_unless(named: bool) -> Decided {
    if named {
        (Action::Leave, "a row or an operation names it, or it is of this life")
    } else {
        (
            Action::Remove,
            "no row and no operation names it: the daemon that made it never said so durably, or took it back",
        )
    }
}

#[cfg(test)]
mod tests;
