//! The group's actor: looks, asks [`super::decide`], commits, and leaves every act to a worker.

use std::sync::Arc;
use std::time::Duration;

use bosun_storage::batch::Batch;
use bosun_types::call::CallId;
use bosun_types::event::Event;
use bosun_types::group::{GroupPhase, GroupRecord, GroupState, MemberName};
use bosun_types::relaunch::RelaunchPhase;
use bosun_types::task::{ExitCause, StoredPhase};
use bosun_types::{ContainerId, Error, ErrorClass, GroupName, NamespaceName, Result, Timestamp};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use super::act::MemberAct;
use super::decide::{self, Act, ActDone, Decided, News, Seen, exit_words, next};
use super::{GroupMessage, name_of};
use crate::call;
use crate::core::{Shared, worker};
use crate::supervisor::{ChildSpec, Exit, RestartType, WORKER_SHUTDOWN};
use crate::{relaunch, task};

/// Before a member that is on its way is looked at again.
const AGAIN: Duration = Duration::from_millis(100);
/// Before something that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

type Ask = RpcReplyPort<Result<()>>;

struct GroupActor;

struct Data {
    core: Shared,
    me: ActorRef<GroupMessage>,
    record: GroupRecord,
    /// An act is under way in a worker.
    acting: bool,
    starters: Vec<Ask>,
    stoppers: Vec<Ask>,
}

/// Around the commit of each decision: `group.<decision>.before` and `.after`.
fn point(decision: &str, side: &str) -> Result<()> {
    let name = format!("group.{decision}.{side}");
    bosun_faults::point(&name).map_err(|fault| Error::internal(fault.to_string()))
}

/// A group as a child of its namespace's `groups`.
pub(crate) fn spec(core: &Shared, namespace: &NamespaceName, name: &GroupName) -> ChildSpec {
    let (core, namespace, name) = (core.clone(), namespace.clone(), name.clone());
    let waiting = core.directory.waiting(&name_of(&namespace, &name));
    ChildSpec {
        id: name.to_string(),
        start: Arc::new(move |parent: ActorCell| {
            let arguments = (core.clone(), namespace.clone(), name.clone());
            Box::pin(async move {
                let spawned = Actor::spawn_linked(None, GroupActor, arguments, parent).await;
                Ok(spawned.map_err(|error| Error::internal(error.to_string()))?.0.get_cell())
            })
        }),
        restart: RestartType::Permanent,
        shutdown: WORKER_SHUTDOWN,
        supervisor: false,
        detail: "group".to_owned(),
        waiting: Some(waiting),
    }
}

impl Actor for GroupActor {
    type Msg = GroupMessage;
    type State = Data;
    type Arguments = (Shared, NamespaceName, GroupName);

    async fn pre_start(
        &self,
        myself: ActorRef<GroupMessage>,
        (core, namespace, name): Self::Arguments,
    ) -> Result<Data, ActorProcessingErr> {
        let record = super::get(&core, &namespace, &name)?;
        core.directory.set(name_of(&namespace, &name), myself.get_cell());
        // The first act is to look, when the tree stands.
        let _ = myself.send_message(GroupMessage::Look);
        let (starters, stoppers) = (Vec::new(), Vec::new());
        Ok(Data { core, me: myself, record, acting: false, starters, stoppers })
    }

    async fn handle(
        &self,
        _: ActorRef<GroupMessage>,
        message: GroupMessage,
        data: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GroupMessage::Look => data.go_on().await,
            GroupMessage::Start(call, reply) => data.start(call, reply).await,
            GroupMessage::Stop(call, reply) => data.stop(call, reply).await,
            GroupMessage::TellStart(reply) => {
                data.starters.push(reply);
                data.go_on().await;
            }
            GroupMessage::TellStop(reply) => data.tell_stop(reply).await,
            GroupMessage::Acted(done) => data.acted(done).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<GroupMessage>,
        _: SupervisionEvent,
        _: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children; written out because ractor's default would end it with any.
        Ok(())
    }
}

impl Data {
    fn look_later(&self, after: Duration) {
        self.me.send_after(after, || GroupMessage::Look);
    }

    /// Looks, decides, remembers, acts; what the store does not take is tried again.
    async fn go_on(&mut self) {
        if self.acting {
            return;
        }
        match self.decide_and_remember().await {
            Ok(decided) => {
                if let Some(act) = decided.act {
                    self.act(act);
                } else if decided.look_again {
                    self.look_later(AGAIN);
                }
                self.answer();
            }
            Err(error) => {
                tracing::warn!(group = %self.record.spec.name, %error, "a group cannot go on yet");
                self.look_later(PAUSE);
            }
        }
    }

    async fn decide_and_remember(&mut self) -> Result<Decided> {
        let seen = self.seen()?;
        let boot = self.core.host.boot_id();
        let booted = decide::after_boot(&self.record.spec, &self.record.state, &seen, &boot);
        let decided = next(&self.record.spec, &booted, &seen, Timestamp::now());
        self.remember(decided.state.clone(), &decided.news).await?;
        Ok(decided)
    }

    async fn remember(&mut self, state: GroupState, news: &[News]) -> Result<()> {
        if state == self.record.state {
            return Ok(());
        }
        let record = GroupRecord { state, ..self.record.clone() };
        let mut batch = Batch::new();
        batch.put(&record);
        for news in news {
            tracing::info!(group = %record.spec.name, ?news, "group");
            batch.publish(&record.namespace, self.event(news));
        }
        let decision = decide::word(&self.record.state.phase, &record.state.phase);
        point(decision, "before")?;
        self.core.commit(batch).await?;
        let has_moved = record.state.phase.status() != self.record.state.phase.status();
        self.record = record;
        if has_moved {
            super::look(
                &self.core,
                &self.record.namespace,
                &MemberName::Group(self.record.spec.name.clone()),
            );
        }
        point(decision, "after")
    }

    fn event(&self, news: &News) -> Event {
        let name = self.record.spec.name.clone();
        match news {
            News::Up => Event::GroupUp { name },
            News::Stopped => Event::GroupStopped { name },
            News::Failed(cause) => Event::GroupFailed { name, cause: cause.clone() },
            News::Restarting { member, members, cause } => {
                let names: Vec<String> = members.iter().map(|member| self.member_words(*member)).collect();
                let cause =
                    format!("{} {cause}: starting {} again", self.member_words(*member), names.join(", "));
                Event::GroupRestarting { name, cause }
            }
        }
    }

    fn member(&self, position: u32) -> Option<&bosun_types::group::GroupMember> {
        usize::try_from(position).ok().and_then(|index| self.record.spec.members.get(index))
    }

    fn member_words(&self, position: u32) -> String {
        self.member(position).map_or_else(String::new, |member| member.name.to_string())
    }

    /// Each member as the rows show it.
    fn seen(&self) -> Result<Vec<Seen>> {
        self.record
            .spec
            .members
            .iter()
            .map(|member| match &member.name {
                MemberName::Container(id) => self.see_container(id),
                MemberName::Group(name) => self.see_group(name),
            })
            .collect()
    }

    fn see_container(&self, id: &ContainerId) -> Result<Seen> {
        let (core, namespace) = (&self.core, &self.record.namespace);
        let policy = relaunch::record(core, namespace, id)?.map(|record| record.state);
        let in_motion = |phase: &RelaunchPhase| {
            matches!(phase, RelaunchPhase::Relaunching(_) | RelaunchPhase::Stopping { .. })
        };
        if policy.as_ref().is_some_and(|state| in_motion(&state.phase)) {
            return Ok(Seen::Busy);
        }
        Ok(match task::record(core, namespace, id)? {
            None => Seen::Absent,
            Some(task) => match task.phase {
                StoredPhase::Running | StoredPhase::Paused => Seen::Up(task.nonce),
                StoredPhase::Creating => Seen::Busy,
                // Made by hand and not started.
                StoredPhase::Created => Seen::Absent,
                StoredPhase::Stopped(exit) => Seen::Ended {
                    by_person: policy.is_some_and(|state| {
                        state.stopped && state.stopped_task.as_ref() == Some(&task.nonce)
                    }),
                    incarnation: task.nonce,
                    exit: if exit.cause == ExitCause::Code(0) { Exit::Normal } else { Exit::Abnormal },
                    words: exit_words(&exit),
                },
            },
        })
    }

    fn see_group(&self, name: &GroupName) -> Result<Seen> {
        let Some(record) = super::record(&self.core, &self.record.namespace, name)? else {
            return Ok(Seen::Absent);
        };
        let incarnation = record.state.generation.to_string();
        Ok(match record.state.phase {
            GroupPhase::Stopped if record.state.generation == 0 => Seen::Absent,
            GroupPhase::Stopped => {
                Seen::Ended { incarnation, exit: Exit::Normal, by_person: true, words: "stopped".to_owned() }
            }
            GroupPhase::Starting(_) | GroupPhase::Stopping { .. } => Seen::Busy,
            GroupPhase::Up => Seen::Up(incarnation),
            GroupPhase::Failed { cause } => Seen::Ended {
                incarnation,
                exit: Exit::Abnormal,
                by_person: false,
                words: format!("failed: {cause}"),
            },
        })
    }

    /// In a worker; its outcome is seen in the rows.
    fn act(&mut self, act: Act) {
        let (Act::Start(position) | Act::Stop(position)) = act;
        let Some(member) = self.member(position).cloned() else { return };
        self.acting = true;
        let (core, namespace, me) = (self.core.clone(), self.record.namespace.clone(), self.me.clone());
        worker(async move {
            let result = MemberAct { core, namespace, member, act }.perform().await;
            let _ = me.send_message(GroupMessage::Acted(ActDone { act, result }));
        });
    }

    async fn acted(&mut self, done: ActDone) {
        self.acting = false;
        match (done.act, done.result) {
            (_, Ok(())) => self.go_on().await,
            // Its actor restarts, or it is on its way already.
            (_, Err(error)) if error.class == ErrorClass::Unavailable => self.look_later(AGAIN),
            (Act::Start(position), Err(error)) => {
                let cause = format!("{} cannot be started: {error}", self.member_words(position));
                tracing::warn!(group = %self.record.spec.name, cause, "a member");
                let state =
                    decide::start_failed(&self.record.spec, &self.record.state, &cause, Timestamp::now());
                if let Err(error) = self.remember(state, &[]).await {
                    tracing::warn!(group = %self.record.spec.name, %error, "a group cannot go on yet");
                }
                self.look_later(AGAIN);
            }
            (Act::Stop(position), Err(error)) => {
                tracing::warn!(group = %self.record.spec.name, member = self.member_words(position), %error, "a member is not stopped yet");
                self.look_later(PAUSE);
            }
        }
    }

    /// Only the commit that takes the wish up is the call's.
    async fn start(&mut self, call: Option<CallId>, reply: Ask) {
        if matches!(self.record.state.phase, GroupPhase::Stopping { .. }) {
            let error = Error::failed_precondition("it is being stopped")
                .with_hint("wait for its end, then start it");
            return drop(reply.send(Err(error)));
        }
        self.starters.push(reply);
        let begun = match self.seen() {
            Ok(seen) => {
                let boot = self.core.host.boot_id();
                let state = decide::begin(&self.record.spec, &self.record.state, &seen, &boot);
                call::within(call, self.remember(state, &[])).await
            }
            Err(error) => Err(error),
        };
        match begun {
            Ok(()) => self.go_on().await,
            Err(error) => self.starters.drain(..).for_each(|starter| drop(starter.send(Err(error.clone())))),
        }
    }

    async fn stop(&mut self, call: Option<CallId>, reply: Ask) {
        self.stoppers.push(reply);
        let ending = decide::end(&self.record.state);
        match call::within(call, self.remember(ending, &[])).await {
            Ok(()) => self.go_on().await,
            Err(error) => self.stoppers.drain(..).for_each(|stopper| drop(stopper.send(Err(error.clone())))),
        }
    }

    /// It was asked for before: under way, or done, whatever was asked for since.
    async fn tell_stop(&mut self, reply: Ask) {
        match self.record.state.phase {
            GroupPhase::Stopping { .. } => self.stoppers.push(reply),
            _ => drop(reply.send(Ok(()))),
        }
        self.go_on().await;
    }

    /// Whoever waits for what the group has come to.
    fn answer(&mut self) {
        let (started, stopped) = match &self.record.state.phase {
            GroupPhase::Up => (Some(Ok(())), None),
            GroupPhase::Failed { cause } => {
                (Some(Err(Error::failed_precondition(format!("it failed: {cause}")))), Some(Ok(())))
            }
            GroupPhase::Stopped => {
                (Some(Err(Error::failed_precondition("it was stopped before it was up"))), Some(Ok(())))
            }
            GroupPhase::Starting(_) | GroupPhase::Stopping { .. } => (None, None),
        };
        if let Some(answer) = started {
            self.starters.drain(..).for_each(|starter| drop(starter.send(answer.clone())));
        }
        if let Some(answer) = stopped {
            self.stoppers.drain(..).for_each(|stopper| drop(stopper.send(answer.clone())));
        }
    }
}
