//! Supervision in OTP's words and by OTP's rules (Erlang/OTP, `supervisor`; the book "sup_princ"), on ractor.
//!
//! A supervisor owns an ordered list of children and nothing else. It starts them in order, stops them in reverse order, and when one ends it
//! does what [`decide`] says. Decisions are pure; this file and [`actor`] only perform them.
//!
//! ```text
//!            start_child                    child ended: decide()
//!   (none) ──────────────▶ running ──────────────┬──▶ forget (temporary; transient, normal end)
//!                             ▲                  ├──▶ restart it, all, or it and those after it
//!                             │   start failed   ├──▶ escalate: the supervisor itself fails (intensity exceeded)
//!                         restarting ◀───────────┤
//!                             │                  └──▶ park (dynamic supervisor: this child alone is over its intensity)
//!                             └── tried again by a message to itself, so that a shutdown can get in between; each try counts
//! ```
//!
//! One departure from OTP, ADR 0002: a *dynamic* supervisor counts per child, and parks a child over its intensity instead of ending itself.
//! What survives a restart: nothing here; a child's start function makes it from its durable record.

mod actor;
mod decide;

use std::sync::Arc;
use std::time::Duration;

use bosun_types::tree::TreeNode;
use bosun_types::{Error, Result};
use futures::future::BoxFuture;
use ractor::{ActorCell, ActorRef, RpcReplyPort};

pub use actor::spawn;
pub use decide::{Decision, Exit, Intensity, RestartType, Strategy, counts, decide};

/// Starts a child linked to the given supervisor, from what the closure captured: plain data, never a used-up resource.
pub type Start = Arc<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell>> + Send + Sync>;

/// What a child is to its supervisor (OTP: child specification).
#[derive(Clone)]
pub struct ChildSpec {
    /// Unique among its siblings.
    pub id: String,
    /// Makes it.
    pub start: Start,
    /// When it comes back.
    pub restart: RestartType,
    /// How long an orderly stop may take before it is killed. Supervisors get [`SUPERVISOR_SHUTDOWN`].
    pub shutdown: Duration,
    /// Whether it is a supervisor: then it is asked to stop its own children first.
    pub supervisor: bool,
    /// A word for the tree.
    pub detail: String,
    /// How many requests wait for it, where that is counted.
    pub waiting: Option<Waiting>,
}

/// Counts what waits for a child, for the tree.
pub type Waiting = Arc<dyn Fn() -> u32 + Send + Sync>;

/// For workers that hold nothing that needs time.
pub const WORKER_SHUTDOWN: Duration = Duration::from_secs(5);
/// OTP gives supervisors infinity; everything here has a limit.
pub const SUPERVISOR_SHUTDOWN: Duration = Duration::from_secs(30);

/// What a supervisor is (OTP: supervisor flags).
#[derive(Debug, Clone)]
pub struct Flags {
    /// What else restarts with a failed child.
    pub strategy: Strategy,
    /// How many restarts in what time are too many.
    pub intensity: Intensity,
    /// Children come and go; each is counted alone and parked when it is over.
    pub dynamic: bool,
    /// Name in the tree.
    pub name: String,
}

/// What a supervisor is told.
pub enum SupervisorMessage {
    /// Start one more child, last in order. AlreadyExists when the id is taken.
    StartChild(ChildSpec, RpcReplyPort<Result<ActorCell>>),
    /// Stop a child and forget it. NotFound when there is none.
    RemoveChild(String, RpcReplyPort<Result<()>>),
    /// Start a parked child again, with a clean count.
    Retry(String, RpcReplyPort<Result<()>>),
    /// The current actor of a child.
    Find(String, RpcReplyPort<Option<ActorCell>>),
    /// Draw the subtree.
    Tree(RpcReplyPort<TreeNode>),
    /// Stop every child in reverse order, then end.
    Shutdown(RpcReplyPort<()>),
    /// Own message: try a failed restart again.
    TryAgain(String),
}

/// A running supervisor.
#[derive(Clone)]
pub struct Supervisor {
    actor: ActorRef<SupervisorMessage>,
}

/// How long a question to a supervisor may take. Starting a child is bounded by the child's own deadlines.
const ASK: Duration = Duration::from_secs(30);

impl Supervisor {
    /// Wraps a running supervisor's actor.
    pub fn of(actor: ActorRef<SupervisorMessage>) -> Self {
        Self { actor }
    }

    /// The actor, as a child of another.
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// Starts a child.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<ActorCell> {
        crate::ask::ask(&self.actor, |reply| SupervisorMessage::StartChild(spec, reply), ASK).await?
    }

    /// Stops and forgets a child; its absence is success.
    pub async fn remove_child(&self, id: &str) -> Result<()> {
        crate::ask::ask(&self.actor, |reply| SupervisorMessage::RemoveChild(id.to_owned(), reply), ASK)
            .await?
    }

    /// Retries a parked child.
    pub async fn retry(&self, id: &str) -> Result<()> {
        crate::ask::ask(&self.actor, |reply| SupervisorMessage::Retry(id.to_owned(), reply), ASK).await?
    }

    /// The current actor of a child.
    pub async fn find(&self, id: &str) -> Result<Option<ActorCell>> {
        crate::ask::ask(&self.actor, |reply| SupervisorMessage::Find(id.to_owned(), reply), ASK).await
    }

    /// The live subtree.
    pub async fn tree(&self) -> Result<TreeNode> {
        crate::ask::ask(&self.actor, SupervisorMessage::Tree, ASK).await
    }

    /// Stops every child in reverse order, then the supervisor.
    pub async fn shutdown(&self) -> Result<()> {
        crate::ask::ask(&self.actor, SupervisorMessage::Shutdown, SUPERVISOR_SHUTDOWN).await
    }
}

/// A child specification of a supervisor.
pub fn supervisor_spec(flags: Flags, children: Arc<dyn Fn() -> Vec<ChildSpec> + Send + Sync>) -> ChildSpec {
    let detail = flags.describe();
    let id = flags.name.clone();
    let start: Start = Arc::new(move |parent| {
        let (flags, children) = (flags.clone(), children());
        Box::pin(async move { Ok(spawn(flags, children, Some(parent)).await?.cell()) })
    });
    ChildSpec {
        id,
        start,
        restart: RestartType::Permanent,
        shutdown: SUPERVISOR_SHUTDOWN,
        supervisor: true,
        detail,
        waiting: None,
    }
}

impl Flags {
    /// `one_for_one, 5 in 30 s`.
    pub fn describe(&self) -> String {
        let kind = if self.dynamic { "dynamic " } else { "" };
        format!(
            "{kind}{}, {} in {} s",
            self.strategy,
            self.intensity.restarts,
            self.intensity.period.as_secs()
        )
    }
}

/// A child that is not there.
pub(crate) fn no_child(supervisor: &str, id: &str) -> Error {
    Error::not_found(format!("supervisor {supervisor} has no child {id}"))
}

#[cfg(test)]
mod tests;
