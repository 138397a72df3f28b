//! The daemon's side of the host: OCI specs, task directories, shims, processes, cgroups, mounts, logs, and what
//! recovery sees of all that.
//!
//! Everything here is idempotent (`ensure_x`, `ensure_not_x`) and proves what it touches: a process by pid and start
//! time ([`process`]), a task directory and a shim by the task's nonce ([`task_directory`]). Nothing here keeps state
//! of its own but the [`reaper`], which is of the process by nature.
//!
//! What is blocking says so; actors call it from a worker.

pub mod call;
pub mod cgroup;
pub mod clean_up;
pub mod error;
pub mod filter;
pub mod heap;
pub mod held;
pub mod log;
pub mod mount;
pub mod observe;
pub mod owner;
pub mod probe;
pub mod process;
pub mod reaper;
pub mod shim;
pub mod spec;
pub mod take_over;
pub mod task_directory;

pub use error::{Result, RuntimeError};

/// Identity of this boot of the kernel; nothing that lives under another one can live now.
pub fn boot_id() -> String {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    match std::fs::read_to_string(FILE) {
        Ok(text) => text.trim().to_owned(),
        Err(error) => {
            tracing::warn!(%error, "{FILE} cannot be read: tasks of an earlier boot are told by their processes only");
            String::new()
        }
    }
}
