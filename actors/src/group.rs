//! Groups: containers, and other groups, supervised together: one_for_one, one_for_all, rest_for_one, with an intensity.
//!
//! **Owns** the group's row of the table `groups`: what was asked for, the phase, which ends were taken into account. Nobody else writes it.
//! **Phases**: see [`decide`]; what to do when a member ends is the supervisor's own table ([`crate::supervisor::decide`]).
//! **Supervised** by its namespace's `groups`, a dynamic supervisor beside `containers`; permanent. **After a restart**, of itself or of the daemon, it reads
//! its row, looks at its members' rows, and goes on: which act is next follows from the two alone.
//! **Operations**: `start_member` and `stop_member` ([`act`]), whose intent is the row itself; what they do is the member's own operation, which its own
//! actor logs and finishes. See ADR 0025.
//!
//! One act at a time: members start in order and stop in reverse order, each when the one before it has.

mod act;
mod actor;
mod decide;

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bosun_storage::batch::Batch;
use bosun_storage::key::{self, Key};
use bosun_types::call::CallId;
use bosun_types::event::Event;
use bosun_types::group::{GroupInfo, GroupPhase, GroupRecord, GroupSpec, GroupState, MemberName};
use bosun_types::relaunch::RestartWhen;
use bosun_types::task::StoredPhase;
use bosun_types::{ContainerId, Error, GroupName, NamespaceName, Result, Timestamp};
use ractor::{ActorRef, RpcReplyPort};

use crate::ask::ask;
use crate::core::{Core, Shared};
use crate::directory::Name;
use crate::namespaces::DEADLINE;
use crate::writer::write;
use crate::{call, containers, relaunch, task, tree};

pub(crate) use actor::spec;

/// Requests under way at one group.
const WAITING_MAX: usize = 64;
/// How long a group may take to come up or go down: members one after the other, an hour each at most, but nobody waits for days.
const ACT_DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// What a group is told.
pub enum GroupMessage {
    /// Something has become of a member: look.
    Look,
    /// A person wants it up; answered when every member was started. For that call, if it has a key.
    Start(Option<CallId>, RpcReplyPort<Result<()>>),
    /// A person wants it down; answered when every member is.
    Stop(Option<CallId>, RpcReplyPort<Result<()>>),
    /// A start that was asked for before: answered as that one.
    TellStart(RpcReplyPort<Result<()>>),
    /// The same of a stop.
    TellStop(RpcReplyPort<Result<()>>),
    /// Own worker: an act is over.
    Acted(decide::ActDone),
}

/// Which group a member is in: an end is told to the group that it concerns.
#[derive(Default)]
pub struct Memberships {
    groups: RwLock<BTreeMap<(NamespaceName, MemberName), GroupName>>,
}

impl Memberships {
    /// Of every group there is.
    pub(crate) fn read(store: &bosun_storage::store::Store) -> Self {
        let memberships = Self::default();
        let records: Vec<GroupRecord> = store.scan(&Key::all()).unwrap_or_else(|error| {
            tracing::error!(%error, "the groups cannot be read");
            Vec::new()
        });
        records.iter().for_each(|record| memberships.add(record));
        memberships
    }

    fn add(&self, record: &GroupRecord) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        for member in &record.spec.members {
            groups.insert((record.namespace.clone(), member.name.clone()), record.spec.name.clone());
        }
    }

    fn remove(&self, record: &GroupRecord) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        for member in &record.spec.members {
            groups.remove(&(record.namespace.clone(), member.name.clone()));
        }
    }

    fn of(&self, namespace: &NamespaceName, member: &MemberName) -> Option<GroupName> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(&(namespace.clone(), member.clone())).cloned()
    }
}

/// The group that a container is a member of.
pub(crate) fn of_container(core: &Core, namespace: &NamespaceName, id: &ContainerId) -> Option<GroupName> {
    core.memberships.of(namespace, &MemberName::Container(id.clone()))
}

/// Something has become of a member.
pub(crate) fn look(core: &Core, namespace: &NamespaceName, member: &MemberName) {
    if let Some(group) = core.memberships.of(namespace, member)
        && let Some(actor) = find(core, namespace, &group)
    {
        // It fails only when the actor has ended: the next one looks first of all.
        let _ = actor.send_message(GroupMessage::Look);
    }
}

fn name_of(namespace: &NamespaceName, name: &GroupName) -> Name {
    Name::Group(namespace.clone(), name.clone())
}

fn find(core: &Core, namespace: &NamespaceName, name: &GroupName) -> Option<ActorRef<GroupMessage>> {
    core.directory.find(&name_of(namespace, name))
}

pub(crate) fn record(
    core: &Core,
    namespace: &NamespaceName,
    name: &GroupName,
) -> Result<Option<GroupRecord>> {
    Ok(core.store.get(&key::group(namespace, name))?)
}

fn get(core: &Core, namespace: &NamespaceName, name: &GroupName) -> Result<GroupRecord> {
    let missing = || Error::not_found(format!("group {name} in namespace {namespace}"));
    record(core, namespace, name)?.ok_or_else(missing)
}

/// A namespace's groups.
#[derive(Clone)]
pub struct GroupsHandle {
    core: Shared,
    namespace: NamespaceName,
}

impl GroupsHandle {
    pub(crate) fn new(core: Shared, namespace: NamespaceName) -> Self {
        Self { core, namespace }
    }

    /// Makes a group of what there is: stopped, until it is started. Errors: AlreadyExists, NotFound (a member), InvalidArgument,
    /// FailedPrecondition (a member is in another group, or has a restart policy of its own).
    pub async fn create(&self, spec: GroupSpec) -> Result<GroupInfo> {
        spec.check()?;
        tree::ensure_namespace(&self.core, &self.namespace).await?;
        let (namespace, name) = (self.namespace.clone(), Name::Namespace(self.namespace.clone()));
        write(&self.core, &name, DEADLINE, move |core| async move { create(&core, namespace, spec).await })
            .await
    }

    /// All groups, by name.
    pub async fn list(&self) -> Result<Vec<GroupInfo>> {
        let records: Vec<GroupRecord> = self.core.store.scan(&key::within(&self.namespace))?;
        records.iter().map(|record| info(&self.core, record)).collect()
    }

    /// One group; whether it exists shows with the first call.
    pub fn get(&self, name: GroupName) -> GroupHandle {
        GroupHandle { core: self.core.clone(), namespace: self.namespace.clone(), name }
    }
}

/// One group.
#[derive(Clone)]
pub struct GroupHandle {
    core: Shared,
    namespace: NamespaceName,
    name: GroupName,
}

impl GroupHandle {
    pub(crate) fn new(core: Shared, namespace: NamespaceName, name: GroupName) -> Self {
        Self { core, namespace, name }
    }

    /// As it is.
    pub async fn info(&self) -> Result<GroupInfo> {
        info(&self.core, &get(&self.core, &self.namespace, &self.name)?)
    }

    /// Starts its members in order, those that run already excepted; returns when all were started. Idempotent.
    pub async fn start(&self) -> Result<()> {
        let call = call::current();
        self.ask(|reply| GroupMessage::Start(call, reply)).await
    }

    /// What came of a start that was asked for before.
    pub async fn started(&self) -> Result<()> {
        self.ask(GroupMessage::TellStart).await
    }

    /// Stops its members in reverse order, each with its own time; returns when all have ended. Idempotent.
    pub async fn stop(&self) -> Result<()> {
        let call = call::current();
        self.ask(|reply| GroupMessage::Stop(call, reply)).await
    }

    /// What came of a stop that was asked for before.
    pub async fn stopped(&self) -> Result<()> {
        self.ask(GroupMessage::TellStop).await
    }

    /// Removes it; its members stay. FailedPrecondition unless it is down.
    pub async fn delete(&self) -> Result<()> {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        let writer = Name::Namespace(namespace.clone());
        write(&self.core, &writer, DEADLINE, move |core| async move { delete(&core, namespace, name).await })
            .await
    }

    async fn ask(&self, message: impl FnOnce(RpcReplyPort<Result<()>>) -> GroupMessage) -> Result<()> {
        get(&self.core, &self.namespace, &self.name)?;
        let name = name_of(&self.namespace, &self.name);
        let actor: ActorRef<GroupMessage> = self.core.directory.require(&name)?;
        let _place = self.core.directory.admit(&name, WAITING_MAX)?;
        ask(&actor, message, ACT_DEADLINE)
            .await
            .map_err(|error| error.context(format!("group {}", self.name)))?
    }
}

async fn create(core: &Shared, namespace: NamespaceName, spec: GroupSpec) -> Result<GroupInfo> {
    let what = format!("group {}", spec.name);
    if record(core, &namespace, &spec.name)?.is_some() {
        return Err(Error::already_exists(format!("{what} in namespace {namespace}"))
            .with_hint(format!("`bosun group rm {}` removes it", spec.name)));
    }
    for member in &spec.members {
        check_member(core, &namespace, &member.name).map_err(|error| error.context(what.clone()))?;
    }
    let record = GroupRecord {
        namespace: namespace.clone(),
        spec,
        state: GroupState::default(),
        created_at: Timestamp::now(),
    };
    let mut batch = Batch::new();
    core.ensure_namespace(&mut batch, &namespace)?;
    batch.put(&record).publish(&namespace, Event::GroupCreate { name: record.spec.name.clone() });
    core.commit(batch).await?;
    core.memberships.add(&record);
    tree::start_group(core, &namespace, &record.spec.name).await?;
    info(core, &record)
}

fn check_member(core: &Core, namespace: &NamespaceName, member: &MemberName) -> Result<()> {
    if let Some(other) = core.memberships.of(namespace, member) {
        return Err(Error::failed_precondition(format!("{member} is in group {other}"))
            .with_hint(format!("a group can be a member of a group: name @{other}")));
    }
    match member {
        MemberName::Group(name) => get(core, namespace, name).map(drop),
        MemberName::Container(id) => {
            containers::get(core, namespace, id)?;
            match relaunch::record(core, namespace, id)? {
                Some(record) if record.policy.when != RestartWhen::No => Err(Error::failed_precondition(
                    format!("container {id} has a restart policy of its own, {}", record.policy.when),
                )
                .with_hint(format!("`bosun update --restart no {id}`: its group starts it again"))),
                _ => Ok(()),
            }
        }
    }
}

async fn delete(core: &Shared, namespace: NamespaceName, name: GroupName) -> Result<()> {
    get(core, &namespace, &name)?;
    if let Some(parent) = core.memberships.of(&namespace, &MemberName::Group(name.clone())) {
        return Err(Error::failed_precondition(format!("group {name} is in group {parent}"))
            .with_hint(format!("`bosun group rm {parent}` first")));
    }
    // Without its actor nobody starts it between the look and the commit.
    tree::stop_group(core, &namespace, &name).await?;
    let record = get(core, &namespace, &name)?;
    if !matches!(record.state.phase, GroupPhase::Stopped | GroupPhase::Failed { .. }) {
        tree::start_group(core, &namespace, &name).await?;
        let status = record.state.phase.status();
        return Err(Error::failed_precondition(format!("group {name} is {status}"))
            .with_hint(format!("`bosun group stop {name}` first")));
    }
    let mut batch = Batch::new();
    batch.delete::<GroupRecord>(key::group(&namespace, &name));
    batch.publish(&namespace, Event::GroupDelete { name });
    core.commit(batch).await?;
    core.memberships.remove(&record);
    Ok(())
}

/// As it is shown, from rows alone.
fn info(core: &Core, record: &GroupRecord) -> Result<GroupInfo> {
    let cause = match &record.state.phase {
        GroupPhase::Failed { cause } => Some(cause.clone()),
        GroupPhase::Stopping { failure } => failure.clone(),
        GroupPhase::Stopped | GroupPhase::Starting(_) | GroupPhase::Up => None,
    };
    let members = record.spec.members.iter().map(|member| words(core, &record.namespace, &member.name));
    Ok(GroupInfo {
        spec: record.spec.clone(),
        status: record.state.phase.status(),
        cause,
        restarts: record.state.restarts,
        created_at: record.created_at,
        members: members.collect::<Result<_>>()?,
    })
}

fn words(core: &Core, namespace: &NamespaceName, member: &MemberName) -> Result<String> {
    let nothing = || "-".to_owned();
    Ok(match member {
        MemberName::Group(name) => record(core, namespace, name)?
            .map_or_else(nothing, |group| group.state.phase.status().to_string()),
        MemberName::Container(id) => match task::record(core, namespace, id)?.map(|task| task.phase) {
            None => nothing(),
            Some(StoredPhase::Creating) => "creating".to_owned(),
            Some(StoredPhase::Created) => "created".to_owned(),
            Some(StoredPhase::Running) => "running".to_owned(),
            Some(StoredPhase::Paused) => "paused".to_owned(),
            Some(StoredPhase::Stopped(exit)) => decide::exit_words(&exit),
        },
    })
}
