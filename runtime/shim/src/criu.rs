//! The conversation with CRIU: `criu swrk`, one request, its notifications, one answer. Runs in a job's child.
//!
//! Messages are protobuf over a socket pair; what `rust-criu` offers on top of them lacks the answer to a restore and some options, so the
//! few lines of conversation are here (ADR 0016). CRIU speaks to people in its log only: what went wrong is looked up there.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bosun_types::checkpoint::DumpOptions;
use bosun_types::{Error, ErrorClass};
use command_fds::{CommandFdExt as _, FdMapping};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, send, socketpair,
};
use protobuf::{Message as _, MessageField};
use rust_criu::rust_criu_protobuf::rpc;

use crate::error::{Context as _, Result, ShimError};
use crate::sys;

/// What CRIU stores the container's network namespace as: it is made by us, not by CRIU.
pub const NETWORK_KEY: &str = "extRootNetNS";
/// Where CRIU finds its end of the conversation.
const SOCKET_FD: i32 = 3;
/// Where descriptors that it inherits begin.
const FIRST_INHERITED_FD: i32 = 4;
/// Longest message from CRIU in bytes: a notification or an answer.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// CRIU's level of "debug": what it takes to understand a failure.
const LOG_LEVEL: i32 = 4;
/// Largest deleted but open file that is stored, in bytes.
const GHOST_BYTES_MAX: u32 = 256 << 20;
/// Said by CRIU where it may not raise its own limits; it goes on.
const HARMLESS: &str = "Can't setup RLIMIT_NOFILE";
/// Longest line of its log that is told.
const LINE_CHARS_MAX: usize = 500;

/// A request to CRIU.
#[derive(Debug)]
pub struct Criu<'a> {
    /// Name (looked up in `PATH`) or path.
    pub program: &'a str,
    /// Directory of the image files.
    pub images: &'a Path,
    /// Directory of its log and scratch files.
    pub work: &'a Path,
    /// Name of its log in there.
    pub log: &'a str,
}

/// What came of a restore.
#[derive(Debug)]
pub struct Restored {
    /// Pid of the first process.
    pub pid: i32,
    /// Its terminal, if it has one of its own.
    pub terminal: Option<OwnedFd>,
}

impl Criu<'_> {
    /// Stores the tree below `pid`, which stays as it is.
    pub fn dump(&self, pid: i32, mut options: rpc::Criu_opts) -> Result<()> {
        options.set_pid(pid);
        options.set_leave_running(true);
        self.converse(rpc::Criu_req_type::DUMP, options, Vec::new()).map(drop)
    }

    /// Restores a tree; `inherited` are descriptors that take the place of what was stored under those keys.
    pub fn restore(
        &self,
        mut options: rpc::Criu_opts,
        inherited: Vec<(String, OwnedFd)>,
    ) -> Result<Restored> {
        let mut mappings = Vec::new();
        for ((key, parent_fd), child_fd) in inherited.into_iter().zip(FIRST_INHERITED_FD..) {
            let mut entry = rpc::Inherit_fd::new();
            entry.set_key(key);
            entry.set_fd(child_fd);
            options.inherit_fd.push(entry);
            mappings.push(FdMapping { parent_fd, child_fd });
        }
        let (answer, terminal) = self.converse(rpc::Criu_req_type::RESTORE, options, mappings)?;
        Ok(Restored { pid: answer.restore.pid(), terminal })
    }

    fn converse(
        &self,
        kind: rpc::Criu_req_type,
        mut options: rpc::Criu_opts,
        mut mappings: Vec<FdMapping>,
    ) -> Result<(rpc::Criu_resp, Option<OwnedFd>)> {
        let open = |path: &Path| File::open(path).context(|| format!("open {}", path.display()));
        let (images, work) = (open(self.images)?, open(self.work)?);
        // CRIU opens these by our own table of descriptors, not by what it inherits.
        options.set_images_dir_fd(images.as_raw_fd());
        options.set_work_dir_fd(work.as_raw_fd());
        options.set_log_file(self.log.to_owned());
        options.set_log_level(LOG_LEVEL);
        options.set_notify_scripts(true);
        options.set_orphan_pts_master(true);
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .context(|| "make a socket pair".into())?;
        mappings.push(FdMapping { parent_fd: theirs, child_fd: SOCKET_FD });
        let mut child = self.spawn(mappings)?;
        let result = exchange(&ours, kind, options);
        if result.is_err() {
            // It is over already, or does not speak as we do.
            let _ = child.kill();
        }
        let _ = child.wait();
        result.map_err(|error| self.explain(error))
    }

    fn spawn(&self, mappings: Vec<FdMapping>) -> Result<Child> {
        let mut command = Command::new(self.program);
        command.arg("swrk").arg(SOCKET_FD.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.fd_mappings(mappings).map_err(|error| Error::internal(format!("CRIU: {error}")))?;
        command.spawn().map_err(|error| {
            Error::new(ErrorClass::FailedPrecondition, format!("cannot run CRIU ({}): {error}", self.program))
                .with_hint("install criu, or say where it is with `criu_path` in bosund's configuration")
                .into()
        })
    }

    /// Adds what its log says, first line only (CKP-7).
    fn explain(&self, error: ShimError) -> ShimError {
        let log = std::fs::read(self.work.join(self.log)).unwrap_or_default();
        match first_error(&String::from_utf8_lossy(&log)) {
            Some(line) => ShimError::Runtime(format!("criu: {line}")),
            None => error,
        }
    }
}

/// The first line of CRIU's log that tells of an error which matters.
fn first_error(log: &str) -> Option<String> {
    let mut lines = log.lines().filter(|line| line.contains("Error (") && !line.contains(HARMLESS));
    let (_, line) = lines.next()?.split_once("Error (")?;
    let text = line.split_once("): ").map_or(line, |(_, text)| text);
    Some(text.trim().chars().take(LINE_CHARS_MAX).collect())
}

fn exchange(
    socket: &OwnedFd,
    kind: rpc::Criu_req_type,
    options: rpc::Criu_opts,
) -> Result<(rpc::Criu_resp, Option<OwnedFd>)> {
    let mut request = rpc::Criu_req::new();
    request.set_type(kind);
    request.opts = MessageField::some(options);
    say(socket, &request)?;
    let mut terminal = None;
    loop {
        let (answer, fd) = hear(socket)?;
        let is_notification = answer.type_() == rpc::Criu_req_type::NOTIFY;
        if is_notification && answer.notify.script() == "orphan-pts-master" {
            terminal = fd;
        }
        if !is_notification && answer.success() {
            return Ok((answer, terminal));
        }
        if !is_notification {
            return Err(ShimError::Runtime(format!("criu failed (errno {})", answer.cr_errno())));
        }
        let mut heard = rpc::Criu_req::new();
        heard.set_type(rpc::Criu_req_type::NOTIFY);
        heard.set_notify_success(true);
        say(socket, &heard)?;
    }
}

fn say(socket: &OwnedFd, message: &rpc::Criu_req) -> Result<()> {
    let bytes = message.write_to_bytes().map_err(|error| malformed(&error))?;
    send(socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL).context(|| "write to CRIU".into())?;
    Ok(())
}

/// One message, with the descriptor that came along.
fn hear(socket: &OwnedFd) -> Result<(rpc::Criu_resp, Option<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)
        .context(|| "read from CRIU".into())?;
    let length = received.bytes;
    let mut fd = None;
    for message in received.cmsgs().context(|| "read from CRIU".into())? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            fd = fds.first().and_then(|fd| sys::take_fd(*fd));
        }
    }
    if length == 0 {
        return Err(ShimError::Runtime("criu ended without an answer".into()));
    }
    let answer = rpc::Criu_resp::parse_from_bytes(&bytes[..length]).map_err(|error| malformed(&error))?;
    Ok((answer, fd))
}

fn malformed(error: &protobuf::Error) -> ShimError {
    Error::internal(format!("a message of CRIU: {error}")).into()
}

/// CRIU's options for ours: the same for a dump and its restore.
pub fn options(chosen: &DumpOptions) -> rpc::Criu_opts {
    let mut options = rpc::Criu_opts::new();
    options.set_ext_unix_sk(chosen.external_unix_sockets);
    options.set_tcp_established(chosen.open_tcp);
    options.set_shell_job(chosen.terminal);
    options.set_file_locks(chosen.file_locks);
    options.set_ghost_limit(GHOST_BYTES_MAX);
    if chosen.empty_namespaces.iter().any(|name| name == "network") {
        options.set_empty_ns(u32::try_from(libc::CLONE_NEWNET).unwrap_or(0));
    }
    if !chosen.open_tcp {
        // No connection has to be kept from changing meanwhile, and locking needs programs of netfilter.
        options.set_network_lock(rpc::Criu_network_lock_method::SKIP);
    }
    options
}

/// How cgroups are treated.
pub fn set_cgroups_mode(options: &mut rpc::Criu_opts, mode: Option<&str>) {
    use rpc::Criu_cg_mode as Mode;
    let mode = match mode {
        Some("none") => Mode::CG_NONE,
        Some("props") => Mode::PROPS,
        Some("soft") => Mode::SOFT,
        Some("full") => Mode::FULL,
        Some("strict") => Mode::STRICT,
        _ => Mode::IGNORE,
    };
    options.set_manage_cgroups(true);
    options.set_manage_cgroups_mode(mode);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ckp_7_the_first_error_that_matters_is_told_without_its_place() {
        let log = "(00.04) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: no\n\
                   (00.05) Warn  (criu/net.c:1): something\n\
                   (00.06) Error (criu/sk-inet.c:188): inet: Connected TCP socket, consider using --tcp-established option.\n\
                   (00.07) Error (criu/cr-dump.c:1975): Dumping FAILED.\n";
        let want = "inet: Connected TCP socket, consider using --tcp-established option.";
        assert_eq!(first_error(log).as_deref(), Some(want));
        assert_eq!(first_error("(00.01) all is well\n"), None);
    }

    #[test]
    fn ckp_6_options_become_criu_s() {
        let chosen = DumpOptions { open_tcp: true, file_locks: true, ..DumpOptions::default() };
        let mut made = options(&chosen);
        set_cgroups_mode(&mut made, Some("soft"));
        assert!(made.tcp_established() && made.file_locks() && !made.ext_unix_sk() && !made.shell_job());
        assert!(!made.has_network_lock());
        assert_eq!(made.manage_cgroups_mode(), rpc::Criu_cg_mode::SOFT);
        assert_eq!(options(&DumpOptions::default()).network_lock(), rpc::Criu_network_lock_method::SKIP);
    }
}
