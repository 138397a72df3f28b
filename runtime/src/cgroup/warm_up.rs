//! Paying for a new cgroup's first member ahead of time.
//!
//! The first write to any `cgroup.procs` after a quiet while waits for an RCU grace period (10 ms and more): the kernel switches its lock over
//! threads and cgroups to the slow mode. Joining the group that we are in already changes nothing but pays that price, so that it is
//! over when a container joins its own.

use std::sync::atomic::{AtomicBool, Ordering};

/// One at a time: the second would wait for the same grace period.
static UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// Blocking, best effort: a host where it does not work is only slower.
pub fn warm_up() {
    if UNDER_WAY.swap(true, Ordering::SeqCst) {
        return;
    }
    if let Some(path) = own_group()
        && let Err(error) = std::fs::write(&path, "0")
    {
        tracing::debug!(path, %error, "the cgroup lock is not warmed up");
    }
    UNDER_WAY.store(false, Ordering::SeqCst);
}

/// `cgroup.procs` of a group that this process is in: a v1 hierarchy, else the unified one.
fn own_group() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(3, ':').collect()).collect();
    let v1 = lines.iter().find(|line| line.len() == 3 && line[1] == "pids");
    let v2 = lines.iter().find(|line| line.len() == 3 && line[1].is_empty());
    let candidates = [
        v1.map(|line| format!("/sys/fs/cgroup/pids{}/cgroup.procs", line[2])),
        v2.map(|line| format!("/sys/fs/cgroup{}/cgroup.procs", line[2])),
    ];
    candidates.into_iter().flatten().find(|path| std::path::Path::new(path).exists())
}
