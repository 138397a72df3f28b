//! What each call does to the world: what a read-only socket lets through, what the audit log records, and what becomes of it when a client that lost its
//! connection makes it again. A call that is not named here counts as changing: a new one is refused to readers, recorded, and done once for each key,
//! until somebody decides otherwise.

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Looks.
    Reads,
    /// Feeds something that was opened by a call that changes: too many to record one by one.
    Feeds,
    /// Changes something.
    Changes,
}

/// Attaching is not here: a reader that blocks stalls the process.
const READS: &[&str] = &[
    "audit.list",
    "container.build_spec",
    "container.copy_out",
    "container.list",
    "container.record",
    "container.relaunch",
    "container.stat_path",
    "content.info",
    "content.list",
    "content.read",
    "content.status",
    "content.statuses",
    "content.writer.status",
    "copy.wait",
    "daemon.garbage",
    "daemon.parts",
    "daemon.status",
    "daemon.tree",
    "event.cursors",
    "event.next",
    "event.subscribe",
    "group.info",
    "group.list",
    "image.get",
    "image.inspect",
    "image.list",
    "lease.list",
    "lease.resources",
    "namespace.list",
    "namespace.record",
    "namespace.why",
    "operation.list",
    "process.attach.next",
    "process.info",
    "process.wait",
    "relaunch.list",
    "snapshot.list",
    "snapshot.mounts",
    "snapshot.stat",
    "snapshot.usage",
    "socket.list",
    "task.execs",
    "task.list",
    "task.logs",
    "task.logs.next",
    "task.metrics",
    "task.pids",
    "transfer.get",
    "transfer.list",
    "transfer.wait",
    "transfer.watch",
];

const FEEDS: &[&str] = &["event.acknowledge", "process.resize", "process.write_stdin"];

/// Changes that are not remembered by their keys, each with the reason why a repetition does no harm. All others are done once ([`crate::connection::Held::once`]).
/// The words are those of docs/protocol/calls.md.
const SAME_AGAIN: &[(&str, &str)] = &[
    (
        "container.copy_in",
        "a stream: begun again from its start, and what is there is written over with the same",
    ),
    ("content.abort", "made again by its key, an unfinished write that is gone is what was asked for"),
    ("content.commit", "a blob's name is its digest: one that is there is told as alreadyExists"),
    ("content.verify", "looks; what is right is not repaired again"),
    ("content.writer", "opens what is there, and says where it stands"),
    ("content.writer.abort", "its writer ended with the connection: `content.abort`"),
    ("daemon.collect", "removes what nothing keeps, then as now"),
    ("event.acknowledge", "a position that was acknowledged already changes nothing"),
    ("event.cursor", "one that is there is given as it is"),
    ("image.unpack", "layers that are snapshots already are left"),
    ("process.attach", "from a position; detached by the lost connection"),
    ("snapshot.apply", "done, it is refused: the snapshot has changes then"),
    ("snapshot.diff", "reads a snapshot; the layer's name is its digest"),
    ("snapshot.verify", "looks; what is right is not repaired again"),
    ("transfer.cancel", "made again by its key, a transfer that has ended is what was asked for"),
    ("transfer.export", "a stream: begun again from its start, and only read"),
    ("transfer.import", "a stream, which ended with the connection: begun again from its start"),
];

/// Why a repetition of it does no harm though it is not remembered; `None`: it is remembered.
pub(crate) fn same_again(method: &str) -> Option<&'static str> {
    let place = SAME_AGAIN.binary_search_by_key(&method, |(name, _)| name).ok()?;
    Some(SAME_AGAIN[place].1)
}

/// What this one does.
pub(crate) fn effect(method: &str) -> Effect {
    if READS.binary_search(&method).is_ok() {
        Effect::Reads
    } else if FEEDS.binary_search(&method).is_ok() {
        Effect::Feeds
    } else {
        Effect::Changes
    }
}

#[cfg(test)]
mod tests;
