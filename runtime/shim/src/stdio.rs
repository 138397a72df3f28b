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
pub mod pipe;
pub mod pty;
pub mod tail;

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use bosun_types::stdio::{OutputStream, STDIN_ATTACH, Stdio};
use bosun_types::{Error, ExecId};

pub use fed::Fed;
pub use fifo::OutputFifo;
pub use input::Input;
pub use log_file::LogFile;
pub use output::{Output, Target};
use pipe::{Pipe, Place, STDIN};
pub use tail::Tail;

use crate::error::{Context as _, Result};
use crate::oci::ProcessStreams;
use crate::sys;

/// Bytes moved by one read: IO-2's size.
pub const CHUNK_BYTES: usize = 32 << 10;
/// Chunks moved for one readiness event before other events get their turn.
pub const CHUNKS_PER_TURN: usize = 8;

/// The outputs of a process, and their numbers.
const OUTPUTS: [(OutputStream, usize); 2] = [(OutputStream::Stdout, 1), (OutputStream::Stderr, 2)];

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

/// Name of a process's sockets and pipes in the task directory.
pub fn name_of(exec: Option<&ExecId>) -> String {
    exec.map_or_else(|| "init".to_owned(), |id| format!("exec-{id}"))
}

/// Both outputs of a process, as its client named them.
struct Outputs<'a> {
    log: Option<Rc<RefCell<LogFile>>>,
    tail: SharedTail,
    targets: [Target<'a>; 2],
    is_attachable: bool,
}

impl<'a> Outputs<'a> {
    fn of(stdio: &'a Stdio, stdin: &Stdin, logger: Option<[OutputFifo; 2]>) -> Result<Self> {
        let log = stdio.log.as_ref().map(LogFile::open).transpose()?.map(|log| Rc::new(RefCell::new(log)));
        let targets = match logger {
            Some(pipes) => pipes.map(Target::Pipe),
            None => [&stdio.stdout, &stdio.stderr].map(|path| Target::of(path.as_deref())),
        };
        let is_attachable = matches!(stdin, Stdin::Clients);
        Ok(Self { log, tail: SharedTail::default(), targets, is_attachable })
    }

    fn sinks(&self, target: Target<'_>, stream: OutputStream) -> Result<output::Sinks> {
        output::Sinks::open(target, stream, self.log.clone(), Rc::clone(&self.tail))
    }
}

/// Opens the shim's side of a process that runs already, and whose pipes a shim before this one made.
pub fn reopen(stdio: &Stdio, name: &str, logger: Option<[OutputFifo; 2]>) -> Result<Copies> {
    let mut copies = Copies::default();
    if stdio.terminal {
        return Ok(copies);
    }
    let place = Place { name, adoptable: true };
    let stdin = Stdin::open(stdio.stdin.as_deref())?;
    let mut outputs = Outputs::of(stdio, &stdin, logger)?;
    if let Some(ours) = place.reopen(STDIN)? {
        stdin.feed(ours, &mut copies)?;
    }
    let targets = std::mem::replace(&mut outputs.targets, [Target::Nowhere, Target::Nowhere]);
    for (target, (stream, index)) in targets.into_iter().zip(OUTPUTS) {
        if let Some(ours) = place.reopen(index)? {
            copies.tail = Some(Rc::clone(&outputs.tail));
            copies.outputs.push(Output::new(ours, outputs.sinks(target, stream)?)?);
        }
    }
    Ok(copies)
}

/// Opens a process's streams: its side and the shim's. `logger` are the pipes to its logging program.
pub fn open(
    stdio: &Stdio,
    place: Place<'_>,
    logger: Option<[OutputFifo; 2]>,
) -> Result<(ProcessStreams, Opened)> {
    let stdin = Stdin::open(stdio.stdin.as_deref())?;
    let mut outputs = Outputs::of(stdio, &stdin, logger)?;
    let [stdout, stderr] = std::mem::replace(&mut outputs.targets, [Target::Nowhere, Target::Nowhere]);
    if stdio.terminal {
        if stdio.stderr.as_ref().is_some_and(|path| !path.is_empty()) {
            return Err(Error::invalid_argument("stderr must be empty with a terminal").into());
        }
        let socket = pty::ConsoleSocket::bind(format!("console-{}.sock", place.name))?;
        let sinks = outputs.sinks(stdout, OutputStream::Stdout)?;
        let tail = outputs.tail;
        let streams = ProcessStreams::Console(socket.path().to_owned());
        return Ok((streams, Opened::Terminal(Box::new(PendingTerminal { socket, sinks, stdin, tail }))));
    }
    let mut copies = Copies::default();
    let theirs = match stdin {
        Stdin::Nowhere => null::open()?,
        stdin => {
            let Pipe { theirs, ours } = place.pipe(STDIN)?;
            stdin.feed(ours, &mut copies)?;
            theirs
        }
    };
    let mut output = |target: Target<'_>, (stream, index)| -> Result<OwnedFd> {
        let sinks = outputs.sinks(target, stream)?;
        if sinks.is_empty() && !outputs.is_attachable {
            return null::sink();
        }
        copies.tail = Some(Rc::clone(&outputs.tail));
        let Pipe { theirs, ours } = place.pipe(index)?;
        copies.outputs.push(Output::new(ours, sinks)?);
        Ok(theirs)
    };
    let stdout = output(stdout, OUTPUTS[0])?;
    let stderr = output(stderr, OUTPUTS[1])?;
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
