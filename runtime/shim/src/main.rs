//! bosun-shim: one per task. It holds the container's processes, moves their streams, and reports their ends, whatever
//! becomes of the daemon.
//!
//! ```text
//!   daemon ⇄ shim.sock ─ connection ─┐
//!   SIGCHLD, SIGTERM ── reaper ──────┤
//!   pipes, FIFOs, pty ─ stdio ───────┼─ event_loop ── phase (the law) ── create, exec, delete ── job (forked child)
//!                                    │                                                            └ oci: embedded | binary
//!   exit.rec, shim.rec ─ record ─────┘── exit (kill the rest, drain, record, report)
//! ```
//!
//! One thread, no runtime. What is large or slow (JSON, libcontainer, an external OCI runtime) happens in a forked
//! child that lives for one request; the shim itself stays at a few hundred kilobytes and always answers.

mod adopt;
mod binary;
mod calls;
mod cgroup;
mod connection;
mod create;
mod criu;
mod delete;
mod dump;
mod embedded;
mod enter;
mod error;
mod event_loop;
mod exec;
mod exit;
mod filter;
mod home;
mod idmap;
mod job;
mod oci;
mod oom;
mod options;
mod phase;
mod process;
mod reaper;
mod record;
mod request;
mod restore;
mod rootfs;
mod scheduler;
mod setup;
mod stdio;
mod sys;
mod tenant;
mod trace;

use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use bosun_types::error::chain;
use bosun_types::shim::{file, flag};

use crate::error::{Context as _, Result};
use crate::event_loop::Shim;
use crate::options::Options;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(flag::PROBE_IDMAP) {
        return answer(idmap::probe(words.next().unwrap_or_default().as_ref()));
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            complain(&message);
            return ExitCode::from(2);
        }
    };
    answer(serve(&options))
}

fn answer(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<()> {
    if !options.protected {
        cgroup::warm_up();
        setup::protect(options)?;
    }
    let (signals, oom_score) = setup::prepare(options)?;
    if let Some(name) = &options.seccomp {
        // Rather no container than one without its filter.
        std::fs::metadata(name).context(|| format!("find the seccomp filter {name}"))?;
    }
    let _lock = setup::lock_directory()?;
    let identity = sys::identity_of(nix::unistd::getpid().as_raw()).context(|| "identify the shim".into())?;
    let adoption = options.adopt.as_deref().map(record::read_adoption).transpose()?;
    // One that takes over has its beacon when it has the container: the dead one's says whose that is until then.
    if adoption.is_none() {
        record::write_beacon(&event_loop::first_beacon(options, identity))?;
    }
    // A socket file that is there already is of a shim that died: it cannot be bound again.
    let _ = std::fs::remove_file(file::SOCKET);
    let listener = UnixListener::bind(file::SOCKET).context(|| format!("bind {}", file::SOCKET))?;
    let mut shim = Shim::new(options.clone(), identity, signals, listener, oom_score)?;
    if let Some(adoption) = adoption {
        shim.take_over(adoption)?;
    }
    setup::tell_ready(options);
    let result = shim.run();
    let _ = std::fs::remove_file(file::SOCKET);
    result
}

/// For people: standard error is the shim's log file.
pub(crate) fn complain(message: &str) {
    trace::tell(trace::Level::Error, None, message);
}
