//! The rows: which type lives in which table under which key.

use bosun_types::NamespaceName;
use bosun_types::access::{AuditRecord, SocketRecord};
use bosun_types::call::CallRecord;
use bosun_types::container::ContainerRecord;
use bosun_types::content::ContentRecord;
use bosun_types::event::{CursorRecord, EventRecord};
use bosun_types::gc::{Object, referred};
use bosun_types::group::GroupRecord;
use bosun_types::image::ImageRecord;
use bosun_types::lease::{LeaseEntry, LeaseRecord, LeaseResource};
use bosun_types::namespace::NamespaceRecord;
use bosun_types::operation::OperationRecord;
use bosun_types::relaunch::RelaunchRecord;
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::task::{ExecRecord, TaskRecord};

use crate::key::{self, Key};
use crate::table::{Record, Table};

macro_rules! record {
    ($type:ty, $table:ident, |$row:ident| $key:expr $(, touches $objects:expr)?) => {
        impl Record for $type {
            const TABLE: Table = Table::$table;
            const VERSION: u8 = 1;
            fn key(&self) -> Key {
                let $row = self;
                $key
            }
            $(fn touches(&self) -> Option<(&NamespaceName, Vec<Object>)> {
                Some((&self.namespace, $objects(self)))
            })?
        }
    };
}

record!(NamespaceRecord, Namespaces, |row| key::namespace(&row.name));
record!(ContainerRecord, Containers, |row| key::container(&row.namespace, &row.id), touches container_keeps);
record!(TaskRecord, Tasks, |row| key::task(&row.namespace, &row.container));
record!(ExecRecord, Execs, |row| key::exec(&row.namespace, &row.container, &row.id));
record!(ImageRecord, Images, |row| key::image(&row.namespace, &row.name), touches image_keeps);
record!(ContentRecord, Content, |row| key::content(&row.namespace, &row.digest), touches with_itself_blob);
record!(SnapshotRecord, Snapshots, |row| key::snapshot(&row.namespace, &row.snapshotter, &row.key), touches with_itself_snapshot);
record!(LeaseRecord, Leases, |row| key::lease(&row.namespace, &row.id));
record!(LeaseEntry, LeaseEntries, |row| key::lease_entry(&row.namespace, &row.lease, &row.resource), touches entry_keeps);
record!(OperationRecord, Operations, |row| key::operation(row.id));
record!(EventRecord, Events, |row| key::event(row.sequence));
record!(CursorRecord, Cursors, |row| key::cursor(row.namespace.as_ref(), &row.id));
record!(CallRecord, Calls, |row| key::call(&row.id));
record!(SocketRecord, Sockets, |row| key::socket(&row.id));
record!(AuditRecord, Audit, |row| key::audit(row.sequence));
record!(GroupRecord, Groups, |row| key::group(&row.namespace, &row.spec.name));
record!(RelaunchRecord, Relaunches, |row| key::relaunch(&row.namespace, &row.container));

/// GC-2: the snapshot of its root, and what its labels refer to.
pub fn container_keeps(row: &ContainerRecord) -> Vec<Object> {
    let root = row.snapshotter.clone().zip(row.snapshot_key.clone());
    let root = root.map(|(snapshotter, key)| Object::Snapshot { snapshotter, key });
    root.into_iter().chain(referred(&row.labels)).collect()
}

/// GC-2: its target, and what its labels refer to.
pub fn image_keeps(row: &ImageRecord) -> Vec<Object> {
    std::iter::once(Object::Blob(row.target.digest)).chain(referred(&row.labels)).collect()
}

/// GC-3: its parent, and what its labels refer to.
pub fn snapshot_keeps(row: &SnapshotRecord) -> Vec<Object> {
    let parent = row.parent.clone();
    let parent = parent.map(|key| Object::Snapshot { snapshotter: row.snapshotter.clone(), key });
    parent.into_iter().chain(referred(&row.labels)).collect()
}

fn with_itself_blob(row: &ContentRecord) -> Vec<Object> {
    std::iter::once(Object::Blob(row.digest)).chain(referred(&row.labels)).collect()
}

fn with_itself_snapshot(row: &SnapshotRecord) -> Vec<Object> {
    let itself = Object::Snapshot { snapshotter: row.snapshotter.clone(), key: row.key.clone() };
    std::iter::once(itself).chain(snapshot_keeps(row)).collect()
}

fn entry_keeps(row: &LeaseEntry) -> Vec<Object> {
    match &row.resource {
        LeaseResource::Object(object) => vec![object.clone()],
        LeaseResource::Ingest(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
