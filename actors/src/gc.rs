//! Garbage collection: blobs and snapshots that nothing keeps go, by themselves or when someone asks (GC-1..10).
//!
//! ```text
//!   rows, at one moment ──view──▶ graph ──mark (pure)──▶ garbage ──sweep──▶ rows go, some at a time ──▶ directories, files
//!                                                           ▲
//!                    whatever is wanted meanwhile ──barrier──┘ stays
//! ```
//!
//! Writers are never held up: the look at the store and the mark hold no lock, and a batch of the sweep is one short job in the writer of what it
//! removes. What makes that right is the [`barrier`]. The [`schedule`] is containerd's.
//!
//! **Supervised** by `services`, permanent ([`actor`]). **Survives** a restart: what was removed; a batch whose rows went is an open operation,
//! which recovery finishes. What was only planned is planned anew.

mod actor;
pub(crate) mod barrier;
mod graph;
pub(crate) mod schedule;
mod sweep;
mod view;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bosun_types::gc::{Chain, Collection, Object};
use bosun_types::{Error, NamespaceName, Result, Timestamp};
use ractor::ActorRef;

use crate::ask::ask;
use crate::core::{Core, Shared, blocking};
use crate::directory::Name;

pub use self::barrier::Barrier;
pub use self::schedule::ScheduleOptions;
pub(crate) use actor::spec;
pub(crate) use sweep::{RemoveGarbage, remove_files};

/// The collector's actor.
const COLLECTOR: Name = Name::Service("collector");
/// How long one who asks waits: collections of very many files take their time.
pub const COLLECT_DEADLINE: Duration = Duration::from_secs(600);

/// What the collector shares with everybody.
pub struct Gc {
    pub(crate) barrier: Barrier,
    pub(crate) options: ScheduleOptions,
    deletions: AtomicU64,
    mutations: AtomicU64,
    /// The actor has been told that there is something to count.
    told: AtomicBool,
}

impl Gc {
    pub(crate) fn new(options: ScheduleOptions) -> Self {
        Self {
            barrier: Barrier::default(),
            options,
            deletions: AtomicU64::new(0),
            mutations: AtomicU64::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// A commit was made; so many rows went with it that may have kept something (GC-8). Tells the actor, unless it has yet to look.
    pub(crate) fn changed(&self, core: &Core, removals: usize) {
        self.mutations.fetch_add(1, Ordering::Relaxed);
        self.deletions.fetch_add(removals as u64, Ordering::Relaxed);
        if !self.told.swap(true, Ordering::SeqCst) {
            let actor: Option<ActorRef<actor::GcMessage>> = core.directory.find(&COLLECTOR);
            // One that is restarting looks when it starts.
            if actor.is_none_or(|actor| actor.send_message(actor::GcMessage::Changed).is_err()) {
                self.told.store(false, Ordering::SeqCst);
            }
        }
    }

    /// Deletions and mutations since the last call.
    fn take_counts(&self) -> (u64, u64) {
        self.told.store(false, Ordering::SeqCst);
        (self.deletions.swap(0, Ordering::Relaxed), self.mutations.swap(0, Ordering::Relaxed))
    }
}

/// GC-9: collects now, and answers when a collection that began after the call is done.
pub(crate) async fn collect(core: &Core) -> Result<Collection> {
    let actor: ActorRef<actor::GcMessage> = core.directory.require(&COLLECTOR)?;
    let _permit = core.directory.admit(&COLLECTOR, actor::WAITING_MAX)?;
    ask(&actor, actor::GcMessage::Collect, COLLECT_DEADLINE).await?
}

/// What a collection would remove now.
pub(crate) async fn dry_run(core: &Shared) -> Result<Collection> {
    let mut total = Collection::default();
    for namespace in crate::namespaces::list(core)? {
        let core = core.clone();
        total.add(blocking(move || sweep::plan(&core, &namespace.name)).await?);
    }
    Ok(total)
}

/// Every chain that keeps an object; none: the next collection takes it. NotFound when it is not there.
pub(crate) async fn why(core: &Shared, namespace: &NamespaceName, object: Object) -> Result<Vec<Chain>> {
    let (core, namespace) = (core.clone(), namespace.clone());
    blocking(move || {
        let view = view::view(&core, &namespace, Timestamp::now())?;
        if view.graph.find(&object).is_none() {
            return Err(Error::not_found(format!("{object} in namespace {namespace}")));
        }
        Ok(view.graph.why(&object))
    })
    .await
}

#[cfg(test)]
mod tests;
