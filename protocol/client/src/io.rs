//! Standard streams over FIFOs: the client makes them, the container's shim opens the other ends, the daemon only passes
//! their paths and never sees a byte (IO-1, IO-2). So output flows while the daemon is down.
//!
//! ```no_run
//! # async fn example(task: bosun_client::Task) -> bosun_client::Result<()> {
//! use bosun_client::io::{Ends, Fifos, Pump};
//!
//! let fifos = Fifos::create(bosun_client::io::DEFAULT_DIRECTORY, Ends::output())?;
//! let request = bosun_types::task::TaskRequest { stdio: fifos.stdio(), ..Default::default() };
//! let mut pump = Pump::attach(fifos, None::<tokio::io::Empty>, Some(tokio::io::sink()), Some(tokio::io::sink()))?;
//! // … create and start the task with `request` …
//! pump.started();
//! pump.drained().await?;
//! # Ok(())
//! # }
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
