//! Standard streams over FIFOs: the client makes them, the container's shim opens the other ends, the daemon only passes
//! their paths and never sees a byte (IO-1, IO-2). So output flows while the daemon is down.
//!
//! ```no_run
#![doc = include_str!("../examples/tour/io.rs")]
//! ```
//! This module needs a tokio runtime; the rest of the library does not.

mod fifo;
mod pump;
#[cfg(test)]
mod tests;

pub use fifo::{DEFAULT_DIRECTORY, Ends, Fifos};
pub use pump::Pump;

/// Null IO: every stream is `/dev/null`.
pub fn null() -> bosun_types::stdio::Stdio {
    bosun_types::stdio::Stdio::default()
}
