//! Standard streams: what the process gets, and the copying between it and FIFOs, files and the log (IO-*).
//!
//! Each copy is a small state machine that the event loop drives with readiness: it reads while both ends allow it,
//! and says which end it waits for.

pub mod fed;
pub mod fifo;
pub mod input;
pub mod log_file;
pub mod logger;
pub mod null;
pub mod output;
pub mod pty;
pub mod tail;

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use bosun_types::Error;
use bosun_types::stdio::{OutputStream, STDIN_ATTACH, Stdio};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

pub use fed::Fed;
pub use fifo::OutputFifo;
pub use input::Input;
pub use log_file::LogFile;
pub use output::{Output, Target};
pub use tail::Tail;

use crate::error::{Context as _, Result};
use crate::oci::ProcessStreams;
use crate::sys;

/// Bytes moved by one read: IO-2's size.
pub const CHUNK_BYTES: usize = 32 << 10;
/// Chunks moved for one readiness event before other events get their turn.
pub const CHUNKS_PER_TURN: usize = 8;

/// What a copy waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// For bytes.
    Source,
    /// For room.
    Sink,
    /// For somebody who attached, or to be given something: no descriptor tells.
    Room,
    /// For nothing: it has ended.
    Ended,
}

/// The shim's side of a process's streams.
#[derive(Debug, Default)]
pub struct Copies {
    /// Output copies.
    pub outputs: Vec<Output>,
    /// Input copy.
    pub input: Option<Input>,
    /// Input that attached clients write.
    pub fed: Option<Fed>,
    /// The last output, when there is any to come.
    pub tail: Option<SharedTail>,
}

/// Of both output streams.
pub type SharedTail = Rc<RefCell<Tail>>;

/// Sinks opened for a process with a terminal, whose pty is still to come.
#[derive(Debug)]
pub struct PendingTerminal {
    /// Where the pty will arrive.
    pub socket: pty::ConsoleSocket,
    sinks: output::Sinks,
    stdin: Stdin,
    tail: SharedTail,
}

/// Where a process's input comes from.
#[derive(Debug)]
enum Stdin {
    Nowhere,
    Fifo(fifo::InputFifo),
    Clients,
}

impl Stdin {
    fn open(path: Option<&str>) -> Result<Self> {
        Ok(match path {
            None | Some("") => Self::Nowhere,
            Some(STDIN_ATTACH) => Self::Clients,
            Some(path) => Self::Fifo(fifo::InputFifo::open(path)?),
        })
    }

    /// Takes up copying to `sink`.
    fn feed(self, sink: OwnedFd, copies: &mut Copies) -> Result<()> {
        match self {
            Self::Nowhere => {}
            Self::Fifo(fifo) => copies.input = Some(Input::new(fifo, sink)?),
            Self::Clients => copies.fed = Some(Fed::new(sink)?),
        }
        Ok(())
    }
}

/// What `open` made.
#[derive(Debug)]
pub enum Opened {
    /// Pipes: copying can begin at once.
    Pipes(Copies),
    /// A terminal: copying begins when the runtime has sent it.
    Terminal(Box<PendingTerminal>),
}

/// Opens a process's streams: its side and the shim's. `name` distinguishes sockets of this task; `logger` are the pipes to its logging program.
pub fn open(stdio: &Stdio, name: &str, logger: Option<[OutputFifo; 2]>) -> Result<(ProcessStreams, Opened)> {
    let log = stdio.log.as_ref().map(LogFile::open).transpose()?.map(|log| Rc::new(RefCell::new(log)));
    let tail = SharedTail::default();
    let (mut stdout, mut stderr) = (Target::of(stdio.stdout.as_deref()), Target::of(stdio.stderr.as_deref()));
    if let Some(pipes) = logger {
        [stdout, stderr] = pipes.map(Target::Pipe);
    }
    let stdin = Stdin::open(stdio.stdin.as_deref())?;
    if stdio.terminal {
        if stdio.stderr.as_ref().is_some_and(|path| !path.is_empty()) {
            return Err(Error::invalid_argument("stderr must be empty with a terminal").into());
        }
        let socket = pty::ConsoleSocket::bind(format!("console-{name}.sock"))?;
        let sinks = output::Sinks::open(stdout, OutputStream::Stdout, log, Rc::clone(&tail))?;
        let streams = ProcessStreams::Console(socket.path().to_owned());
        return Ok((streams, Opened::Terminal(Box::new(PendingTerminal { socket, sinks, stdin, tail }))));
    }
    let mut copies = Copies::default();
    let is_attachable = matches!(stdin, Stdin::Clients);
    let theirs = match stdin {
        Stdin::Nowhere => null::open()?,
        stdin => {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC).context(|| "make a pipe".into())?;
            stdin.feed(ours, &mut copies)?;
            theirs
        }
    };
    let mut output = |target: Target<'_>, stream| -> Result<OwnedFd> {
        let sinks = output::Sinks::open(target, stream, log.clone(), Rc::clone(&tail))?;
        if sinks.is_empty() && !is_attachable {
            return null::open();
        }
        copies.tail = Some(Rc::clone(&tail));
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).context(|| "make a pipe".into())?;
        copies.outputs.push(Output::new(ours, sinks)?);
        Ok(theirs)
    };
    let stdout = output(stdout, OutputStream::Stdout)?;
    let stderr = output(stderr, OutputStream::Stderr)?;
    Ok((ProcessStreams::Pipes([theirs, stdout, stderr]), Opened::Pipes(copies)))
}

impl PendingTerminal {
    /// Takes the pty that the runtime has sent; the copies, and the descriptor to resize it by.
    pub fn receive(self) -> Result<(Copies, OwnedFd)> {
        let master = self.socket.receive()?;
        let duplicate = || master.try_clone().context(|| "duplicate the terminal".into());
        sys::set_nonblocking(std::os::fd::AsFd::as_fd(&master)).context(|| "terminal".into())?;
        let outputs = vec![Output::new(duplicate()?, self.sinks)?];
        let mut copies = Copies { outputs, tail: Some(self.tail), ..Copies::default() };
        self.stdin.feed(duplicate()?, &mut copies)?;
        Ok((copies, master))
    }
}
