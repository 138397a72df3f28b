//! The supervisor's actor: performs what [`super::decide`] says. It does no work of its own, so it has nothing to crash on.

use std::collections::VecDeque;
use std::time::Duration;

use bosun_types::tree::{NodeKind, NodeState, TreeNode};
use bosun_types::{Error, Result, Timestamp};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};
use tokio::time::Instant;

use super::decide::{Decision, Exit, RestartType, counts, decide};
use super::{ChildSpec, Flags, Supervisor, SupervisorMessage, no_child};

/// Before a failed restart is tried again: long enough not to spin, short enough not to be noticed.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// How long a subtree may take to draw itself.
const TREE_DEADLINE: Duration = Duration::from_secs(2);
/// Causes are kept for people; a huge one helps nobody.
const CAUSE_CHARS_MAX: usize = 400;

struct SupervisorActor;

struct Arguments {
    flags: Flags,
    children: Vec<ChildSpec>,
}

struct Child {
    spec: ChildSpec,
    state: ChildState,
    restarts: u32,
    /// For dynamic supervisors: this child's own restarts.
    history: VecDeque<Instant>,
    started_at: Option<Timestamp>,
}

enum ChildState {
    Running(ActorCell),
    Restarting,
    Parked(String),
    Stopped,
}

struct Data {
    flags: Flags,
    children: Vec<Child>,
    history: VecDeque<Instant>,
}

/// Starts a supervisor and its children, in order; when one does not start, those before it are stopped and the error is given.
pub async fn spawn(flags: Flags, children: Vec<ChildSpec>, parent: Option<ActorCell>) -> Result<Supervisor> {
    let name = flags.name.clone();
    let arguments = Arguments { flags, children };
    let spawned = match parent {
        Some(parent) => Actor::spawn_linked(None, SupervisorActor, arguments, parent).await,
        None => Actor::spawn(None, SupervisorActor, arguments).await,
    };
    match spawned {
        Ok((actor, _)) => Ok(Supervisor::of(actor)),
        Err(error) => Err(Error::internal(format!("supervisor {name} does not start: {error}"))),
    }
}

impl Actor for SupervisorActor {
    type Msg = SupervisorMessage;
    type State = Data;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Arguments,
    ) -> Result<Data, ActorProcessingErr> {
        let mut data = Data { flags: arguments.flags, children: Vec::new(), history: VecDeque::new() };
        for spec in arguments.children {
            let mut child = Child {
                spec,
                state: ChildState::Stopped,
                restarts: 0,
                history: VecDeque::new(),
                started_at: None,
            };
            match child.start(&myself).await {
                Ok(()) => data.children.push(child),
                Err(error) if data.flags.dynamic => {
                    // One record that cannot start never keeps its siblings down.
                    child.state = ChildState::Parked(shorten(&error.to_string()));
                    data.children.push(child);
                }
                Err(error) => {
                    data.stop_all().await;
                    return Err(error.context(format!("child {}", child.spec.id)).into());
                }
            }
        }
        Ok(data)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        data: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::StartChild(spec, reply) => {
                drop(reply.send(data.start_child(&myself, spec).await))
            }
            SupervisorMessage::RemoveChild(id, reply) => drop(reply.send(data.remove_child(&id).await)),
            SupervisorMessage::Retry(id, reply) => drop(reply.send(data.retry(&myself, &id).await)),
            SupervisorMessage::Find(id, reply) => drop(reply.send(data.find(&id))),
            SupervisorMessage::Tree(reply) => data.draw(reply),
            SupervisorMessage::Shutdown(reply) => {
                data.stop_all().await;
                myself.stop(None);
                let _ = reply.send(());
            }
            SupervisorMessage::TryAgain(id) => data.try_again(&myself, &id).await?,
        }
        Ok(())
    }

    /// Written out: ractor's default would end us with any child.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        data: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                let exit = if reason.as_deref() == Some("killed") { Exit::Abnormal } else { Exit::Normal };
                data.ended(&myself, &who, exit, reason.unwrap_or_default()).await
            }
            SupervisionEvent::ActorFailed(who, error) => {
                data.ended(&myself, &who, Exit::Abnormal, error.to_string()).await
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => Ok(()),
        }
    }
}

impl Child {
    async fn start(&mut self, supervisor: &ActorRef<SupervisorMessage>) -> Result<()> {
        let cell = (self.spec.start)(supervisor.get_cell()).await?;
        self.state = ChildState::Running(cell);
        self.started_at = Some(Timestamp::now());
        Ok(())
    }

    /// Orderly first, then by force; a supervisor stops its own children before it ends.
    async fn stop(&mut self) {
        let ChildState::Running(cell) = std::mem::replace(&mut self.state, ChildState::Stopped) else {
            return;
        };
        if self.spec.supervisor {
            let supervisor = Supervisor::of(ActorRef::from(cell.clone()));
            if tokio::time::timeout(self.spec.shutdown, supervisor.shutdown()).await.is_err() {
                tracing::warn!(child = %self.spec.id, "did not shut down in time");
            }
        }
        // A supervisor that shut down is stopping already: asking again would fail, waiting does not.
        cell.stop(None);
        if cell.wait(Some(self.spec.shutdown)).await.is_err() && cell.get_status() != ActorStatus::Stopped {
            tracing::warn!(child = %self.spec.id, "does not stop; killed");
            let _ = cell.kill_and_wait(Some(self.spec.shutdown)).await;
        }
    }

    fn is(&self, who: &ActorCell) -> bool {
        matches!(&self.state, ChildState::Running(cell) if cell.get_id() == who.get_id())
    }
}

impl Data {
    fn position(&self, id: &str) -> Option<usize> {
        self.children.iter().position(|child| child.spec.id == id)
    }

    fn find(&self, id: &str) -> Option<ActorCell> {
        match &self.children[self.position(id)?].state {
            ChildState::Running(cell) => Some(cell.clone()),
            ChildState::Restarting | ChildState::Parked(_) | ChildState::Stopped => None,
        }
    }

    async fn start_child(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        spec: ChildSpec,
    ) -> Result<ActorCell> {
        if self.position(&spec.id).is_some() {
            return Err(Error::already_exists(format!(
                "supervisor {} has a child {}",
                self.flags.name, spec.id
            )));
        }
        let mut child = Child {
            spec,
            state: ChildState::Stopped,
            restarts: 0,
            history: VecDeque::new(),
            started_at: None,
        };
        child.start(myself).await?;
        let ChildState::Running(cell) = &child.state else {
            return Err(Error::internal("a started child runs"));
        };
        let cell = cell.clone();
        self.children.push(child);
        Ok(cell)
    }

    async fn remove_child(&mut self, id: &str) -> Result<()> {
        if let Some(position) = self.position(id) {
            self.children[position].stop().await;
            self.children.remove(position);
        }
        Ok(())
    }

    async fn retry(&mut self, myself: &ActorRef<SupervisorMessage>, id: &str) -> Result<()> {
        let position = self.position(id).ok_or_else(|| no_child(&self.flags.name, id))?;
        let child = &mut self.children[position];
        if !matches!(child.state, ChildState::Parked(_)) {
            return Err(Error::failed_precondition(format!("child {id} is not parked")));
        }
        child.history.clear();
        child.start(myself).await
    }

    async fn ended(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        who: &ActorCell,
        exit: Exit,
        cause: String,
    ) -> Result<(), ActorProcessingErr> {
        // A child that we stopped ourselves is no longer listed as running: its end is no news.
        let Some(position) = self.children.iter().position(|child| child.is(who)) else { return Ok(()) };
        if exit == Exit::Abnormal {
            tracing::error!(supervisor = %self.flags.name, child = %self.children[position].spec.id, cause, "a child failed");
        }
        self.children[position].state = ChildState::Stopped;
        self.act(myself, position, exit, cause).await
    }

    async fn act(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        position: usize,
        exit: Exit,
        cause: String,
    ) -> Result<(), ActorProcessingErr> {
        let restart = self.children[position].spec.restart;
        let allowed = !counts(restart, exit) || self.count(position);
        match decide(
            self.flags.strategy,
            self.flags.dynamic,
            restart,
            exit,
            position,
            self.children.len(),
            allowed,
        ) {
            Decision::Let { forget: true } => drop(self.children.remove(position)),
            Decision::Let { forget: false } => {}
            Decision::Restart(affected) => self.restart(myself, &affected).await,
            Decision::Park => self.children[position].state = ChildState::Parked(shorten(&cause)),
            Decision::Escalate => {
                self.stop_all().await;
                return Err(format!(
                    "restart intensity exceeded by {}: {}",
                    self.children[position].spec.id,
                    shorten(&cause)
                )
                .into());
            }
        }
        Ok(())
    }

    fn count(&mut self, position: usize) -> bool {
        let intensity = self.flags.intensity;
        let history =
            if self.flags.dynamic { &mut self.children[position].history } else { &mut self.history };
        intensity.count(history, Instant::now())
    }

    /// Those that run are stopped in reverse order, then all are started in order. One that does not start waits for another try,
    /// and those after it wait with it. A temporary sibling is stopped for good (OTP: it is never brought back).
    async fn restart(&mut self, myself: &ActorRef<SupervisorMessage>, affected: &[usize]) {
        for position in affected.iter().rev() {
            self.children[*position].stop().await;
        }
        let mut waiting = Vec::new();
        for position in affected.iter().rev() {
            let child = &mut self.children[*position];
            if child.spec.restart == RestartType::Temporary {
                self.children.remove(*position);
            } else {
                child.state = ChildState::Restarting;
                waiting.insert(0, child.spec.id.clone());
            }
        }
        for child in self.children.iter_mut().filter(|child| waiting.contains(&child.spec.id)) {
            child.restarts += 1;
            if let Err(error) = child.start(myself).await {
                tracing::warn!(child = %child.spec.id, %error, "a restart failed; it is tried again");
                let id = child.spec.id.clone();
                myself.send_after(TRY_AGAIN, move || SupervisorMessage::TryAgain(id));
                return;
            }
        }
    }

    async fn try_again(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        id: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Some(position) = self.position(id) else { return Ok(()) };
        if !matches!(self.children[position].state, ChildState::Restarting) {
            return Ok(());
        }
        self.act(myself, position, Exit::Abnormal, "its start keeps failing".to_owned()).await
    }

    async fn stop_all(&mut self) {
        for child in self.children.iter_mut().rev() {
            child.stop().await;
        }
    }

    /// Children draw themselves in a worker: a supervisor never waits for a child.
    fn draw(&self, reply: ractor::RpcReplyPort<TreeNode>) {
        let mut root = TreeNode {
            name: self.flags.name.clone(),
            kind: NodeKind::Supervisor,
            state: NodeState::Running,
            detail: self.flags.describe(),
            restarts: 0,
            mailbox: None,
            started_at: None,
            children: Vec::new(),
        };
        let children: Vec<(TreeNode, Option<Supervisor>)> = self.children.iter().map(describe).collect();
        tokio::spawn(async move {
            for (node, supervisor) in children {
                let subtree = match &supervisor {
                    Some(supervisor) => {
                        tokio::time::timeout(TREE_DEADLINE, supervisor.tree()).await.ok().and_then(Result::ok)
                    }
                    None => None,
                };
                let below = subtree.map(|tree| tree.children).unwrap_or_default();
                root.children.push(TreeNode { children: below, ..node });
            }
            let _ = reply.send(root);
        });
    }
}

fn describe(child: &Child) -> (TreeNode, Option<Supervisor>) {
    let kind = if child.spec.supervisor { NodeKind::Supervisor } else { NodeKind::Worker };
    let state = match &child.state {
        ChildState::Running(_) => NodeState::Running,
        ChildState::Restarting => NodeState::Restarting,
        ChildState::Parked(cause) => NodeState::Parked(cause.clone()),
        ChildState::Stopped => NodeState::Stopped,
    };
    let supervisor = match &child.state {
        ChildState::Running(cell) if child.spec.supervisor => {
            Some(Supervisor::of(ActorRef::from(cell.clone())))
        }
        _ => None,
    };
    let node = TreeNode {
        name: child.spec.id.clone(),
        kind,
        state,
        detail: child.spec.detail.clone(),
        restarts: child.restarts,
        mailbox: child.spec.waiting.as_ref().map(|waiting| waiting()),
        started_at: child.started_at,
        children: Vec::new(),
    };
    (node, supervisor)
}

fn shorten(cause: &str) -> String {
    cause.chars().take(CAUSE_CHARS_MAX).collect()
}
