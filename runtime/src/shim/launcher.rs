//! Starting a shim: own session, nothing inherited but the pipe on which it says that it listens.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bosun_types::shim::environment::{JSON, LOG_FILTER, LOG_FORMAT};
use bosun_types::shim::{file, flag};
use bosun_types::task::{ExitCause, ProcessIdentity};
use bosun_types::{ContainerId, Error, NamespaceName};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::spawn::{READY_FD, Start, spawn};
use crate::error::{Context as _, Result};
use crate::process;
use crate::reaper::Reaper;
use crate::task_directory::TaskDirectory;

/// How much of the shim's log goes into an error.
const LOG_TAIL_BYTES: usize = 2048;
/// What a shim may see of the daemon's environment.
const ENVIRONMENT: &[&str] = &["PATH", "RUST_BACKTRACE", "BOSUN_FAULTS", "BOSUN_FAULTS_TRACE"];

/// Starts shims from one binary.
#[derive(Debug, Clone)]
pub struct ShimLauncher {
    binary: PathBuf,
    reaper: Arc<Reaper>,
    log: ShimLog,
}

/// How shims write their logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShimLog {
    /// Which lines, in words of `RUST_LOG`; empty: the ordinary ones.
    pub filter: String,
    /// JSON instead of text.
    pub json: bool,
}

impl ShimLauncher {
    /// Of the binary at this path. Starts the process's reaper.
    pub fn new(binary: PathBuf) -> Result<Self> {
        if !binary.is_file() {
            let message = format!("the shim binary {} is missing", binary.display());
            let hint = "bosun-shim belongs beside bosund; or set `shim` in the configuration";
            return Err(Error::not_found(message).with_hint(hint).into());
        }
        Ok(Self { binary, reaper: Reaper::start()?, log: ShimLog::default() })
    }

    /// The same, with logs of this kind.
    #[must_use]
    pub fn with_log(self, log: ShimLog) -> Self {
        Self { log, ..self }
    }

    /// Starts a shim for a task and waits until it listens. A shim that is not ready in time is killed; then nothing
    /// of it is left but its log.
    pub async fn spawn(
        &self,
        directory: &TaskDirectory,
        namespace: &NamespaceName,
        id: &ContainerId,
        deadline: Duration,
    ) -> Result<ProcessIdentity> {
        self.spawn_with(directory, (namespace, id), &[], deadline).await
    }

    /// The same for a shim that takes over the container of one that died, as [`TaskDirectory::write_adoption`] has said.
    pub async fn spawn_to_adopt(
        &self,
        directory: &TaskDirectory,
        namespace: &NamespaceName,
        id: &ContainerId,
        deadline: Duration,
    ) -> Result<ProcessIdentity> {
        self.spawn_with(directory, (namespace, id), &[flag::ADOPT, file::ADOPTION], deadline).await
    }

    async fn spawn_with(
        &self,
        directory: &TaskDirectory,
        owner: (&NamespaceName, &ContainerId),
        more: &[&str],
        deadline: Duration,
    ) -> Result<ProcessIdentity> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context(|| "make a pipe".into())?;
        let start = self.start(directory, owner, more, write)?;
        let reaper = self.reaper.clone();
        // On a worker: the call comes back when the new program runs.
        let spawned = tokio::task::spawn_blocking(move || reaper.spawn_with(|| spawn(&start))).await;
        let shim = spawned
            .map_err(|error| Error::internal(format!("starting a shim: {error}")))?
            .context(|| format!("start {}", self.binary.display()))?;
        match tokio::time::timeout(deadline, ready(read)).await {
            Ok(Ok(true)) => Ok(shim),
            Ok(Ok(false)) => {
                let ended = self.reaper.wait(&shim).await;
                Err(failed(directory, &format!("ended before it listened: {:?}", ended.cause)))
            }
            Ok(Err(error)) => {
                self.kill(&shim);
                Err(error)
            }
            Err(_) => {
                self.kill(&shim);
                let message =
                    format!("the shim of task {} does not listen after {deadline:?}", directory.nonce());
                Err(Error::new(bosun_types::ErrorClass::DeadlineExceeded, message).into())
            }
        }
    }

    /// Whether files of this directory can be shown with other owners; a shim tries it, and why not is in the log.
    pub async fn can_idmap(&self, directory: &Path) -> Result<bool> {
        let mut command = std::process::Command::new(&self.binary);
        command.arg(flag::PROBE_IDMAP).arg(directory).stdin(std::process::Stdio::null());
        let reaper = self.reaper.clone();
        let spawned = tokio::task::spawn_blocking(move || reaper.spawn(&mut command)).await;
        let probe = spawned
            .map_err(|error| Error::internal(format!("starting a shim: {error}")))?
            .context(|| format!("start {}", self.binary.display()))?;
        Ok(self.reaper.wait(&probe).await.cause == ExitCause::Code(0))
    }

    fn kill(&self, shim: &ProcessIdentity) {
        if let Err(error) = process::kill(shim, Signal::SIGKILL) {
            tracing::warn!(pid = shim.pid, %error, "a shim that is not ready cannot be killed");
        }
    }

    fn start(
        &self,
        directory: &TaskDirectory,
        (namespace, id): (&NamespaceName, &ContainerId),
        more: &[&str],
        ready: OwnedFd,
    ) -> Result<Start> {
        let log_path = directory.path().join(file::SHIM_LOG);
        let log = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&log_path)
            .context(|| format!("open {}", log_path.display()))?;
        let path = directory.path();
        let absolute = std::path::absolute(path).context(|| format!("find {}", path.display()))?;
        let ready_fd = READY_FD.to_string();
        let mut words: Vec<&[u8]> = vec![
            self.binary.file_name().unwrap_or(self.binary.as_os_str()).as_bytes(),
            flag::DIRECTORY.as_bytes(),
            absolute.as_os_str().as_bytes(),
            flag::NONCE.as_bytes(),
            directory.nonce().as_bytes(),
            flag::NAMESPACE.as_bytes(),
            namespace.as_str().as_bytes(),
            flag::ID.as_bytes(),
            id.as_str().as_bytes(),
            flag::READY_FD.as_bytes(),
            ready_fd.as_bytes(),
        ];
        if directory.has_filter() {
            words.extend([flag::SECCOMP.as_bytes(), file::SECCOMP.as_bytes()]);
        }
        words.extend(more.iter().map(|word| word.as_bytes()));
        Ok(Start {
            program: text(self.binary.as_os_str().as_bytes())?,
            arguments: words.iter().map(|word| text(word)).collect::<Result<_>>()?,
            environment: environment(&self.log)?,
            directory: path_text(&absolute)?,
            log: log.into(),
            ready,
        })
    }
}

/// Whether the byte came; `false` when the pipe was closed without it.
async fn ready(read: OwnedFd) -> Result<bool> {
    let what = || "wait for a shim".to_owned();
    nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context(what)?;
    let mut pipe = pipe::Receiver::from_owned_fd(read).context(what)?;
    let mut byte = [0];
    Ok(pipe.read(&mut byte).await.context(what)? == 1)
}

fn failed(directory: &TaskDirectory, how: &str) -> crate::RuntimeError {
    let log = said(&directory.shim_log_tail(LOG_TAIL_BYTES));
    let said = if log.is_empty() { String::new() } else { format!("; it said: {log}") };
    Error::unavailable(format!("the shim of task {} {how}{said}", directory.nonce())).into()
}

/// The messages of lines that are JSON, other lines as they are.
fn said(log: &str) -> String {
    let message = |line: &str| {
        let parsed: Option<serde_json::Value> = serde_json::from_str(line).ok();
        let message = parsed.and_then(|line| Some(line.get("fields")?.get("message")?.as_str()?.to_owned()));
        message.unwrap_or_else(|| line.to_owned())
    };
    log.lines().map(message).collect::<Vec<_>>().join("\n")
}

fn environment(log: &ShimLog) -> Result<Vec<CString>> {
    let mut words = Vec::new();
    let word = |name: &str, value: &str| text(format!("{name}={value}").as_bytes());
    if !log.filter.is_empty() {
        words.push(word(LOG_FILTER, &log.filter)?);
    }
    if log.json {
        words.push(word(LOG_FORMAT, JSON)?);
    }
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            words.push(text(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
    }
    Ok(words)
}

fn path_text(path: &Path) -> Result<CString> {
    text(path.as_os_str().as_bytes())
}

fn text(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::invalid_argument("a shim argument holds a zero byte").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shim_said_is_shown_without_its_json() {
        let log = r#"{"timestamp":"t","level":"ERROR","fields":{"message":"no room"},"target":"bosun_shim"}
something else"#;
        assert_eq!(said(log), "no room\nsomething else");
        assert_eq!(said(""), "");
    }

    #[test]
    fn a_shim_is_told_how_to_log_and_nothing_when_nobody_says() {
        let of = |log: &ShimLog| {
            let words = environment(log).expect("good");
            words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let log = ShimLog { filter: "bosun_shim=debug".to_owned(), json: true };
        let words = of(&log);
        assert!(words.contains(&"RUST_LOG=bosun_shim=debug".to_owned()), "{words:?}");
        assert!(words.contains(&"BOSUN_LOG_FORMAT=json".to_owned()), "{words:?}");
        assert!(!of(&ShimLog::default()).iter().any(|word| word.contains("LOG")));
    }
}
