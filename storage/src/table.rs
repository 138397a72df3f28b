//! The tables, and what it takes to be a row.

use bosun_types::NamespaceName;
use bosun_types::gc::Object;

use crate::error::Result;
use crate::key::Key;

/// Every table; the number is the first byte of its keys on disk and is never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Format version, counters, the chain.
    Meta = 1,
    /// Namespaces.
    Namespaces = 2,
    /// Containers.
    Containers = 3,
    /// Tasks.
    Tasks = 4,
    /// Execs.
    Execs = 5,
    /// Images.
    Images = 6,
    /// Blobs as each namespace sees them.
    Content = 7,
    /// Snapshots of every snapshotter.
    Snapshots = 8,
    /// Leases.
    Leases = 9,
    /// Open operations.
    Operations = 10,
    /// Events.
    Events = 11,
    /// Named cursors of subscribers.
    Cursors = 12,
    /// Who did what.
    Audit = 13,
    /// Sockets that yield one namespace.
    Sockets = 16,
    /// Restart policies of containers, and where they are.
    Relaunches = 14,
    /// What leases hold.
    LeaseEntries = 17,
    /// Groups of containers.
    Groups = 15,
    /// Calls that were done, by their idempotency keys.
    Calls = 18,
}

impl Table {
    /// For messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Namespaces => "namespaces",
            Self::Containers => "containers",
            Self::Tasks => "tasks",
            Self::Execs => "execs",
            Self::Images => "images",
            Self::Content => "content",
            Self::Snapshots => "snapshots",
            Self::Leases => "leases",
            Self::Operations => "operations",
            Self::Events => "events",
            Self::Cursors => "cursors",
            Self::Audit => "audit",
            Self::Sockets => "sockets",
            Self::Relaunches => "relaunches",
            Self::LeaseEntries => "lease_entries",
            Self::Groups => "groups",
            Self::Calls => "calls",
        }
    }
}

/// A row.
pub trait Record: bincode::Encode + bincode::Decode<()> + Sized {
    /// Its table.
    const TABLE: Table;
    /// Version that is written. A changed layout is the next number, with a case in `decode_old`.
    const VERSION: u8;
    /// Its key.
    fn key(&self) -> Key;
    /// The blobs and snapshots of its namespace that it keeps or is itself; garbage collection must not remove one of them between the moment
    /// at which a change was decided and its commit.
    fn touches(&self) -> Option<(&NamespaceName, Vec<Object>)> {
        None
    }
    /// Reads an older version; `None`: not known.
    fn decode_old(version: u8, body: &[u8]) -> Option<Result<Self>> {
        let _ = (version, body);
        None
    }
}
