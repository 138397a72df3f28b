//! Keys: components joined by NUL, which no identifier contains; numbers big-endian. Byte order is the order of names.

use std::fmt;

use bosun_types::call::CallId;
use bosun_types::event::EventSequence;
use bosun_types::lease::LeaseResource;
use bosun_types::{
    ContainerId, CursorId, Digest, ExecId, GroupName, ImageName, LeaseId, NamespaceName, OperationId,
    SnapshotKey, SocketId,
};

/// A key, or a prefix of keys, inside one table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Vec<u8>);

impl Key {
    /// The prefix of everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// From raw bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

fn join(parts: &[&[u8]]) -> Key {
    Key(parts.join(&0))
}

/// A namespace.
pub fn namespace(name: &NamespaceName) -> Key {
    join(&[name.as_str().as_bytes()])
}

/// The prefix of everything in a namespace.
pub fn within(namespace: &NamespaceName) -> Key {
    join(&[namespace.as_str().as_bytes(), b""])
}

/// A container.
pub fn container(namespace: &NamespaceName, id: &ContainerId) -> Key {
    join(&[namespace.as_str().as_bytes(), id.as_str().as_bytes()])
}

/// A container's task.
pub fn task(namespace: &NamespaceName, id: &ContainerId) -> Key {
    container(namespace, id)
}

/// A container's restart policy.
pub fn relaunch(namespace: &NamespaceName, id: &ContainerId) -> Key {
    container(namespace, id)
}

/// A group of containers.
pub fn group(namespace: &NamespaceName, name: &GroupName) -> Key {
    join(&[namespace.as_str().as_bytes(), name.as_str().as_bytes()])
}

/// An exec.
pub fn exec(namespace: &NamespaceName, container: &ContainerId, id: &ExecId) -> Key {
    join(&[namespace.as_str().as_bytes(), container.as_str().as_bytes(), id.as_str().as_bytes()])
}

/// The prefix of a container's execs.
pub fn execs_of(namespace: &NamespaceName, container: &ContainerId) -> Key {
    join(&[namespace.as_str().as_bytes(), container.as_str().as_bytes(), b""])
}

/// An image.
pub fn image(namespace: &NamespaceName, name: &ImageName) -> Key {
    join(&[namespace.as_str().as_bytes(), name.as_str().as_bytes()])
}

/// A blob in a namespace.
pub fn content(namespace: &NamespaceName, digest: &Digest) -> Key {
    join(&[namespace.as_str().as_bytes(), digest.hex().as_bytes()])
}

/// A snapshot.
pub fn snapshot(namespace: &NamespaceName, snapshotter: &str, key: &SnapshotKey) -> Key {
    join(&[namespace.as_str().as_bytes(), snapshotter.as_bytes(), key.as_str().as_bytes()])
}

/// The prefix of a snapshotter's snapshots.
pub fn snapshots_of(namespace: &NamespaceName, snapshotter: &str) -> Key {
    join(&[namespace.as_str().as_bytes(), snapshotter.as_bytes(), b""])
}

/// A lease.
pub fn lease(namespace: &NamespaceName, id: &LeaseId) -> Key {
    join(&[namespace.as_str().as_bytes(), id.as_str().as_bytes()])
}

/// Something that a lease holds.
pub fn lease_entry(namespace: &NamespaceName, id: &LeaseId, resource: &LeaseResource) -> Key {
    let (kind, what) = (resource.kind(), resource.id());
    join(&[namespace.as_str().as_bytes(), id.as_str().as_bytes(), kind.as_bytes(), what.as_bytes()])
}

/// The prefix of everything that a lease holds.
pub fn lease_entries_of(namespace: &NamespaceName, id: &LeaseId) -> Key {
    join(&[namespace.as_str().as_bytes(), id.as_str().as_bytes(), b""])
}

/// An operation.
pub fn operation(id: OperationId) -> Key {
    Key(id.0.to_be_bytes().to_vec())
}

/// An event.
pub fn event(sequence: EventSequence) -> Key {
    Key(sequence.to_be_bytes().to_vec())
}

/// The prefix of a namespace's cursors, or (`None`) of those of all.
pub fn cursors_of(namespace: Option<&NamespaceName>) -> Key {
    join(&[namespace.map_or(&b""[..], |name| name.as_str().as_bytes()), b""])
}

/// A named cursor.
pub fn cursor(namespace: Option<&NamespaceName>, id: &CursorId) -> Key {
    join(&[namespace.map_or(&b""[..], |name| name.as_str().as_bytes()), id.as_str().as_bytes()])
}

/// A call that was done.
pub fn call(id: &CallId) -> Key {
    join(&[id.key.as_str().as_bytes(), id.method.as_bytes(), id.subject.as_bytes()])
}

/// A socket.
pub fn socket(id: &SocketId) -> Key {
    join(&[id.as_str().as_bytes()])
}

/// An entry of the audit log.
pub fn audit(sequence: u64) -> Key {
    Key(sequence.to_be_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_prefix_does_not_reach_its_longer_sibling() {
        let short = NamespaceName::new("web").expect("good");
        let long = NamespaceName::new("web-two").expect("good");
        let id = ContainerId::new("a").expect("good");
        assert!(container(&short, &id).as_bytes().starts_with(within(&short).as_bytes()));
        assert!(!container(&long, &id).as_bytes().starts_with(within(&short).as_bytes()));
    }

    #[test]
    fn numbers_keep_their_order() {
        assert!(event(255) < event(256));
        assert!(operation(OperationId(1)) < operation(OperationId(u64::MAX)));
    }
}
