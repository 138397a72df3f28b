//! Messages between daemon and shim.
//!
//! Wire: a unix stream socket `<state>/tasks/<nonce>/shim.sock` in a 0700 directory; both ends check SO_PEERCRED (uid 0
//! or the daemon's own). A frame is a little-endian `u32` body length (at most [`FRAME_BYTES_MAX`]) and a bincode 2
//! (`config::standard()`) body: [`ToShim`] one way, [`FromShim`] the other.
//!
//! Evolution: old shims meet new daemons. The first frame each way is `Hello`; its layout never changes. After it, both
//! speak the lower of the two versions. Enum variants are only appended; a struct that needs a field gets a new variant
//! beside it. A shim answers a variant it does not know with `NotImplemented`. Golden bytes of each version are tests.
//!
//! One request at a time needs no order: replies carry the request's `id`; `Notice` frames come at any time.
//! A shim serves several connections at once (a new daemon may connect while the old one dies).

pub mod codec;

use bincode::{Decode, Encode};

use crate::call::CallId;
use crate::checkpoint::DumpOptions;
use crate::mount::Mount;
use crate::stdio::{AttachFrom, OutputStream, Overflow, Stdio};
use crate::task::{ExitStatus, KillTarget, PidInfo, ProcessIdentity};
use crate::{Error, ExecId, Timestamp};

/// Version this build speaks.
pub const PROTOCOL_VERSION: u32 = 3;
/// First version that understands [`ToShim::Traced`].
pub const TRACED_SINCE: u32 = 2;
/// First version that understands [`Request::Once`] and [`Request::Recall`].
pub const ONCE_SINCE: u32 = 3;
/// Longest frame body in bytes, both ways.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// File names inside the task directory `<state>/tasks/<nonce>/` (mode 0700).
pub mod file {
    /// The listening socket.
    pub const SOCKET: &str = "shim.sock";
    /// `namespace/container`, for people and for recovery when the record is gone.
    pub const OWNER: &str = "owner";
    /// The OCI spec.
    pub const CONFIG: &str = "config.json";
    /// The container's seccomp filter, an array of `struct sock_filter`, when [`CONFIG`] has none because it was compiled.
    pub const SECCOMP: &str = "seccomp.bpf";
    /// Mount point of the root file system (only inside the shim's own mount namespace).
    pub const ROOTFS: &str = "rootfs";
    /// State of the OCI runtime.
    pub const RUNTIME_ROOT: &str = "runtime";
    /// [`super::ShimBeacon`], written before the socket listens.
    pub const BEACON: &str = "shim.rec";
    /// [`super::ExitNotice`] of init, kept until acknowledged.
    pub const EXIT_INIT: &str = "exit.rec";
    /// The same of an exec: `exit-<exec id>.rec`.
    pub const EXIT_EXEC_PREFIX: &str = "exit-";
    /// [`super::Adoption`] as one frame, written by the daemon for a shim that takes over.
    pub const ADOPTION: &str = "adoption.frame";
    /// First part of the names of an adoptable container's pipes: `pipe-<process>-<stream>`.
    pub const PIPE_PREFIX: &str = "pipe-";
    /// What CRIU said when a dump failed (CKP-7).
    pub const DUMP_LOG: &str = "criu-dump.log";
    /// What CRIU said when a restore failed.
    pub const RESTORE_LOG: &str = "criu-restore.log";
    /// Diagnostics of the shim itself, for people.
    pub const SHIM_LOG: &str = "shim.log";
}

/// Arguments of the shim binary, in this order of flags: `bosun-shim --directory DIR --nonce HEX --namespace NS --id ID`.
/// It detaches from nothing: the daemon spawns it with `setsid`, cwd `DIR`, stdin and stdout `/dev/null`, stderr `shim.log`,
/// and no other inherited descriptor but an optional `--ready-fd N` pipe on which it writes one byte once it listens.
pub mod flag {
    /// Task directory.
    pub const DIRECTORY: &str = "--directory";
    /// The task's nonce.
    pub const NONCE: &str = "--nonce";
    /// Namespace, for people who look at `ps`.
    pub const NAMESPACE: &str = "--namespace";
    /// Container id, for people who look at `ps`.
    pub const ID: &str = "--id";
    /// Pipe to write one byte to once the socket listens.
    pub const READY_FD: &str = "--ready-fd";
    /// Name of the compiled seccomp filter in the task directory; given only when there is one. A shim that does not know the flag ends, and so
    /// makes no container without its filter.
    pub const SECCOMP: &str = "--seccomp";
    /// Name of the [`super::Adoption`] in the task directory: take that container over, whose shim died, before you listen.
    pub const ADOPT: &str = "--adopt";
    /// Alone, with a directory: the shim makes no task, but ends with success when the kernel can show the directory's files with other owners.
    pub const PROBE_IDMAP: &str = "--probe-idmap";
}

/// What the daemon says in the environment of a shim about its log.
pub mod environment {
    /// Which lines: words of `RUST_LOG`, of which the shim knows levels, alone and for `bosun_shim`.
    pub const LOG_FILTER: &str = "RUST_LOG";
    /// `json`: a JSON object a line, as the daemon's own; else text.
    pub const LOG_FORMAT: &str = "BOSUN_LOG_FORMAT";
    /// See [`LOG_FORMAT`].
    pub const JSON: &str = "json";
}

/// What a shim needs to take over a container that runs and whose shim died.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Adoption {
    /// As the dead shim got it; the root file system is mounted already.
    pub request: CreateRequest,
    /// Init; it must live, or there is nothing to take over.
    pub init: ProcessIdentity,
    /// Execs that have not ended as far as the daemon knows.
    pub execs: Vec<AdoptedExec>,
}

/// One exec of an [`Adoption`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AdoptedExec {
    /// Its id.
    pub id: ExecId,
    /// The OCI `Process`, as JSON, of one that was not started yet; else empty.
    pub process: Vec<u8>,
    /// Its streams.
    pub stdio: Stdio,
    /// The process, once started.
    pub identity: Option<ProcessIdentity>,
}

/// Written (write, fsync, rename) by the shim before it listens, and again when init exists: proof for recovery.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ShimBeacon {
    /// Protocol version of the shim.
    pub version: u32,
    /// The task's nonce.
    pub nonce: String,
    /// The shim itself.
    pub shim: ProcessIdentity,
    /// The container's init, once made.
    pub init: Option<ProcessIdentity>,
    /// cgroup paths as the OCI runtime got them, for clean-up without the shim.
    pub cgroup_path: Option<String>,
    /// OCI runtime name, for clean-up without the shim.
    pub runtime: Option<String>,
}

/// Daemon to shim.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ToShim {
    /// First frame of a connection.
    Hello {
        /// Highest version the daemon speaks.
        version: u32,
        /// Must equal the shim's.
        nonce: String,
    },
    /// A request; the reply carries the same `id`.
    Request {
        /// Chosen by the daemon, unique in the connection.
        id: u64,
        /// What to do.
        request: Request,
    },
    /// The same, on behalf of a client's call, whose number is told in the shim's log too. Since [`TRACED_SINCE`].
    Traced {
        /// As in `Request`.
        id: u64,
        /// Number of the call.
        call: u64,
        /// What to do.
        request: Request,
    },
}

/// Shim to daemon.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FromShim {
    /// Answer to `Hello`; after it come the notices of all exits not yet acknowledged.
    Hello {
        /// Highest version the shim speaks.
        version: u32,
        /// The shim.
        shim: ProcessIdentity,
    },
    /// Answer to a request.
    Reply {
        /// Of the request.
        id: u64,
        /// What came of it.
        result: Result<Response, Error>,
    },
    /// Something happened.
    Notice(Notice),
    /// On a connection that attached.
    Output(OutputFrame),
}

/// Live output to one attached reader.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum OutputFrame {
    /// Bytes of one stream.
    Bytes { stream: OutputStream, bytes: Vec<u8> },
    /// The reader fell behind: these bytes are gone from the shim. In the log file they are the records stamped `first` to `last`.
    Missed { bytes: u64, first: Timestamp, last: Timestamp },
    /// The process has ended, and this was all.
    End,
}

/// What the daemon asks. Every request is idempotent but `WriteStdin`: repeated after a lost reply it gives the same answer. `Once` makes that one so too.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Mount the root file system and create the container, held before exec. Again: the same answer.
    Create(CreateRequest),
    /// Start init (`None`) or a registered exec. Already running: success with the same pid.
    Start { exec: Option<ExecId> },
    /// Everything the shim knows.
    State,
    /// Signal; NotFound when the process has ended (TSK-19). The same call again: done once.
    Kill { target: KillTarget, signal: u32, call: Option<CallId> },
    /// Register an exec (TSK-22). The same again: success; another under that id: AlreadyExists.
    AddExec { id: ExecId, process: Vec<u8>, stdio: Stdio },
    /// Forget an ended or never started exec. Unknown: success.
    DeleteExec { id: ExecId },
    /// Kill what is left, delete the container in the OCI runtime, remove cgroups, unmount. Init must have ended or not
    /// have been started, else FailedPrecondition. Again: success.
    Delete,
    /// The daemon's commit of this exit is durable: the record may go. Unknown: success.
    AckExit { exec: Option<ExecId> },
    /// Terminal size (TSK-26). Without a terminal: success without effect.
    Resize { exec: Option<ExecId>, width: u16, height: u16 },
    /// Close the shim's own write end of stdin (TSK-27).
    CloseStdin { exec: Option<ExecId> },
    /// Freeze the cgroup (TSK-25).
    Pause,
    /// Thaw it.
    Resume,
    /// Every pid of the container (TSK-28).
    Pids,
    /// Apply OCI `LinuxResources` JSON to the live cgroup (TSK-29).
    Update { resources: Vec<u8> },
    /// After `Delete`: end the shim. It removes its socket and exits.
    Shutdown,
    /// After its answer this connection carries [`FromShim::Output`] frames of that process until the last one or until either side closes it.
    Attach { exec: Option<ExecId>, from: AttachFrom, overflow: Overflow },
    /// Write to a standard input that is [`crate::stdio::STDIN_ATTACH`]. Answers when the process's pipe has taken all of it. Not idempotent unless it is in a `Once`.
    WriteStdin { exec: Option<ExecId>, bytes: Vec<u8> },
    /// Store the frozen container's processes; they stay frozen, also when that fails. Again: stored anew.
    Dump(DumpRequest),
    /// As `Create`, but `Start` restores the processes instead of running the spec's; until then no exec is taken (CKP-10).
    CreateFromDump { request: Box<CreateRequest>, from: RestoreRequest },
    /// That request for a client's call with a key: the same call again is answered as the first was, and waits for it while it is under way. A failure is
    /// not remembered. Of requests that answer `Done`. Since [`ONCE_SINCE`].
    Once { call: CallId, request: Box<Request> },
    /// Whether that call was done; NotFound: not, or long ago. Since [`ONCE_SINCE`].
    Recall { call: CallId },
}

/// Inputs of [`Request::Dump`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DumpRequest {
    /// CRIU's name (looked up in `PATH`) or path.
    pub criu: String,
    /// Directory that takes CRIU's image files; whatever is in it goes first.
    pub directory: String,
    /// What may be stored.
    pub options: DumpOptions,
}

/// Where [`Request::CreateFromDump`] finds what to restore.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RestoreRequest {
    /// CRIU's name (looked up in `PATH`) or path.
    pub criu: String,
    /// Directory with the image files of a [`Request::Dump`]; needed until the start.
    pub directory: String,
}

/// Inputs of [`Request::Create`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreateRequest {
    /// Container id as the OCI runtime shall know it.
    pub id: String,
    /// OCI runtime: `bosun` embedded, else a binary's name or path.
    pub runtime: String,
    /// Mounts onto `<directory>/rootfs`, in order; empty when the spec's root path is absolute and used as it is.
    pub rootfs: Vec<Mount>,
    /// Streams of init.
    pub stdio: Stdio,
    /// TSK-8.
    pub no_pivot_root: bool,
    /// Make its pipes so that another shim can take the container over.
    pub adoptable: bool,
}

/// What the shim answers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Response {
    /// Done.
    Done,
    /// To `Create` and `Start`.
    Process(ProcessIdentity),
    /// To `State`.
    State(ShimState),
    /// To `Pids`.
    Pids(Vec<PidInfo>),
    /// To `Delete`: how init ended; `None` when it never ran.
    Deleted(Option<ExitStatus>),
    /// To `Attach`: the first frame continues after so many bytes of all that the process has written.
    Attached { position: u64 },
}

/// Phase of a process as the shim holds it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ShimPhase {
    /// `Create` has not come yet (init), or registered only (exec).
    Registered,
    /// Held before exec.
    Created(ProcessIdentity),
    /// Running.
    Running(ProcessIdentity),
    /// Frozen.
    Paused(ProcessIdentity),
    /// Ended.
    Exited(ProcessIdentity, ExitStatus),
    /// Deleted in the OCI runtime.
    Deleted,
}

/// Everything the shim knows.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ShimState {
    /// Init.
    pub init: ShimPhase,
    /// Each exec.
    pub execs: Vec<(ExecId, ShimPhase)>,
}

/// Sent unasked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Notice {
    /// A process ended; its record is on disk. Repeated on each new connection until acknowledged.
    Exited(ExitNotice),
    /// The cgroup ran out of memory (MET-7).
    OutOfMemory { at: Timestamp },
}

/// One exit, as recorded on disk and reported.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ExitNotice {
    /// `None` for init.
    pub exec: Option<ExecId>,
    /// The process that ended.
    pub process: ProcessIdentity,
    /// How and when.
    pub status: ExitStatus,
    /// Whether it was started, as far as the teller knows: one that ended while it was held before its program had no life to tell of.
    pub started: bool,
}
