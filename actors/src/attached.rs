//! A child of the root that another crate brings: the edge. It sees no actor; the tree sees one.
//!
//! ```text
//!   start() ──▶ serving ──stop──▶ drained
//! ```
//!
//! **Owns** whatever `start` gave. **Supervised** by the root, permanent, last in order: stopped first. **After a restart** `start` makes it anew;
//! it must find the world as a first start does.

use std::sync::Arc;

use bosun_types::{Error, Result};
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::supervisor::{ChildSpec, RestartType, SUPERVISOR_SHUTDOWN};

/// Something that serves until it is stopped.
pub trait Attached: Send + 'static {
    /// Finishes what is under way, refuses what comes, ends.
    fn stop(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Makes it; again after a failure.
pub type StartAttached = Arc<dyn Fn() -> BoxFuture<'static, Result<Box<dyn Attached>>> + Send + Sync>;

/// It is told nothing: it has its own ways to be asked.
enum Nothing {}

struct AttachedActor;

impl Actor for AttachedActor {
    type Msg = Nothing;
    type State = Option<Box<dyn Attached>>;
    type Arguments = StartAttached;

    async fn pre_start(
        &self,
        _: ActorRef<Nothing>,
        start: StartAttached,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(Some(start().await?))
    }

    async fn handle(
        &self,
        _: ActorRef<Nothing>,
        message: Nothing,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {}
    }

    async fn post_stop(
        &self,
        _: ActorRef<Nothing>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(attached) = state.take() {
            attached.stop().await;
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Nothing>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children; written out because ractor's default would end it with any.
        Ok(())
    }
}

/// As a child of the root.
pub(crate) fn spec(id: &str, start: StartAttached) -> ChildSpec {
    ChildSpec {
        id: id.to_owned(),
        start: Arc::new(move |parent: ActorCell| {
            let start = Arc::clone(&start);
            Box::pin(async move {
                let spawned = Actor::spawn_linked(None, AttachedActor, start, parent).await;
                Ok(spawned.map_err(|error| Error::internal(error.to_string()))?.0.get_cell())
            })
        }),
        restart: RestartType::Permanent,
        shutdown: SUPERVISOR_SHUTDOWN,
        supervisor: false,
        detail: "serves clients".to_owned(),
        waiting: None,
    }
}
