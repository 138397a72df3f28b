//! The rows: which type lives in which table under which key.

use bosun_types::access::{AuditRecord, SocketRecord};
use bosun_types::container::ContainerRecord;
use bosun_types::content::ContentRecord;
use bosun_types::event::EventRecord;
use bosun_types::image::ImageRecord;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::operation::OperationRecord;
use bosun_types::relaunch::RelaunchRecord;
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::task::{ExecRecord, TaskRecord};

use crate::key::{self, Key};
use crate::table::{Record, Table};

macro_rules! record {
    ($type:ty, $table:ident, |$row:ident| $key:expr) => {
        impl Record for $type {
            const TABLE: Table = Table::$table;
            const VERSION: u8 = 1;
            fn key(&self) -> Key {
                let $row = self;
                $key
            }
        }
    };
}

record!(NamespaceRecord, Namespaces, |row| key::namespace(&row.name));
record!(ContainerRecord, Containers, |row| key::container(&row.namespace, &row.id));
record!(TaskRecord, Tasks, |row| key::task(&row.namespace, &row.container));
record!(ExecRecord, Execs, |row| key::exec(&row.namespace, &row.container, &row.id));
record!(ImageRecord, Images, |row| key::image(&row.namespace, &row.name));
record!(ContentRecord, Content, |row| key::content(&row.namespace, &row.digest));
record!(SnapshotRecord, Snapshots, |row| key::snapshot(&row.namespace, &row.snapshotter, &row.key));
record!(OperationRecord, Operations, |row| key::operation(row.id));
record!(EventRecord, Events, |row| key::event(row.sequence));
record!(SocketRecord, Sockets, |row| key::socket(&row.id));
record!(AuditRecord, Audit, |row| key::audit(row.sequence));
record!(RelaunchRecord, Relaunches, |row| key::relaunch(&row.namespace, &row.container));

#[cfg(test)]
mod tests;
