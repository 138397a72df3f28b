//! A process in the foreground: its streams are ours, our signals and our window's size are its, its exit code is ours.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use bosun_client::Process;
use bosun_client::io::{Ends, Fifos, Pump};
use bosun_types::stdio::Stdio;
use bosun_types::task::ExitStatus;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::run::log;
use crate::arguments::Streams;
use crate::context::Context;
use crate::terminal::{self, RawMode};
use crate::{output, signals};

/// How long output may go on after the process has ended: what it left in the FIFOs, not what others hold open.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Signals waiting to be passed on.
const SIGNALS_WAITING_MAX: usize = 16;

/// How a process ended, or why that is not known.
type Exit = Result<ExitStatus, bosun_types::Error>;

/// Streams that are copied, before there is a process and while it runs.
pub struct Session {
    pump: Option<Pump>,
    terminal: bool,
    interactive: bool,
    _raw: Option<RawMode>,
}

impl Session {
    /// Opens our side of the streams; call before the process is made.
    pub fn prepare(fifos: Fifos) -> anyhow::Result<Self> {
        let ends = fifos.ends();
        let stdin = ends.stdin.then(tokio::io::stdin);
        let pump = Pump::attach(fifos, stdin, Some(tokio::io::stdout()), Some(tokio::io::stderr()))?;
        let raw = if ends.terminal && ends.stdin { RawMode::enter()? } else { None };
        Ok(Self { pump: Some(pump), terminal: ends.terminal, interactive: ends.stdin, _raw: raw })
    }

    /// Of a process whose streams go nowhere: what is left are its signals and its exit code.
    fn without_streams() -> Self {
        Self { pump: None, terminal: false, interactive: false, _raw: None }
    }

    /// Stays with the process until it has ended and its output is written; its exit code.
    pub async fn attend(
        &mut self,
        process: &Process,
        exit: impl Future<Output = Exit>,
    ) -> anyhow::Result<u8> {
        let followers = Followers::of(process, self.terminal);
        let exit = self.wait(process, exit).await;
        drop(followers);
        let exit = exit?;
        if let Some(pump) = self.pump.take()
            && tokio::time::timeout(DRAIN_DEADLINE, pump.drained()).await.is_err()
        {
            output::note("warning: the process has ended, but something still holds its output open");
        }
        Ok(u8::try_from(exit.code()).unwrap_or(u8::MAX))
    }

    async fn wait(
        &mut self,
        process: &Process,
        exit: impl Future<Output = Exit>,
    ) -> anyhow::Result<ExitStatus> {
        let Some(pump) = &mut self.pump else { return Ok(exit.await?) };
        pump.started();
        tokio::pin!(exit);
        let mut wait = exit;
        if self.interactive {
            tokio::select! {
                exit = &mut wait => return Ok(exit?),
                () = pump.input_ended() => {
                    // A process that has ended meanwhile has no input to close.
                    let _ = process.close_stdin().await;
                }
            }
        }
        Ok(wait.await?)
    }
}

/// A container's first process with our streams, or with none.
pub struct Foreground {
    /// What the daemon is told of them.
    pub stdio: Stdio,
    session: Session,
}

impl Foreground {
    /// Opens our side.
    pub fn prepare(context: &Context, streams: &Streams, tty: bool) -> anyhow::Result<Self> {
        if streams.null_io {
            return Ok(Self { stdio: Stdio::default(), session: Session::without_streams() });
        }
        let ends = if tty { Ends::terminal() } else { Ends::output() };
        let fifos = Fifos::create(&context.fifo_directory, Ends { stdin: streams.interactive, ..ends })?;
        let stdio = Stdio { log: log::target(&streams.log_opt)?, ..fifos.stdio() };
        Ok(Self { stdio, session: Session::prepare(fifos)? })
    }

    /// Stays until it has ended; its exit code.
    pub async fn attend(
        &mut self,
        process: &Process,
        exit: impl Future<Output = Exit>,
    ) -> anyhow::Result<u8> {
        self.session.attend(process, exit).await
    }
}

/// What a process is told of us while this lives: our signals and our window's size.
pub struct Followers([Option<JoinHandle<()>>; 2]);

impl Followers {
    /// Begins.
    pub fn of(process: &Process, terminal: bool) -> Self {
        Self([
            Some(tokio::spawn(forward_signals(process.clone(), terminal))),
            terminal.then(|| tokio::spawn(follow_window(process.clone()))),
        ])
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.0.iter().flatten().for_each(JoinHandle::abort);
    }
}

/// Passes on what we get. With a terminal in raw mode the keys' signals come from the container's own terminal.
async fn forward_signals(process: Process, terminal: bool) {
    let (sender, mut waiting) = mpsc::channel::<Signal>(SIGNALS_WAITING_MAX);
    for number in signals::FORWARDED {
        let from_keys = matches!(number, Signal::SIGINT | Signal::SIGQUIT);
        if terminal && from_keys {
            continue;
        }
        let Ok(mut stream) = signal(SignalKind::from_raw(number as i32)) else { continue };
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if sender.send(number).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    while let Some(number) = waiting.recv().await {
        if let Err(error) = process.kill(number as u32, false).await
            && error.class != bosun_types::ErrorClass::NotFound
        {
            output::note(format!("warning: {number} not passed on: {error}"));
        }
    }
}

/// Gives the process's terminal the size of ours, now and whenever it changes.
async fn follow_window(process: Process) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some((width, height)) = terminal::size() {
            // A size that did not arrive is mended by the next.
            let _ = process.resize(u32::from(width), u32::from(height)).await;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// A number that no other start of this program has.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Two words and a number.
pub fn random_name() -> String {
    const QUALITIES: [&str; 16] = [
        "brisk", "calm", "deft", "early", "fair", "keen", "level", "lucid", "plain", "quick", "ready",
        "sound", "steady", "swift", "tidy", "trim",
    ];
    const THINGS: [&str; 16] = [
        "anchor", "beam", "boom", "cleat", "davit", "ensign", "fender", "gaff", "halyard", "jib", "keel",
        "mast", "oar", "rudder", "sail", "spar",
    ];
    let random = random();
    let pick = |words: &[&'static str; 16], shift: u32| words[(random >> shift) as usize % words.len()];
    format!("{}-{}-{}", pick(&QUALITIES, 0), pick(&THINGS, 8), (random >> 16) % 10_000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn random_names_are_container_ids() {
        for _ in 0..100 {
            let name = super::random_name();
            bosun_types::ContainerId::new(name.as_str()).expect(&name);
        }
    }
}
