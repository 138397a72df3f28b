//! The daemon's side of the host with real shims and real containers. Needs root and busybox-static, as the daemon's
//! own tests do.
//!
//! A binary of its own: the reaper takes every child of the process, so nothing here may wait for a child by itself.

#![expect(clippy::unwrap_used, reason = "a test that fails shall say where")]

#[path = "host/end.rs"]
mod end;
#[path = "host/start.rs"]
mod start;
#[path = "host/world.rs"]
mod world;
