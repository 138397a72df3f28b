//! The writer of one noun: an actor that performs its noun's writes one after the other, so that a check and the commit that rests on it
//! cannot be parted (unique names, parents that exist). Reads go to the store directly and never wait here.
//!
//! ```text
//!   idle ──Write(job)──▶ writing ──committed──▶ idle             one job at a time; a job is at most a few commits long
//!   idle ──Revise(row, job)──▶ revising ⟲ Revise(another row)    beside each other: their commits share a sync
//!                                  └──Write──▶ all revised ──▶ writing
//! ```
//!
//! A *revision* looks at one row that there is, and changes that row: what it rests on no revision of another row can take away. So those of
//! different rows are under way at once, those of one row in turn, and a write, which may look at any row, alone.
//!
//! Supervised by `services` (images, content, snapshots, namespaces), by its namespace (containers) or by its container, permanent.
//! Owns nothing that a restart could lose: the rows are in the store. A caller whose job was cut off by a restart is told Unavailable
//! and looks up what became of it; a job that needs more than one commit is a logged operation, which recovery finishes or undoes.

use std::collections::HashMap;
use std::time::Duration;

use bosun_storage::key::Key;
use bosun_types::{Error, Result};
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tracing::Instrument as _;

use crate::ask::ask;
use crate::call;
use crate::core::Shared;
use crate::directory::Name;
use crate::supervisor::{ChildSpec, RestartType, WORKER_SHUTDOWN};

/// Jobs that may wait for one writer. More are refused: mailboxes have no limit of their own.
const WAITING_MAX: usize = 256;

/// A write: what it does with what is shared.
pub type Job = Box<dyn FnOnce(Shared) -> BoxFuture<'static, ()> + Send>;

/// What a writer is told.
pub enum WriterMessage {
    /// Perform this alone, and say when it is done.
    Write(Job, RpcReplyPort<()>),
    /// Perform this, which is about one row, beside what is done to others, and say when it is done.
    Revise(Key, Job, RpcReplyPort<()>),
}

struct WriterActor;

struct WriterData {
    core: Shared,
    revisions: HashMap<Key, Revision>,
}

/// A revision under way; it ends with its writer.
struct Revision(tokio::task::JoinHandle<()>);

impl Drop for Revision {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl WriterData {
    /// Waits for a revision; its panic is the writer's own.
    async fn end(&mut self, row: &Key) -> Result<(), ActorProcessingErr> {
        let Some(mut revision) = self.revisions.remove(row) else { return Ok(()) };
        (&mut revision.0).await.map_err(ActorProcessingErr::from)
    }

    async fn end_all(&mut self, which: fn(&Revision) -> bool) -> Result<(), ActorProcessingErr> {
        let chosen = self.revisions.iter().filter(|(_, revision)| which(revision));
        let rows: Vec<Key> = chosen.map(|(row, _)| row.clone()).collect();
        for row in rows {
            self.end(&row).await?;
        }
        Ok(())
    }
}

impl Actor for WriterActor {
    type Msg = WriterMessage;
    type State = WriterData;
    type Arguments = (Shared, Name);

    async fn pre_start(
        &self,
        myself: ActorRef<WriterMessage>,
        (core, name): Self::Arguments,
    ) -> Result<WriterData, ActorProcessingErr> {
        core.directory.set(name, myself.get_cell());
        Ok(WriterData { core, revisions: HashMap::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<WriterMessage>,
        message: WriterMessage,
        data: &mut WriterData,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WriterMessage::Write(job, done) => {
                data.end_all(|_| true).await?;
                job(data.core.clone()).await;
                let _ = done.send(());
            }
            WriterMessage::Revise(row, job, done) => {
                data.end_all(|revision| revision.0.is_finished()).await?;
                data.end(&row).await?;
                let core = data.core.clone();
                let revision = tokio::spawn(async move {
                    job(core).await;
                    let _ = done.send(());
                });
                data.revisions.insert(row, Revision(revision));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<WriterMessage>,
        _: SupervisionEvent,
        _: &mut WriterData,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children; written out because ractor's default would end it with any.
        Ok(())
    }
}

/// A writer as a child.
pub fn spec(core: &Shared, id: &str, name: Name) -> ChildSpec {
    let core = core.clone();
    let waiting = core.directory.waiting(&name);
    ChildSpec {
        id: id.to_owned(),
        start: std::sync::Arc::new(move |parent: ActorCell| {
            let arguments = (core.clone(), name.clone());
            Box::pin(async move {
                let spawned = Actor::spawn_linked(None, WriterActor, arguments, parent).await;
                Ok(spawned.map_err(|error| Error::internal(error.to_string()))?.0.get_cell())
            })
        }),
        restart: RestartType::Permanent,
        shutdown: WORKER_SHUTDOWN,
        supervisor: false,
        detail: "writer".to_owned(),
        waiting: Some(waiting),
    }
}

/// Has the named writer perform `work` alone, and gives what came of it.
pub async fn write<T, F, W>(core: &Shared, name: &Name, deadline: Duration, work: W) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
    W: FnOnce(Shared) -> F + Send + 'static,
{
    perform(core, name, deadline, work, WriterMessage::Write).await
}

/// The same for work that looks at one row and changes that row and no other: beside revisions of others.
pub async fn revise<T, F, W>(core: &Shared, name: &Name, row: Key, deadline: Duration, work: W) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
    W: FnOnce(Shared) -> F + Send + 'static,
{
    perform(core, name, deadline, work, |job, reply| WriterMessage::Revise(row, job, reply)).await
}

async fn perform<T, F, W>(
    core: &Shared,
    name: &Name,
    deadline: Duration,
    work: W,
    message: impl FnOnce(Job, RpcReplyPort<()>) -> WriterMessage,
) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
    W: FnOnce(Shared) -> F + Send + 'static,
{
    let actor: ActorRef<WriterMessage> = core.directory.require(name)?;
    if actor.get_cell().get_status() == ractor::ActorStatus::Stopped {
        return Err(Error::unavailable("it is restarting").with_hint("ask again"));
    }
    let permit = core.directory.admit(name, WAITING_MAX)?;
    let (answer, result) = tokio::sync::oneshot::channel();
    let span = tracing::Span::current();
    let call = call::current();
    let job: Job = Box::new(move |core| {
        let done = async move {
            // The caller may be gone; the write is done all the same.
            let _ = answer.send(call::within(call, work(core)).await);
            drop(permit);
        };
        // What it logs belongs to the call that asked for it.
        Box::pin(done.instrument(span))
    });
    ask(&actor, |reply| message(job, reply), deadline).await?;
    result.await.unwrap_or_else(|_| {
        Err(Error::unavailable("the writer restarted in the middle")
            .with_hint("look whether it was done, then ask again"))
    })
}

#[cfg(test)]
mod tests;
