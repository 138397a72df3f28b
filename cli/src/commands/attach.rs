//! A process whose streams reach us through the daemon: `bosun attach`, and interactive `run` and `exec` on a terminal. Detaching leaves it as it is.

use bosun_client::{Incoming, Process};
use bosun_types::stdio::{
    AttachFrom, AttachRecord, AttachRequest, OutputStream, Overflow, STDIN_ATTACH, Stdio,
};
use bosun_types::{Error, ErrorClass, ExecId};
use tokio::io::AsyncReadExt as _;

use super::foreground::Followers;
use crate::arguments::{Attach, OverflowChoice};
use crate::context::Context;
use crate::detach_keys::DetachKeys;
use crate::output;
use crate::terminal::RawMode;

/// What is read of our standard input at once.
const INPUT_BYTES: usize = 16 << 10;

/// Streams of a process that people attach to and leave.
pub fn stdio(terminal: bool) -> Stdio {
    Stdio { stdin: Some(STDIN_ATTACH.to_owned()), terminal, ..Stdio::default() }
}

/// `bosun attach`: the exit code of the process; 0 after detaching.
pub async fn attach(context: &Context, options: &Attach) -> anyhow::Result<u8> {
    let task = context.container(&options.container)?.task();
    let process = match &options.exec_id {
        None => task.init().clone(),
        Some(id) => task.process(ExecId::new(id.as_str())?),
    };
    let stdio = process.info().await?.stdio;
    let overflow = match options.overflow {
        OverflowChoice::Drop => Overflow::DropOldest,
        OverflowChoice::Block => Overflow::Block,
        OverflowChoice::Spill => Overflow::Spill,
    };
    let from = AttachFrom::Replay(options.replay.unwrap_or(0));
    let reader = process.attach(AttachRequest { from, overflow }).await?;
    let has_stdin = stdio.stdin.as_deref() == Some(STDIN_ATTACH);
    if !has_stdin && !options.no_stdin {
        output::note(
            "note: its standard input is not ours to write (made without --interactive, or from a FIFO)",
        );
    }
    let session = Session {
        keys: (has_stdin && !options.no_stdin).then(|| options.detach_keys.clone()),
        terminal: stdio.terminal,
        close_stdin: options.close_stdin,
        follow: options.sig_proxy,
    };
    session.attend(&process, reader).await
}

/// How we take part in a process.
pub struct Session {
    /// We write its input, until these are typed.
    pub keys: Option<DetachKeys>,
    /// It has a terminal.
    pub terminal: bool,
    /// The end of our input is the end of its.
    pub close_stdin: bool,
    /// Our signals and our window's size are its.
    pub follow: bool,
}

impl Session {
    /// Copies until the process has ended or the keys were typed; its exit code, or 0.
    pub async fn attend(self, process: &Process, mut reader: Incoming<AttachRecord>) -> anyhow::Result<u8> {
        let raw = if self.terminal && self.keys.is_some() { RawMode::enter()? } else { None };
        let followers = self.follow.then(|| Followers::of(process, self.terminal));
        let detached = tokio::select! {
            copied = copy_output(&mut reader) => copied.map(|()| false).map_err(anyhow::Error::from),
            typed = self.copy_input(process) => typed.map(|()| true),
        };
        drop(followers);
        drop(raw);
        if detached? {
            output::note(format!("detached from {}; it goes on", process.container()));
            return Ok(0);
        }
        let exit = process.wait().await?;
        Ok(u8::try_from(exit.code()).unwrap_or(u8::MAX))
    }

    /// Returns when the keys were typed, and in no other case but a failure.
    async fn copy_input(&self, process: &Process) -> anyhow::Result<()> {
        let Some(mut keys) = self.keys.clone() else { return std::future::pending().await };
        let mut input = tokio::io::stdin();
        let mut buffer = vec![0; INPUT_BYTES];
        loop {
            let length = input.read(&mut buffer).await?;
            if length == 0 {
                if self.close_stdin {
                    // A process that has ended meanwhile has no input to close.
                    let _ = process.close_stdin().await;
                }
                return std::future::pending().await;
            }
            let (bytes, detach) = keys.feed(&buffer[..length]);
            if !bytes.is_empty()
                && let Err(error) = process.write_stdin(bytes).await
            {
                match error.class {
                    // It does not read any more; what it writes still comes.
                    ErrorClass::FailedPrecondition | ErrorClass::NotFound => {
                        return std::future::pending().await;
                    }
                    _ => output::note(format!("warning: what was typed may be lost: {error}")),
                }
            }
            if detach {
                return Ok(());
            }
        }
    }
}

async fn copy_output(reader: &mut Incoming<AttachRecord>) -> Result<(), Error> {
    while let Some(record) = reader.next().await {
        match record? {
            AttachRecord::Output { stream: OutputStream::Stdout, bytes } => output::bytes(&bytes),
            AttachRecord::Output { stream: OutputStream::Stderr, bytes } => output::error_bytes(&bytes),
            AttachRecord::Missed(bytes) => {
                output::note(format!(
                    "warning: {bytes} bytes of output are missing here: we read too slowly"
                ));
            }
        }
    }
    Ok(())
}
