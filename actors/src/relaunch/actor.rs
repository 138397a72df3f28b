//! The policy's actor: feeds [`super::decide::next`], commits what it says, and pursues the phase it is in.

mod attempts;
mod wishes;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bosun_runtime::task_directory;
use bosun_storage::batch::Batch;
use bosun_types::call::CallId;
use bosun_types::event::Event;
use bosun_types::operation::Intent;
use bosun_types::relaunch::{Attempt, Heritage, RelaunchPhase, RelaunchRecord, RestartPolicy};
use bosun_types::signal;
use bosun_types::task::{ExitStatus, KillTarget, StoredPhase, TaskRecord};
use bosun_types::{CallKey, ContainerId, Error, NamespaceName, Result, Timestamp};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::decide::{Decided, Input, later, next};
use super::{Ask, RelaunchMessage, name_of};
use crate::call;
use crate::core::Shared;
use crate::operation;
use crate::supervisor::{ChildSpec, RestartType, WORKER_SHUTDOWN};
use crate::task::{self, TaskHandle};

/// Between two kills of a container that does not end.
const KILL_AGAIN: Duration = Duration::from_secs(1);
/// Longest sleep between two looks at the clock, so that a clock that is set does not make a back-off last.
const NAP: Duration = Duration::from_secs(1);

struct RelaunchActor;

struct Data {
    core: Shared,
    me: ActorRef<RelaunchMessage>,
    record: RelaunchRecord,
    /// A worker performs the attempt of the row.
    working: Option<Arc<Mutex<u32>>>,
    /// The container is being removed.
    retired: bool,
    /// A stop that is under way was begun before this actor: its signal may not have been sent.
    silent: bool,
    starters: Vec<Ask<u32>>,
    stoppers: Vec<Ask<Option<ExitStatus>>>,
}

/// A policy as a child of its container.
pub(crate) fn spec(core: &Shared, namespace: &NamespaceName, id: &ContainerId) -> ChildSpec {
    let (core, namespace, id) = (core.clone(), namespace.clone(), id.clone());
    let waiting = core.directory.waiting(&name_of(&namespace, &id));
    ChildSpec {
        id: "relaunch".to_owned(),
        start: Arc::new(move |parent: ActorCell| {
            let arguments = (core.clone(), namespace.clone(), id.clone());
            Box::pin(async move {
                let spawned = Actor::spawn_linked(None, RelaunchActor, arguments, parent).await;
                Ok(spawned.map_err(|error| Error::internal(error.to_string()))?.0.get_cell())
            })
        }),
        restart: RestartType::Permanent,
        shutdown: WORKER_SHUTDOWN,
        supervisor: false,
        detail: "restart policy".to_owned(),
        waiting: Some(waiting),
    }
}

impl Actor for RelaunchActor {
    type Msg = RelaunchMessage;
    type State = Data;
    type Arguments = (Shared, NamespaceName, ContainerId);

    async fn pre_start(
        &self,
        myself: ActorRef<RelaunchMessage>,
        (core, namespace, id): Self::Arguments,
    ) -> Result<Data, ActorProcessingErr> {
        let record = super::record(&core, &namespace, &id)?.unwrap_or_else(|| {
            let mut record = RelaunchRecord::new(namespace.clone(), id.clone(), RestartPolicy::default());
            record.state.daemon = core.started_at;
            record
        });
        core.directory.set(name_of(&namespace, &id), myself.get_cell());
        // The first act is to look, when the tree stands.
        let _ = myself.send_message(RelaunchMessage::Look);
        let (starters, stoppers) = (Vec::new(), Vec::new());
        Ok(Data { core, me: myself, record, working: None, retired: false, silent: true, starters, stoppers })
    }

    async fn handle(
        &self,
        _: ActorRef<RelaunchMessage>,
        message: RelaunchMessage,
        data: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        // Only the commit that takes the wish up is the call's: what is looked at and mended on the way is not.
        let (call, message) = match message {
            RelaunchMessage::For(call, message) => (Some(call), *message),
            message => (None, message),
        };
        match message {
            // A message is for one call.
            RelaunchMessage::For(..) => {}
            RelaunchMessage::Look => data.look_and_pursue().await,
            RelaunchMessage::Tick => data.tick().await,
            RelaunchMessage::Start(reply) => data.start(call, reply).await,
            RelaunchMessage::Stop(request, reply) => data.stop(call, request, reply).await,
            RelaunchMessage::Restart(request, reply) => data.restart(call, request, reply).await,
            RelaunchMessage::TellStart(reply) => data.tell_start(reply).await,
            RelaunchMessage::TellStop(reply) => data.tell_stop(reply).await,
            RelaunchMessage::Mark(reply) => drop(reply.send(data.mark().await)),
            RelaunchMessage::SetPolicy(policy, reply) => {
                drop(reply.send(call::within(call, data.set_policy(policy)).await));
            }
            RelaunchMessage::Retire(reply) => drop(reply.send(data.retire())),
            RelaunchMessage::Unretire => {
                data.retired = false;
                data.look_and_pursue().await;
            }
            RelaunchMessage::Performed(result) => data.performed(result).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<RelaunchMessage>,
        _: SupervisionEvent,
        _: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children; written out because ractor's default would end it with any.
        Ok(())
    }
}

fn is_live(task: &TaskRecord) -> bool {
    !matches!(task.phase, StoredPhase::Stopped(_))
}

/// Looking, deciding, remembering.
impl Data {
    fn task(&self) -> Result<Option<TaskRecord>> {
        task::record(&self.core, &self.record.namespace, &self.record.container)
    }

    fn handle_of_task(&self) -> TaskHandle {
        TaskHandle::new(self.core.clone(), self.record.namespace.clone(), self.record.container.clone())
    }

    fn wake(&self, after: Duration) {
        self.me.send_after(after.min(NAP), || RelaunchMessage::Tick);
    }

    async fn feed(&mut self, input: Input) -> Result<()> {
        let decided = next(&self.record.policy, &self.record.state, &input, Timestamp::now());
        self.remember(decided, Batch::new()).await
    }

    /// One commit of what was decided, with whatever else belongs to it.
    async fn remember(&mut self, decided: Decided, mut batch: Batch) -> Result<()> {
        let mut record = RelaunchRecord { state: decided.state, ..self.record.clone() };
        if let Some(by_person) = decided.relaunch {
            let attempt = self.begin(&mut batch, &mut record, by_person)?;
            record.state.phase = RelaunchPhase::Relaunching(attempt);
        }
        if let RelaunchPhase::GivenUp { cause } = &record.state.phase
            && record.state.phase != self.record.state.phase
        {
            let (id, count) = (record.container.clone(), record.state.count);
            let event = Event::ContainerGivenUp { id, count, cause: cause.clone() };
            batch.publish(&record.namespace, event);
        }
        if record == self.record && batch.is_empty() {
            return Ok(());
        }
        batch.put(&record);
        self.core.commit(batch).await?;
        self.record = record;
        Ok(())
    }

    /// A new attempt: of the task that is there and was never started, or of a new one.
    fn begin(&self, batch: &mut Batch, record: &mut RelaunchRecord, by_person: bool) -> Result<Attempt> {
        let task = self.task()?;
        if let Some(task) = &task {
            let (stdio, on_shim_death) = (task.stdio.clone(), task.on_shim_death);
            record.state.heritage = Some(Heritage { stdio, on_shim_death });
        }
        let (old, nonce) = match task {
            Some(task) if is_live(&task) => (None, task.nonce),
            other => (other.map(|task| task.nonce), task_directory::new_nonce()?),
        };
        let intent = Intent::Relaunch { container: record.container.clone(), nonce: nonce.clone() };
        let operation = operation::record(&self.core, &record.namespace, intent);
        batch.open_operation(&operation);
        Ok(Attempt { operation: operation.id, old, nonce, by_person })
    }

    /// Takes in what the rows say, then does what the phase asks for. What the store does not take is tried again.
    async fn look_and_pursue(&mut self) {
        if let Err(error) = self.look().await {
            tracing::warn!(container = %self.record.container, %error, "a restart policy cannot be followed yet");
            self.wake(KILL_AGAIN);
            return;
        }
        self.pursue().await;
    }

    async fn look(&mut self) -> Result<()> {
        let task = self.task()?;
        let live = task.as_ref().is_some_and(is_live);
        // An attempt's own task may have ended before the attempt is closed.
        if !matches!(self.record.state.phase, RelaunchPhase::Relaunching(_))
            && let Some(task) = &task
            && let StoredPhase::Stopped(exit) = &task.phase
            && self.record.state.handled.as_ref() != Some(&task.nonce)
        {
            let began = task.started_at.unwrap_or(exit.exited_at);
            let ran = u64::try_from(exit.exited_at.0.saturating_sub(began.0)).unwrap_or(0);
            let ended =
                Input::Ended { task: task.nonce.clone(), exit: exit.clone(), ran: Duration::from_nanos(ran) };
            self.feed(ended).await?;
        }
        if self.record.state.daemon != self.core.started_at {
            self.feed(Input::DaemonStarted { at: self.core.started_at, live }).await?;
        }
        if matches!(self.record.state.phase, RelaunchPhase::Stopping { .. }) && !live {
            self.feed(Input::Down).await?;
        }
        if !live && !matches!(self.record.state.phase, RelaunchPhase::Relaunching(_)) {
            let exit = self.record.state.last_exit.clone();
            self.stoppers.drain(..).for_each(|stopper| drop(stopper.send(Ok(exit.clone()))));
        }
        Ok(())
    }

    async fn tick(&mut self) {
        let now = Timestamp::now();
        if let RelaunchPhase::Waiting { until } = self.record.state.phase
            && until <= now
            && !self.retired
        {
            let live = self.task().is_ok_and(|task| task.as_ref().is_some_and(is_live));
            // Somebody has started it meanwhile.
            let input = if live { Input::Start { live } } else { Input::Due };
            if let Err(error) = self.feed(input).await {
                tracing::warn!(container = %self.record.container, %error, "a container cannot be started again yet");
                return self.wake(KILL_AGAIN);
            }
        }
        self.look_and_pursue().await;
    }

    /// Timers and workers of the phase.
    async fn pursue(&mut self) {
        let now = Timestamp::now();
        let left = |until: Timestamp| Duration::from_nanos(u64::try_from(until.0 - now.0).unwrap_or(0));
        match self.record.state.phase.clone() {
            RelaunchPhase::Idle | RelaunchPhase::GivenUp { .. } => {}
            RelaunchPhase::Waiting { .. } if self.retired => {}
            RelaunchPhase::Waiting { until } => {
                // A clock that was set back must not make it longer than it ever is.
                let longest = later(now, Duration::from_millis(self.record.policy.backoff_most_ms));
                if until > longest {
                    self.record.state.phase = RelaunchPhase::Waiting { until: longest };
                }
                self.wake(left(until.min(longest)));
            }
            RelaunchPhase::Stopping { until, .. } if until <= now => {
                self.tell(None, signal::KILL, KillTarget::All);
                self.wake(KILL_AGAIN);
            }
            RelaunchPhase::Stopping { signal, until, .. } => {
                if std::mem::take(&mut self.silent) {
                    self.tell(Some(self.call_of_stop(until)), signal, KillTarget::Init);
                }
                self.wake(left(until));
            }
            RelaunchPhase::Relaunching(attempt) => {
                if self.working.is_none() {
                    self.work(attempt).await;
                }
            }
        }
    }

    /// A stop's own signal, so that it is sent once even if the daemon is killed between the commit and the signal.
    fn call_of_stop(&self, until: Timestamp) -> CallId {
        let RelaunchRecord { namespace, container, .. } = &self.record;
        let key = CallKey::new(format!("{:016x}", until.0)).expect("digits are a key");
        CallId { key, method: "stop".to_owned(), subject: format!("{namespace}/{container}") }
    }

    /// Sends a signal in a worker. A frozen container gets it when it is thawed: it is.
    fn tell(&self, call: Option<CallId>, signal: u32, target: KillTarget) {
        let (task, frozen) = (
            self.handle_of_task(),
            matches!(self.task(), Ok(Some(TaskRecord { phase: StoredPhase::Paused, .. }))),
        );
        let me = self.me.clone();
        tokio::spawn(async move {
            if let Err(error) = call::within(call, task.signal(target, signal)).await {
                tracing::debug!(%error, "a signal of a stop");
            }
            if frozen {
                let _ = task.resume().await;
            }
            // It may have ended before.
            let _ = me.send_message(RelaunchMessage::Look);
        });
    }
}
