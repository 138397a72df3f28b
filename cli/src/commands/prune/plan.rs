//! What is not used, and what goes with it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bosun_types::Timestamp;
use bosun_types::container::ContainerRecord;
use bosun_types::content::ContentRecord;
use bosun_types::gc::{Object, referred};
use bosun_types::image::ImageRecord;
use bosun_types::relaunch::{RelaunchInfo, RelaunchStatus};
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::task::{ProcessInfo, ProcessStatus};

/// A container without a task that is younger, in nanoseconds, may be one that somebody is about to start.
const FRESH: i64 = 60_000_000_000;

/// What a namespace holds.
pub struct Known {
    pub containers: Vec<ContainerRecord>,
    pub tasks: Vec<ProcessInfo>,
    pub policies: Vec<RelaunchInfo>,
    pub images: Vec<ImageRecord>,
    pub blobs: Vec<ContentRecord>,
    pub snapshots: Vec<SnapshotRecord>,
}

/// What goes. The counts are of what only these keep; leases and what is under way may keep some of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub containers: Vec<String>,
    pub images: Vec<String>,
    pub blobs: u64,
    pub blob_bytes: u64,
    pub snapshots: u64,
    pub snapshot_bytes: u64,
    /// Of these, the containers' own.
    pub own_snapshots: u64,
    pub own_bytes: u64,
}

impl Plan {
    pub fn of(known: &Known, containers: bool, images: bool, now: Timestamp) -> Self {
        let (ended, kept): (Vec<&ContainerRecord>, Vec<&ContainerRecord>) =
            known.containers.iter().partition(|container| containers && has_ended(known, container, now));
        let used: BTreeSet<&str> =
            kept.iter().filter_map(|it| it.image.as_ref()).map(|it| it.as_str()).collect();
        let (unused, named): (Vec<&ImageRecord>, Vec<&ImageRecord>) =
            known.images.iter().partition(|image| images && !used.contains(image.name.as_str()));
        let graph = Graph::of(known);
        let stays = graph.reach(&kept, &named);
        let mut plan = Self {
            containers: ended.iter().map(|it| it.id.to_string()).collect(),
            images: unused.iter().map(|it| it.name.to_string()).collect(),
            ..Self::default()
        };
        for object in graph.reach(&ended, &unused).difference(&stays) {
            match object {
                Object::Blob(_) => {
                    plan.blobs += 1;
                    plan.blob_bytes += graph.sizes.get(object).copied().unwrap_or(0);
                }
                Object::Snapshot { .. } => {
                    plan.snapshots += 1;
                    plan.snapshot_bytes += graph.sizes.get(object).copied().unwrap_or(0);
                }
            }
        }
        for own in ended.iter().filter_map(|container| own_snapshot(container)) {
            if let Some(bytes) = graph.sizes.get(&own) {
                plan.own_snapshots += 1;
                plan.own_bytes += bytes;
            }
        }
        plan
    }
}

fn own_snapshot(container: &ContainerRecord) -> Option<Object> {
    let (snapshotter, key) = (container.snapshotter.clone()?, container.snapshot_key.clone()?);
    Some(Object::Snapshot { snapshotter, key })
}

/// It does not run, and nobody is about to start it.
fn has_ended(known: &Known, container: &ContainerRecord, now: Timestamp) -> bool {
    let mut tasks = known.tasks.iter().filter(|task| task.exec.is_none() && task.container == container.id);
    let lives = match tasks.next() {
        Some(task) => task.status != ProcessStatus::Stopped,
        None => now.0.saturating_sub(container.created_at.0) < FRESH,
    };
    let comes = known.policies.iter().any(|policy| {
        policy.container == container.id
            && matches!(
                policy.status,
                RelaunchStatus::Waiting | RelaunchStatus::Relaunching | RelaunchStatus::Stopping
            )
    });
    !lives && !comes
}

/// What refers to what.
struct Graph {
    edges: BTreeMap<Object, Vec<Object>>,
    sizes: BTreeMap<Object, u64>,
}

impl Graph {
    fn of(known: &Known) -> Self {
        let mut graph = Self { edges: BTreeMap::new(), sizes: BTreeMap::new() };
        for blob in &known.blobs {
            let object = Object::Blob(blob.digest);
            graph.sizes.insert(object.clone(), blob.size);
            graph.edges.insert(object, referred(&blob.labels).collect());
        }
        for snapshot in &known.snapshots {
            let object = |key| Object::Snapshot { snapshotter: snapshot.snapshotter.clone(), key };
            let below = snapshot.parent.clone().map(object);
            let here = object(snapshot.key.clone());
            graph.sizes.insert(here.clone(), snapshot.usage.map_or(0, |usage| usage.size_bytes));
            graph.edges.insert(here, below.into_iter().chain(referred(&snapshot.labels)).collect());
        }
        graph
    }

    fn reach(&self, containers: &[&ContainerRecord], images: &[&ImageRecord]) -> BTreeSet<Object> {
        let snapshots = containers.iter().filter_map(|container| own_snapshot(container));
        let mut left: Vec<Object> =
            images.iter().map(|image| Object::Blob(image.target.digest)).chain(snapshots).collect();
        let mut seen = BTreeSet::new();
        while let Some(object) = left.pop() {
            // What a label names may not be here.
            let Some(edges) = self.edges.get(&object) else { continue };
            if seen.insert(object) {
                left.extend(edges.iter().cloned());
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bosun_types::container::RuntimeChoice;
    use bosun_types::content::Descriptor;
    use bosun_types::image::{LABEL_GC_REF_CONTENT, LABEL_GC_REF_SNAPSHOT};
    use bosun_types::snapshot::{SnapshotKind, Usage};
    use bosun_types::{ContainerId, Digest, ImageName, Labels, NamespaceName, SnapshotKey};

    use super::*;

    fn container(id: &str, image: &str) -> ContainerRecord {
        ContainerRecord {
            namespace: NamespaceName::default_name(),
            id: ContainerId::new(id).expect("good"),
            labels: Labels::new(),
            image: Some(ImageName::new(image).expect("good")),
            runtime: RuntimeChoice::default(),
            spec: Vec::new(),
            snapshotter: Some("overlayfs".to_owned()),
            snapshot_key: Some(SnapshotKey::new(id).expect("good")),
            extensions: BTreeMap::new(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    fn snapshot(key: &str, parent: Option<&str>, bytes: u64) -> SnapshotRecord {
        SnapshotRecord {
            namespace: NamespaceName::default_name(),
            snapshotter: "overlayfs".to_owned(),
            key: SnapshotKey::new(key).expect("good"),
            parent: parent.map(|key| SnapshotKey::new(key).expect("good")),
            kind: SnapshotKind::Committed,
            directory: 1,
            labels: Labels::new(),
            usage: Some(Usage { inodes: 1, size_bytes: bytes }),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    fn blob(number: u8, size: u64, labels: &[(&str, String)]) -> ContentRecord {
        ContentRecord {
            namespace: NamespaceName::default_name(),
            digest: Digest::from_bytes([number; 32]),
            size,
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    fn image(name: &str, number: u8) -> ImageRecord {
        ImageRecord {
            namespace: NamespaceName::default_name(),
            name: ImageName::new(name).expect("good"),
            target: Descriptor {
                media_type: "m".to_owned(),
                digest: Digest::from_bytes([number; 32]),
                size: 1,
            },
            labels: Labels::new(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    /// Two images that share a layer; a container of each.
    fn world() -> Known {
        let content = format!("{LABEL_GC_REF_CONTENT}.0");
        let top = format!("{LABEL_GC_REF_SNAPSHOT}.overlayfs");
        let digest = |number: u8| Digest::from_bytes([number; 32]).to_string();
        Known {
            containers: vec![container("one", "r.local/a:1"), container("two", "r.local/b:1")],
            tasks: Vec::new(),
            policies: Vec::new(),
            images: vec![image("r.local/a:1", 1), image("r.local/b:1", 2)],
            blobs: vec![
                blob(1, 10, &[(&content, digest(9)), (&top, "top-a".to_owned())]),
                blob(2, 20, &[(&content, digest(9)), (&top, "top-b".to_owned())]),
                blob(9, 100, &[]),
            ],
            snapshots: vec![
                snapshot("base", None, 1000),
                snapshot("top-a", Some("base"), 100),
                snapshot("top-b", Some("base"), 200),
                snapshot("one", Some("top-a"), 1),
                snapshot("two", Some("top-b"), 2),
            ],
        }
    }

    #[test]
    fn what_is_shared_with_something_that_stays_is_not_counted() {
        let mut known = world();
        // The second one's restart policy is about to start it.
        known.policies.push(RelaunchInfo {
            container: ContainerId::new("two").expect("good"),
            policy: bosun_types::relaunch::RestartPolicy::new(bosun_types::relaunch::RestartWhen::Always),
            status: RelaunchStatus::Waiting,
            count: 1,
            stopped: false,
            next_at: None,
            cause: None,
            last_exit: None,
        });
        let now = Timestamp(FRESH);
        let plan = Plan::of(&known, true, true, now);
        assert_eq!((plan.containers, plan.images), (vec!["one".to_owned()], vec!["r.local/a:1".to_owned()]));
        assert_eq!((plan.blobs, plan.blob_bytes), (1, 10), "not the layer that both have");
        assert_eq!((plan.snapshots, plan.snapshot_bytes), (2, 101));
        assert_eq!((plan.own_snapshots, plan.own_bytes), (1, 1));
        let containers = Plan::of(&known, true, false, now);
        assert_eq!((containers.images.len(), containers.blobs, containers.snapshot_bytes), (0, 0, 1));
        assert_eq!(Plan::of(&known, false, true, now), Plan::default(), "both images are used");
        assert_eq!(Plan::of(&known, true, true, Timestamp(FRESH - 1)), Plan::default(), "just being made");
        known.policies.clear();
        let all = Plan::of(&known, true, true, now);
        assert_eq!((all.blobs, all.blob_bytes, all.snapshots, all.snapshot_bytes), (3, 130, 5, 1303));
    }
}
