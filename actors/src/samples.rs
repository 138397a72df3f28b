//! What all containers have used, for a collector that asks from time to time: the live ones now, and of each that was deleted since the last time its
//! last sample (MET-6).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bosun_types::metrics::Metrics;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::task::TaskRecord;
use bosun_types::{NamespaceName, Result};

use crate::core::{Shared, blocking};
use crate::task;

/// Last samples kept while nobody asks; older ones go first.
const KEPT_MAX: usize = 1024;

/// Last samples of what was deleted.
#[derive(Default)]
pub struct LastSamples {
    /// Somebody collects: without, deleting a task does not read its cgroup once more.
    wanted: AtomicBool,
    kept: Mutex<VecDeque<(NamespaceName, Metrics)>>,
}

impl LastSamples {
    fn push(&self, namespace: NamespaceName, metrics: Metrics) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((namespace, metrics));
    }

    fn take(&self) -> Vec<(NamespaceName, Metrics)> {
        self.wanted.store(true, Ordering::Relaxed);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

/// One sample of every task, and the last ones of those that are gone. Reads rows and files only: it waits for no actor and no shim.
pub(crate) async fn all(core: &Shared) -> Result<Vec<(NamespaceName, Metrics)>> {
    let core = core.clone();
    blocking(move || {
        let mut samples = core.samples.take();
        for namespace in core.store.scan::<NamespaceRecord>(&bosun_storage::key::Key::all())? {
            for task in core.store.scan::<TaskRecord>(&bosun_storage::key::within(&namespace.name))? {
                // One that vanishes meanwhile is skipped (TSK-24), one without a cgroup too (TSK-30).
                if let Ok(metrics) = task::sample(&core, &namespace.name, &task.container) {
                    samples.push((namespace.name.clone(), metrics));
                }
            }
        }
        Ok(samples)
    })
    .await
}

/// The task is about to lose its cgroup.
pub(crate) async fn keep_last(core: &Shared, record: &TaskRecord) {
    if !core.samples.wanted.load(Ordering::Relaxed) {
        return;
    }
    let (shared, namespace, container) = (core.clone(), record.namespace.clone(), record.container.clone());
    if let Ok(metrics) = blocking(move || task::sample(&shared, &namespace, &container)).await {
        core.samples.push(record.namespace.clone(), metrics);
    }
}

#[cfg(test)]
mod tests {
    use bosun_types::metrics::CgroupUsage;
    use bosun_types::{ContainerId, Timestamp};

    use super::*;

    #[test]
    fn met_6_the_last_samples_are_given_once_and_bounded() {
        let samples = LastSamples::default();
        let name = NamespaceName::default_name();
        for number in 0..=KEPT_MAX {
            let container = ContainerId::new(format!("c{number}")).expect("good");
            let metrics = Metrics { container, sampled_at: Timestamp(1), usage: CgroupUsage::default() };
            samples.push(name.clone(), metrics);
        }
        let taken = samples.take();
        assert_eq!(taken.len(), KEPT_MAX);
        assert_eq!(taken[0].1.container.as_str(), "c1", "the oldest went");
        assert!(samples.take().is_empty());
    }
}
