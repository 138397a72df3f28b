//! Drives the real `bosun-shim` binary over its socket, with real containers. Needs root and /bin/busybox.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "clippy takes helpers of integration tests for ordinary code"
)]

#[path = "real/adopt.rs"]
mod adopt;
#[path = "real/checkpoint.rs"]
mod checkpoint;
#[path = "real/client.rs"]
mod client;
#[path = "real/crash.rs"]
mod crash;
#[path = "real/exec.rs"]
mod exec;
#[path = "real/lifecycle.rs"]
mod lifecycle;
#[path = "real/measure.rs"]
mod measure;
#[path = "real/runtimes.rs"]
mod runtimes;
#[path = "real/streams.rs"]
mod streams;
#[path = "real/task.rs"]
mod task;
