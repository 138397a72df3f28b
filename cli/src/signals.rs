//! The signals that `run` passes on.

use nix::sys::signal::Signal;

/// What a foreground `run` or `exec` without a terminal passes to the container.
pub const FORWARDED: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
];
