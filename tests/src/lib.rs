//! The harness: a private world with a real daemon, a registry, images, and the invariant checker.

#![expect(clippy::print_stderr, reason = "a failing test shows the daemon's log")]

pub mod certificates;
pub mod cgroup;
pub mod client;
pub mod criu;
pub mod disk;
pub mod fixture;
pub mod invariants;
pub mod real_files;
pub mod registry;
pub mod terminal;
pub mod token_service;
pub mod world;
