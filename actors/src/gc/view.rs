//! From rows to a graph: one consistent look at the store, row by row.

use std::collections::{BTreeMap, BTreeSet};

use bosun_storage::error::StoreError;
use bosun_storage::key;
use bosun_storage::records::{container_keeps, image_keeps};
use bosun_storage::store::Viewed;
use bosun_storage::table::Table;
use bosun_types::container::ContainerRecord;
use bosun_types::content::ContentRecord;
use bosun_types::gc::{LABEL_ROOT, Object, Root, referred};
use bosun_types::image::ImageRecord;
use bosun_types::lease::{LeaseEntry, LeaseRecord, LeaseResource};
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::{Labels, LeaseId, NamespaceName, Result, Timestamp};

use super::graph::{Builder, Graph, Node, Reach};
use crate::core::Core;

/// What was found in one namespace.
pub(crate) struct View {
    /// What is there, and what keeps it.
    pub graph: Graph,
    /// Leases that have expired, and names of leases that have entries and no row.
    pub dead_leases: BTreeSet<LeaseId>,
    /// Unfinished writes that a lease holds.
    pub leased_ingests: BTreeSet<String>,
}

/// Looks at a namespace, at one moment of the store. Blocking. What work in flight holds in memory is a root too.
pub(crate) fn view(core: &Core, namespace: &NamespaceName, now: Timestamp) -> Result<View> {
    let mut reader = Reader { now, ..Reader::default() };
    for object in core.gc.barrier.held_in(namespace) {
        reader.builder.root(root("work", "in flight", None), object, Reach::Whole);
    }
    let within = key::within(namespace);
    // Leases before what they hold.
    let tables = [
        Table::Leases,
        Table::LeaseEntries,
        Table::Images,
        Table::Containers,
        Table::Content,
        Table::Snapshots,
    ];
    let mut ranges: Vec<_> = tables.into_iter().map(|table| (table, within.clone())).collect();
    ranges.push((Table::Operations, key::Key::all()));
    core.store.view(&ranges, &mut |row| reader.row(namespace, row))?;
    Ok(View { graph: reader.builder.build(), dead_leases: reader.dead, leased_ingests: reader.ingests })
}

#[derive(Default)]
struct Reader {
    now: Timestamp,
    builder: Builder,
    leases: BTreeMap<LeaseId, LeaseRecord>,
    dead: BTreeSet<LeaseId>,
    ingests: BTreeSet<String>,
}

fn root(kind: &str, id: impl ToString, until: Option<Timestamp>) -> Root {
    Root { kind: kind.to_owned(), id: id.to_string(), until }
}

impl Reader {
    fn row(&mut self, namespace: &NamespaceName, row: &Viewed<'_>) -> Result<(), StoreError> {
        match row.table {
            Table::Leases => self.lease(row.decode()?),
            Table::LeaseEntries => self.entry(row.decode()?),
            Table::Images => {
                let image: ImageRecord = row.decode()?;
                self.keeps("image", &image.name, image_keeps(&image));
            }
            Table::Containers => {
                let container: ContainerRecord = row.decode()?;
                self.keeps("container", &container.id, container_keeps(&container));
            }
            Table::Content => {
                let blob: ContentRecord = row.decode()?;
                let node = Node { object: Object::Blob(blob.digest), size: blob.size, directory: 0 };
                self.object(node, None, &blob.labels);
            }
            Table::Snapshots => {
                let SnapshotRecord { snapshotter, key, parent, directory, labels, usage, .. } =
                    row.decode()?;
                let of = |key| Object::Snapshot { snapshotter: snapshotter.clone(), key };
                let size = usage.map_or(0, |usage| usage.size_bytes);
                self.object(Node { object: of(key), size, directory }, parent.map(of), &labels);
            }
            Table::Operations => {
                let operation: OperationRecord = row.decode()?;
                if operation.namespace == *namespace {
                    self.operation(&operation);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn keeps(&mut self, kind: &str, id: impl ToString, objects: Vec<Object>) {
        for object in objects {
            self.builder.root(root(kind, id.to_string(), None), object, Reach::Whole);
        }
    }

    fn object(&mut self, node: Node, parent: Option<Object>, labels: &Labels) {
        if labels.contains_key(LABEL_ROOT) {
            self.builder.root(root("label", LABEL_ROOT, None), node.object.clone(), Reach::Whole);
        }
        self.builder.object(node, parent, referred(labels));
    }

    fn lease(&mut self, lease: LeaseRecord) {
        if lease.is_expired(self.now) {
            self.dead.insert(lease.id);
        } else {
            self.leases.insert(lease.id.clone(), lease);
        }
    }

    fn entry(&mut self, entry: LeaseEntry) {
        let Some(lease) = self.leases.get(&entry.lease) else {
            self.dead.insert(entry.lease);
            return;
        };
        match entry.resource {
            LeaseResource::Ingest(reference) => drop(self.ingests.insert(reference)),
            LeaseResource::Object(object) => {
                let reach = if lease.is_flat() { Reach::Flat } else { Reach::Whole };
                let by = root("lease", &lease.id, lease.expires_at());
                self.builder.root(by, object, reach);
            }
        }
    }

    /// A row that an open operation works on, or made before what will refer to it: perhaps nothing else keeps it until that is closed.
    fn operation(&mut self, operation: &OperationRecord) {
        if let Intent::PrepareSnapshot { snapshotter, key, .. }
        | Intent::CreateContainer { snapshotter, key, .. }
        | Intent::MakeLayer { snapshotter, key, .. }
        | Intent::ApplyLayer { snapshotter, key, .. } = &operation.intent
        {
            let object = Object::Snapshot { snapshotter: snapshotter.clone(), key: key.clone() };
            self.builder.root(root("operation", operation.id, None), object, Reach::Whole);
        }
    }
}
