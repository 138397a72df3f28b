//! A private world for one test: directories, a cgroup parent, a real `bosund`, ended and checked when the test ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::invariants::Places;

/// How long a condition may take. Generous: the machine may be busy; a passing test never waits this long.
pub const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// Directories and names of one test.
pub struct World {
    directory: tempfile::TempDir,
    places: Places,
    collects: bool,
    criu: Option<String>,
}

impl World {
    /// Fresh directories; the state directory's path is short, because sockets are below it.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("bt-").tempdir().expect("a temporary directory");
        // The root of a container with users of its own must get to the task directory, as below /run.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(directory.path(), mode).expect("our own");
        let places = Places {
            root: directory.path().join("root"),
            state: directory.path().join("run"),
            cgroup_parent: format!("/{}", name_of(directory.path())),
        };
        Self { directory, places, collects: false, criu: None }
    }

    /// One whose daemon collects garbage by itself, as it does outside of tests. In others only what asks for it removes what nothing refers to,
    /// so that a test may hold things in its hands.
    pub fn collecting() -> Self {
        let mut world = Self::new();
        world.collects = true;
        world
    }

    /// The daemons of this world use this CRIU.
    pub fn use_criu(&mut self, path: &str) {
        self.criu = Some(path.to_owned());
    }

    /// Where the daemon keeps its things.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// A path of the test's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The daemon's socket.
    pub fn address(&self) -> PathBuf {
        self.places.state.join("bosun.sock")
    }

    /// Starts `bosund` and waits until its socket answers.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// The same with more environment, such as `BOSUN_FAULTS`.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        self.serving(self.spawn(environment))
    }

    /// The same with further flags.
    pub fn start_with_words(&self, words: &[&str]) -> Daemon {
        self.serving(self.spawn_with(&[], words))
    }

    /// Both.
    pub fn start_as(&self, environment: &[(&str, &str)], words: &[&str]) -> Daemon {
        self.serving(self.spawn_with(environment, words))
    }

    fn serving(&self, daemon: Daemon) -> Daemon {
        let address = self.address();
        wait_until("bosund to serve", || std::os::unix::net::UnixStream::connect(&address).is_ok());
        daemon
    }

    /// Starts `bosund` and does not wait: it may be meant to die at once.
    pub fn spawn(&self, environment: &[(&str, &str)]) -> Daemon {
        self.spawn_with(environment, &[])
    }

    /// The root is somewhere else from now on. No daemon runs.
    pub fn move_root(&mut self, name: &str) {
        let root = self.directory.path().join(name);
        std::fs::rename(&self.places.root, &root).expect("moves");
        self.places.root = root;
    }

    /// As on another boot of the machine, as far as the daemon can tell.
    pub fn start_on_boot(&self, boot_id: &str) -> Daemon {
        let file = self.path("boot_id");
        std::fs::write(&file, boot_id).expect("writes");
        let shell = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "/bin/sh", "-c", shell]).arg(file).arg(program("bosund"));
        self.serving(self.spawn_as(command, &[], &[]))
    }

    fn spawn_with(&self, environment: &[(&str, &str)], words: &[&str]) -> Daemon {
        self.spawn_as(Command::new(program("bosund")), environment, words)
    }

    fn spawn_as(&self, mut command: Command, environment: &[(&str, &str)], words: &[&str]) -> Daemon {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("bosund.log"))
            .expect("a log file");
        command.arg("--root").arg(&self.places.root).arg("--state").arg(&self.places.state);
        command
            .args(["--cgroup-parent", &self.places.cgroup_parent])
            .arg("--shim")
            .arg(program("bosun-shim"))
            .args(self.criu.iter().flat_map(|path| ["--criu-path", path]))
            .args(words);
        if !self.collects {
            command.arg("--no-automatic-gc");
        }
        command.env("RUST_LOG", std::env::var("BOSUN_TEST_LOG").unwrap_or_else(|_| "info".to_owned()));
        command.env_remove("BOSUN_ADDRESS").envs(environment.iter().copied());
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("bosund starts");
        Daemon { child }
    }

    /// The command line client, aimed at this world.
    pub fn bosun(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("bosun"));
        command.arg("--address").arg(self.address()).args(words).stdin(Stdio::null());
        command
    }

    /// The daemon's log, for a failing test's message.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("bosund.log")).unwrap_or_default()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    /// A failed test leaves containers behind: they are ended here, by the proof that their shims carry this world's path.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- bosund's log, newest line first ---\n{}", tail.join("\n"));
        }
        end_shims_of(&self.places.state);
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_cgroup(&hierarchy.path().join(self.places.cgroup_parent.trim_start_matches('/')));
        }
    }
}

/// A running `bosund`; killed and reaped when dropped.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and wait until it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("bosund can be killed");
        self.child.wait().expect("bosund is reaped");
    }

    /// Waits until it ends by itself, as after an abort; gives its status.
    pub fn ended(mut self) -> std::process::ExitStatus {
        let mut status = None;
        wait_until("bosund to end", || {
            status = self.child.try_wait().expect("bosund is ours");
            status.is_some()
        });
        status.expect("just seen")
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("bosund is ours").is_some()
    }

    /// SIGTERM, and wait for an orderly end.
    pub fn stop(self) -> std::process::ExitStatus {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("bosund takes signals");
        self.ended()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that `cargo xtask test` has built, beside the test binary's own folder.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test binary has a path");
    let path = own.ancestors().nth(2).expect("target/<profile>/deps").join(name);
    assert!(path.exists(), "{} is not built: run `cargo xtask test`", path.display());
    path
}

/// Polls a condition until it holds; panics with what was waited for.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(POLL);
    }
}

/// The async twin of [`wait_until`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        tokio::time::sleep(POLL).await;
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Ends every shim whose command line names this state directory: SIGTERM makes it kill and delete its container.
fn end_shims_of(state: &Path) {
    let ours = state.to_string_lossy().into_owned();
    let shims = || -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).into_owned();
                line.contains("--nonce") && line.contains(&ours)
            })
            .collect()
    };
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGKILL] {
        for pid in shims() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
        let begin = Instant::now();
        while !shims().is_empty() && begin.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(POLL);
        }
    }
}

/// Kills what is in a cgroup subtree of this world and removes its directories, children first.
fn remove_cgroup(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let pids = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.parse().ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    let begin = Instant::now();
    while std::fs::remove_dir(path).is_err() && path.exists() && begin.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(POLL);
    }
}
