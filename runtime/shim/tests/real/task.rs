//! A task directory, a root file system, a spec, a shim: what each test needs, and what must be gone after it.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bosun_types::mount::Mount;
use bosun_types::shim::{CreateRequest, Request, Response, file, flag};
use bosun_types::stdio::{LogTarget, Stdio};
use bosun_types::task::{ExitCause, ProcessIdentity};
use serde_json::{Value, json};

use crate::client::Client;

pub const NONCE: &str = "00112233445566778899aabbccddeeff";
/// How long a condition may take to become true.
const PATIENCE: Duration = Duration::from_secs(20);

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Task {
    pub home: tempfile::TempDir,
    pub directory: PathBuf,
    pub cgroup_parent: String,
    pub runtime: String,
    pub shim: Child,
}

impl Task {
    /// A shim that listens, for a container that runs `script` in busybox's shell.
    pub fn new(script: &str) -> Self {
        Self::with(script, |_| {})
    }

    /// The same with a changed spec.
    pub fn with(script: &str, change: impl FnOnce(&mut Value)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("task");
        fs::create_dir(&directory).unwrap();
        make_image(&home.path().join("image"));
        for name in ["upper", "work"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        let cgroup_parent =
            format!("/bosun-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut spec = spec(script, &format!("{cgroup_parent}/c1"));
        change(&mut spec);
        fs::write(directory.join(file::CONFIG), spec.to_string()).unwrap();
        let shim = spawn(&directory);
        Self { home, directory, cgroup_parent, runtime: "bosun".into(), shim }
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.directory, NONCE)
    }

    pub fn create_request(&self, stdio: &Stdio) -> CreateRequest {
        let path = |name: &str| self.home.path().join(name).to_str().unwrap().to_owned();
        let options = [
            format!("lowerdir={}", path("image")),
            format!("upperdir={}", path("upper")),
            format!("workdir={}", path("work")),
        ];
        CreateRequest {
            id: "c1".into(),
            runtime: self.runtime.clone(),
            rootfs: vec![Mount {
                kind: "overlay".into(),
                source: "overlay".into(),
                target: String::new(),
                options: options.to_vec(),
            }],
            stdio: stdio.clone(),
            no_pivot_root: false,
            adoptable: false,
        }
    }

    pub fn create(&self, client: &mut Client, stdio: &Stdio) -> ProcessIdentity {
        process(client.request(Request::Create(self.create_request(stdio))).unwrap())
    }

    /// Connected, created and started.
    pub fn run(&self, stdio: &Stdio) -> (Client, ProcessIdentity) {
        let mut client = self.connect();
        let init = self.create(&mut client, stdio);
        assert_eq!(process(client.request(Request::Start { exec: None }).unwrap()), init);
        (client, init)
    }

    /// Every cgroup directory of this test that exists.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroup_directories(&self.cgroup_parent)
            .into_iter()
            .map(|parent| parent.join("c1"))
            .filter(|it| it.exists())
            .collect()
    }

    /// Deletes, ends the shim, and checks that nothing is left anywhere.
    pub fn finish(mut self, mut client: Client) {
        match client.request(Request::Delete).unwrap() {
            Response::Deleted(_) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "cgroups are left");
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", client.shim.pid)).unwrap();
        let rootfs = self.directory.join(file::ROOTFS);
        assert!(!mounts.contains(rootfs.to_str().unwrap()), "the root is still mounted: {mounts}");
        assert_eq!(client.request(Request::Shutdown), Ok(Response::Done));
        client.wait_closed();
        assert!(self.shim.wait().unwrap().success());
        assert!(!self.directory.join(file::SOCKET).exists());
        let left: Vec<_> = fs::read_dir(self.directory.join(file::RUNTIME_ROOT))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "runtime state is left: {left:?}");
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!host.contains(self.home.path().to_str().unwrap()), "a mount leaked to the host: {host}");
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join(file::SHIM_LOG)).unwrap_or_default();
            eprintln!("shim.log: {log}");
        }
        for directory in cgroup_directories(&self.cgroup_parent) {
            for pid in pids(&directory.join("c1")) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
            }
        }
        let _ = self.shim.kill();
        let _ = self.shim.wait();
        for directory in cgroup_directories(&self.cgroup_parent) {
            let deadline = Instant::now() + PATIENCE;
            let _ = fs::remove_dir(directory.join("c1"));
            while directory.exists() && fs::remove_dir(&directory).is_err() && Instant::now() < deadline {
                std::thread::yield_now();
                let _ = fs::remove_dir(directory.join("c1"));
            }
        }
    }
}

pub fn spawn(directory: &Path) -> Child {
    spawn_with(directory, &[]).expect("the shim listens")
}

/// A shim that takes over what the directory says; `None`: it has ended instead of listening.
pub fn spawn_to_adopt(directory: &Path) -> Option<Child> {
    spawn_with(directory, &[flag::ADOPT, file::ADOPTION])
}

fn spawn_with(directory: &Path, more: &[&str]) -> Option<Child> {
    let (ready, tell) = nix::unistd::pipe().unwrap();
    let log = fs::File::create(directory.join(file::SHIM_LOG)).unwrap();
    let binary = std::env::var("BOSUN_SHIM_BINARY").unwrap_or(env!("CARGO_BIN_EXE_bosun-shim").to_owned());
    let mut command = Command::new(binary);
    command
        .arg(flag::DIRECTORY)
        .arg(directory)
        .args([flag::NONCE, NONCE, flag::NAMESPACE, "test", flag::ID, "c1"])
        .args([flag::READY_FD, &tell.as_raw_fd().to_string()])
        .args(more)
        .stdin(ProcessStdio::null())
        .stdout(ProcessStdio::null())
        .stderr(log)
        .current_dir(directory)
        .process_group(0);
    let mut child = command.spawn().unwrap();
    drop(tell);
    let mut byte = [0];
    if fs::File::from(ready).read_exact(&mut byte).is_ok() {
        return Some(child);
    }
    child.wait().unwrap();
    None
}

pub fn process(response: Response) -> ProcessIdentity {
    match response {
        Response::Process(identity) => identity,
        other => panic!("no process but {other:?}"),
    }
}

pub fn code(cause: &ExitCause) -> u8 {
    match cause {
        ExitCause::Code(code) => *code,
        other => panic!("{other:?}"),
    }
}

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

/// A log without its time stamps.
pub fn log_lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

pub fn mkfifo(path: &Path) -> String {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A log target in the test's own directory.
pub fn log_target(task: &Task, bytes_max: u64, files_max: u32) -> LogTarget {
    let path = task.home.path().join("logs/c.log");
    LogTarget { path: path.to_str().unwrap().to_owned(), bytes_max, files_max }
}

fn cgroup_directories(path: &str) -> Vec<PathBuf> {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .map(|line| PathBuf::from(format!("{}{path}", line.split(' ').nth(4).unwrap())))
        .filter(|it| it.exists())
        .collect()
}

fn pids(directory: &Path) -> Vec<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn make_image(image: &Path) {
    for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
        fs::create_dir_all(image.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", image.join("bin/busybox")).unwrap();
    for name in [
        "sh", "sleep", "cat", "echo", "kill", "ps", "true", "seq", "stty", "id", "ls", "readlink", "head",
        "grep",
    ] {
        std::os::unix::fs::symlink("busybox", image.join("bin").join(name)).unwrap();
    }
}

fn spec(script: &str, cgroup: &str) -> Value {
    let capabilities = json!(["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "oomScoreAdj": 100,
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                "inheritable": [], "ambient": []
            }
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]}
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}
            ],
            "resources": {"devices": [{"allow": false, "access": "rwm"}]}
        }
    })
}
