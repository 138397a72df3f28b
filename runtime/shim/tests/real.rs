//! Drives the real `bosun-shim` binary over its socket, with real containers. Needs root and /bin/busybox.

#![expect(clippy::unwrap_used, reason = "clippy knows helpers of integration tests as ordinary code")]

#[path = "real/client.rs"]
mod client;
#[path = "real/lifecycle.rs"]
mod lifecycle;
#[path = "real/task.rs"]
mod task;
