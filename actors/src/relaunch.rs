//! Restart policies: an actor for each container that has one, or that was ever stopped or started by name.
//!
//! **Owns** the container's row of the table `relaunches`: policy, count, back-off, a person's stop. Nobody else writes it.
//! **Phases**: see [`decide`].
//! **Supervised** by its container's supervisor, permanent. **After a restart**, of itself or of the daemon, it reads its row and the task's and goes on: an end
//! that its row does not know is told to it then, an attempt that was cut off is carried on, a back-off runs to its time. So a kill at any
//! instant neither forgets a relaunch nor does one twice.
//! **Operations**: `relaunch` ([`attempt`]), whose steps are the task's own operations.
//!
//! The task's actor says "look" when something has become of the task (casts go up); the truth is in the rows, so a lost word loses nothing
//! that the next one does not bring.

mod actor;
mod attempt;
mod decide;

use std::time::Duration;

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::call::CallId;
use bosun_types::group::MemberName;
use bosun_types::relaunch::{
    RelaunchInfo, RelaunchRecord, RestartPolicy, RestartWhen, STOP_TIMEOUT_MS, StopRequest, stopped_by_labels,
};
use bosun_types::task::ExitStatus;
use bosun_types::{ContainerId, Error, Labels, NamespaceName, Result};
use ractor::{ActorRef, RpcReplyPort};

use crate::ask::ask;
use crate::core::{Core, Shared};
use crate::directory::Name;
use crate::{call, containers, group, tree};

pub(crate) use actor::spec;
pub(crate) use decide::exceeds;

/// Requests under way at one policy.
const WAITING_MAX: usize = 256;
/// Longest time that a stop may give, in milliseconds: a day.
const STOP_TIMEOUT_MS_MAX: u64 = 24 * 3600 * 1000;

/// What a policy is told.
pub enum RelaunchMessage {
    /// That message, a wish, for a client's call with a key.
    For(CallId, Box<RelaunchMessage>),
    /// Something has become of the task: look.
    Look,
    /// A person wants it to run; answered with the pid.
    Start(RpcReplyPort<Result<u32>>),
    /// A person wants it to end; answered with how it did.
    Stop(StopRequest, RpcReplyPort<Result<Option<ExitStatus>>>),
    /// Both, in order.
    Restart(StopRequest, RpcReplyPort<Result<u32>>),
    /// A start or restart that was asked for before: answered as that one.
    TellStart(RpcReplyPort<Result<u32>>),
    /// The same of a stop.
    TellStop(RpcReplyPort<Result<Option<ExitStatus>>>),
    /// A person is about to end it by other means, or removes its task.
    Mark(RpcReplyPort<Result<()>>),
    /// Another policy.
    SetPolicy(RestartPolicy, RpcReplyPort<Result<()>>),
    /// The container is about to be removed: begin nothing more. FailedPrecondition: something is under way.
    Retire(RpcReplyPort<Result<()>>),
    /// It was not removed after all.
    Unretire,
    /// Own timer.
    Tick,
    /// Own worker: an attempt is over.
    Performed(Result<(), crate::operation::Failure>),
}

type Ask<R> = RpcReplyPort<Result<R>>;

/// The row of a container, if there is one.
pub(crate) fn record(
    core: &Core,
    namespace: &NamespaceName,
    id: &ContainerId,
) -> Result<Option<RelaunchRecord>> {
    Ok(core.store.get(&key::relaunch(namespace, id))?)
}

/// Every policy of a namespace, as it is shown.
pub(crate) fn list(core: &Core, namespace: &NamespaceName) -> Result<Vec<RelaunchInfo>> {
    let records: Vec<RelaunchRecord> = core.store.scan(&key::within(namespace))?;
    Ok(records.iter().map(RelaunchRecord::info).collect())
}

/// The row of a container that is being made: of its request's policy, or of what the ecosystem's labels say (RST-1).
pub(crate) fn first_record(
    namespace: &NamespaceName,
    id: &ContainerId,
    given: Option<RestartPolicy>,
    labels: &Labels,
) -> Result<Option<RelaunchRecord>> {
    let policy = match given {
        Some(policy) => policy,
        None => match RestartPolicy::from_labels(labels)? {
            Some(policy) => policy,
            None => return Ok(None),
        },
    };
    policy.check()?;
    let mut record = RelaunchRecord::new(namespace.clone(), id.clone(), policy);
    record.state.stopped = stopped_by_labels(labels);
    Ok(Some(record))
}

/// What goes with a container's record.
pub(crate) fn drop_row(batch: &mut Batch, namespace: &NamespaceName, id: &ContainerId) {
    batch.delete::<RelaunchRecord>(key::relaunch(namespace, id));
}

fn name_of(namespace: &NamespaceName, id: &ContainerId) -> Name {
    Name::Relaunch(namespace.clone(), id.clone())
}

fn find(core: &Core, namespace: &NamespaceName, id: &ContainerId) -> Option<ActorRef<RelaunchMessage>> {
    core.directory.find(&name_of(namespace, id))
}

/// Something has become of the container's task.
pub(crate) fn look(core: &Core, namespace: &NamespaceName, id: &ContainerId) {
    if let Some(actor) = find(core, namespace, id) {
        // It fails only when the actor has ended: the next one looks first of all.
        let _ = actor.send_message(RelaunchMessage::Look);
    }
    group::look(core, namespace, &MemberName::Container(id.clone()));
}

async fn ask_it<R: Send + 'static>(
    core: &Shared,
    namespace: &NamespaceName,
    id: &ContainerId,
    message: impl FnOnce(Ask<R>) -> RelaunchMessage,
    deadline: Duration,
) -> Result<R> {
    let name = name_of(namespace, id);
    let actor: ActorRef<RelaunchMessage> = core.directory.require(&name)?;
    let _place = core.directory.admit(&name, WAITING_MAX)?;
    let of_call = |message| match call::current() {
        Some(call) => RelaunchMessage::For(call, Box::new(message)),
        None => message,
    };
    let asked = ask(&actor, |reply| of_call(message(reply)), deadline).await;
    asked.map_err(|error| error.context(format!("container {id}")))?
}

/// Before a person's signal or removal, where there is a policy: what follows is no failure.
pub(crate) async fn mark(core: &Shared, namespace: &NamespaceName, id: &ContainerId) -> Result<()> {
    if group::of_container(core, namespace, id).is_some() {
        // Whoever kills a member sees its group at work; who wants it down stops it.
        return Ok(());
    }
    match find(core, namespace, id) {
        None => Ok(()),
        Some(_) => ask_it(core, namespace, id, RelaunchMessage::Mark, containers_deadline()).await,
    }
}

/// Before the container is removed.
pub(crate) async fn retire(core: &Shared, namespace: &NamespaceName, id: &ContainerId) -> Result<()> {
    match find(core, namespace, id) {
        None => Ok(()),
        Some(_) => ask_it(core, namespace, id, RelaunchMessage::Retire, containers_deadline()).await,
    }
}

/// It stays.
pub(crate) fn unretire(core: &Core, namespace: &NamespaceName, id: &ContainerId) {
    if let Some(actor) = find(core, namespace, id) {
        let _ = actor.send_message(RelaunchMessage::Unretire);
    }
}

/// What is answered from rows and one commit.
const fn containers_deadline() -> Duration {
    crate::namespaces::DEADLINE
}

/// How long a start may take: the old task goes, the new one comes.
const START_DEADLINE: Duration = Duration::from_secs(180);

fn stop_deadline(request: &StopRequest) -> Duration {
    Duration::from_millis(request.timeout_ms.unwrap_or(STOP_TIMEOUT_MS)) + START_DEADLINE
}

/// A container's policy, for the container's handle.
pub(crate) struct Relauncher<'a> {
    pub core: &'a Shared,
    pub namespace: &'a NamespaceName,
    pub id: &'a ContainerId,
}

impl Relauncher<'_> {
    /// Its actor is there, from now on.
    async fn ensure(&self) -> Result<()> {
        containers::get(self.core, self.namespace, self.id)?;
        if find(self.core, self.namespace, self.id).is_none() {
            tree::start_relaunch(self.core, self.namespace, self.id).await?;
        }
        Ok(())
    }

    async fn ask<R: Send + 'static>(
        &self,
        message: impl FnOnce(Ask<R>) -> RelaunchMessage,
        deadline: Duration,
    ) -> Result<R> {
        self.ensure().await?;
        ask_it(self.core, self.namespace, self.id, message, deadline).await
    }

    pub(crate) async fn start(&self) -> Result<u32> {
        self.core.host.expect_container();
        self.ask(RelaunchMessage::Start, START_DEADLINE).await
    }

    pub(crate) async fn stop(&self, request: StopRequest) -> Result<Option<ExitStatus>> {
        check(&request)?;
        self.ask(|reply| RelaunchMessage::Stop(request, reply), stop_deadline(&request)).await
    }

    pub(crate) async fn restart(&self, request: StopRequest) -> Result<u32> {
        check(&request)?;
        self.ask(|reply| RelaunchMessage::Restart(request, reply), stop_deadline(&request)).await
    }

    /// What came of a start or a restart that was asked for before.
    pub(crate) async fn started(&self) -> Result<u32> {
        self.ask(RelaunchMessage::TellStart, stop_deadline(&StopRequest::default())).await
    }

    /// What came of a stop that was asked for before.
    pub(crate) async fn stopped(&self, request: &StopRequest) -> Result<Option<ExitStatus>> {
        self.ask(RelaunchMessage::TellStop, stop_deadline(request)).await
    }

    pub(crate) async fn set_policy(&self, policy: RestartPolicy) -> Result<()> {
        policy.check()?;
        if let Some(group) = group::of_container(self.core, self.namespace, self.id)
            && policy.when != RestartWhen::No
        {
            let error = Error::failed_precondition(format!(
                "container {} is in group {group}, which starts it again",
                self.id
            ));
            return Err(error.with_hint("a container has a policy or a group"));
        }
        self.ask(|reply| RelaunchMessage::SetPolicy(policy, reply), containers_deadline()).await
    }
}

fn check(request: &StopRequest) -> Result<()> {
    if request.timeout_ms.is_some_and(|timeout| timeout > STOP_TIMEOUT_MS_MAX) {
        return Err(
            Error::invalid_argument("a stop may take a day at most").with_hint("give a shorter time-out")
        );
    }
    match request.signal {
        Some(signal) if !(1..=64).contains(&signal) => {
            Err(Error::invalid_argument(format!("signal {signal} does not exist")).with_hint("use 1 to 64"))
        }
        _ => Ok(()),
    }
}
