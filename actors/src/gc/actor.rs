//! The collector's actor: it decides when ([`Schedule`]), has a worker do it, and answers those who asked.
//!
//! ```text
//!   waiting ──time──▶ collecting ──done──▶ waiting            a request during a collection is answered by the next one
//! ```
//!
//! Owns the schedule and those who wait; both begin anew after a restart, and whoever waited is told Unavailable. Supervised by `services`,
//! permanent. Collects only after recovery has ended: until then not everything in flight is known.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bosun_types::gc::Collection;
use bosun_types::{Error, Result};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use super::schedule::{Input, Schedule};
use super::{COLLECTOR, sweep};
use crate::core::Shared;
use crate::supervisor::{ChildSpec, RestartType, WORKER_SHUTDOWN};

/// Requests that may wait for a collection.
pub(super) const WAITING_MAX: usize = 256;
/// How often it looks whether recovery has ended.
const RECOVERY_PAUSE: Duration = Duration::from_millis(100);

struct CollectorActor;

/// What the collector is told.
pub(crate) enum GcMessage {
    /// Rows changed: there is something to count.
    Changed,
    /// Own timer.
    Time,
    /// Collect, and say what went.
    Collect(RpcReplyPort<Result<Collection>>),
    /// Own worker: it is done.
    Done(Result<Collection>, Duration),
}

struct CollectorData {
    core: Shared,
    schedule: Schedule,
    /// For the next collection.
    waiting: Vec<RpcReplyPort<Result<Collection>>>,
    /// For the one under way.
    served: Vec<RpcReplyPort<Result<Collection>>>,
    collecting: bool,
    timer: Option<(Instant, tokio::task::AbortHandle)>,
}

impl CollectorData {
    fn count(&mut self) {
        let (deletions, mutations) = self.core.gc.take_counts();
        self.schedule.step(Instant::now(), Input::Changed { deletions, mutations });
    }

    fn begin(&mut self, myself: &ActorRef<GcMessage>) {
        self.count();
        self.schedule.step(Instant::now(), Input::Began);
        self.collecting = true;
        self.served = std::mem::take(&mut self.waiting);
        let (core, myself) = (self.core.clone(), myself.clone());
        tokio::spawn(async move {
            let begin = Instant::now();
            let result = crate::recovery::isolated(async move { sweep::run(&core).await }).await;
            // An actor that ended meanwhile has nobody who waits.
            let _ = myself.send_message(GcMessage::Done(result, begin.elapsed()));
        });
    }

    fn done(&mut self, result: Result<Collection>, took: Duration) {
        self.collecting = false;
        let input = match &result {
            Ok(collection) => {
                let Collection { blobs, snapshots, leases, ingests, examined, .. } = collection;
                if blobs + snapshots + leases + ingests > 0 {
                    tracing::info!(blobs, snapshots, leases, ingests, examined, ?took, "collected garbage");
                }
                Input::Succeeded(took)
            }
            Err(error) => {
                tracing::error!(%error, "garbage collection failed");
                Input::Failed
            }
        };
        self.schedule.step(Instant::now(), input);
        let answer = result.map_err(|error| error.context("garbage collection failed"));
        for waiter in self.served.drain(..) {
            let _ = waiter.send(answer.clone());
        }
    }

    /// One timer, for what is planned now.
    fn arm(&mut self, myself: &ActorRef<GcMessage>) {
        let next = self.schedule.next().filter(|_| !self.collecting);
        if next == self.timer.as_ref().map(|(at, _)| *at) {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
        self.timer = next.map(|at| {
            let delay = at.saturating_duration_since(Instant::now());
            (at, myself.send_after(delay, || GcMessage::Time).abort_handle())
        });
    }
}

impl Actor for CollectorActor {
    type Msg = GcMessage;
    type State = CollectorData;
    type Arguments = Shared;

    async fn pre_start(
        &self,
        myself: ActorRef<GcMessage>,
        core: Shared,
    ) -> Result<CollectorData, ActorProcessingErr> {
        core.directory.set(COLLECTOR, myself.get_cell());
        let schedule = Schedule::new(core.gc.options, Instant::now());
        let mut data = CollectorData {
            core,
            schedule,
            waiting: Vec::new(),
            served: Vec::new(),
            collecting: false,
            timer: None,
        };
        data.count();
        data.arm(&myself);
        Ok(data)
    }

    async fn handle(
        &self,
        myself: ActorRef<GcMessage>,
        message: GcMessage,
        data: &mut CollectorData,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GcMessage::Changed => data.count(),
            GcMessage::Collect(reply) => {
                data.waiting.push(reply);
                data.schedule.step(Instant::now(), Input::Asked);
            }
            GcMessage::Time => {
                data.timer = None;
                if data.core.recovering.load(Ordering::SeqCst) {
                    myself.send_after(RECOVERY_PAUSE, || GcMessage::Time);
                    return Ok(());
                }
                if !data.collecting && data.schedule.step(Instant::now(), Input::Time) {
                    data.begin(&myself);
                }
            }
            GcMessage::Done(result, took) => data.done(result, took),
        }
        data.arm(&myself);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<GcMessage>,
        _: SupervisionEvent,
        _: &mut CollectorData,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children; written out because ractor's default would end it with any.
        Ok(())
    }
}

/// As a child of `services`.
pub(crate) fn spec(core: &Shared) -> ChildSpec {
    let core = core.clone();
    let waiting = core.directory.waiting(&COLLECTOR);
    ChildSpec {
        id: "collector".to_owned(),
        start: Arc::new(move |parent: ActorCell| {
            let core = core.clone();
            Box::pin(async move {
                let spawned = Actor::spawn_linked(None, CollectorActor, core, parent).await;
                Ok(spawned.map_err(|error| Error::internal(error.to_string()))?.0.get_cell())
            })
        }),
        restart: RestartType::Permanent,
        shutdown: WORKER_SHUTDOWN,
        supervisor: false,
        detail: "collects garbage".to_owned(),
        waiting: Some(waiting),
    }
}
