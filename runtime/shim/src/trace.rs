//! What was asked on whose behalf, in `shim.log`: a line when a request comes and one when it is answered, with the number of the client's call that the
//! daemon's log has too. Only requests that carry a number are told, and the file keeps below a limit.

use std::fmt::Display;
use std::io::Write as _;

use bosun_types::Timestamp;
use bosun_types::shim::Request;
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

/// The log begins anew beyond this many bytes: a container that lives for years is asked often.
const LOG_BYTES_MAX: i64 = 256 << 10;

/// One line; what cannot be written is not missed.
pub fn tell(call: u64, what: impl Display) {
    let mut log = std::io::stderr().lock();
    if fstat(&log).is_ok_and(|it| it.st_size > LOG_BYTES_MAX) {
        let _ = ftruncate(&log, 0);
    }
    let _ = log.write_all(format!("{} call={call:016x} {what}\n", Timestamp::now()).as_bytes());
}

/// A request in a word.
pub fn word(request: &Request) -> &'static str {
    match request {
        Request::Create(_) => "create",
        Request::Start { .. } => "start",
        Request::State => "state",
        Request::Kill { .. } => "kill",
        Request::AddExec { .. } => "add_exec",
        Request::DeleteExec { .. } => "delete_exec",
        Request::Delete => "delete",
        Request::AckExit { .. } => "ack_exit",
        Request::Resize { .. } => "resize",
        Request::CloseStdin { .. } => "close_stdin",
        Request::Pause => "pause",
        Request::Resume => "resume",
        Request::Pids => "pids",
        Request::Update { .. } => "update",
        Request::Shutdown => "shutdown",
        Request::Attach { .. } => "attach",
        Request::WriteStdin { .. } => "write_stdin",
        Request::Dump(_) => "dump",
        Request::CreateFromDump { .. } => "create_from_dump",
        Request::Once { request, .. } => word(request),
        Request::Recall { .. } => "recall",
    }
}
