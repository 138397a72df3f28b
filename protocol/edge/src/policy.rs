//! What each call does to the world: what a read-only socket lets through, and what the audit log records. A call that is not named here
//! counts as changing: a new one is refused to readers, and recorded, until somebody decides otherwise.

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
    "connection.reach",
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
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_changes() {
        assert!(READS.is_sorted() && FEEDS.is_sorted(), "binary search needs order");
        for method in READS {
            assert_eq!(effect(method), Effect::Reads);
        }
        for method in ["container.create", "process.attach", "process.kill", "new.call", "", "event.publish"]
        {
            assert_eq!(effect(method), Effect::Changes, "{method}");
        }
        assert_eq!(effect("process.write_stdin"), Effect::Feeds);
    }
}
