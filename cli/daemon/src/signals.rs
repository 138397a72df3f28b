//! SIGTERM and SIGINT end the daemon in order (containers go on); SIGPIPE is ignored by Rust's start-up; SIGHUP is
//! ignored, so that a closing terminal does not end a daemon started by hand (row SYS-7).

use tokio::signal::unix::{SignalKind, signal};

/// Resolves with the name of the signal that asks us to stop.
pub async fn stop_requested() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok("SIGTERM"),
            _ = interrupt.recv() => return Ok("SIGINT"),
            _ = hangup.recv() => tracing::info!("SIGHUP ignored"),
        }
    }
}
