//! A state directory, a root file system and a cgroup parent of a test's own; and what must be gone after it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bosun_runtime::cgroup::Cgroups;
use bosun_runtime::clean_up::Known;
use bosun_runtime::shim::{ShimConnection, ShimLauncher};
use bosun_runtime::spec::{self, ImageProcessConfig, SpecContext};
use bosun_runtime::task_directory::{TaskDirectory, new_nonce};
use bosun_runtime::{mount, process};
use bosun_types::mount::Mount;
use bosun_types::shim::{CreateRequest, ExitNotice, Notice, Request, Response};
use bosun_types::spec::SpecOptions;
use bosun_types::stdio::{LogTarget, Stdio};
use bosun_types::task::ProcessIdentity;
use bosun_types::{ContainerId, NamespaceName};
use tokio::sync::mpsc;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct World {
    pub home: tempfile::TempDir,
    pub namespace: NamespaceName,
    pub id: ContainerId,
    pub cgroup_parent: String,
    pub launcher: ShimLauncher,
}

/// A container under way.
pub struct Task {
    pub directory: TaskDirectory,
    pub shim: ProcessIdentity,
    pub connection: ShimConnection,
    pub notices: mpsc::Receiver<Notice>,
    pub init: ProcessIdentity,
}

impl World {
    pub fn new() -> Self {
        Self::with_shim(&shim_binary())
    }

    pub fn with_shim(binary: &Path) -> Self {
        let home = tempfile::tempdir().unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let world = Self {
            namespace: NamespaceName::new("default").unwrap(),
            id: ContainerId::new("c1").unwrap(),
            cgroup_parent: format!("/bosun-host-{}-{number}", std::process::id()),
            launcher: ShimLauncher::new(binary.to_owned()).unwrap(),
            home,
        };
        world.make_image();
        world
    }

    pub fn state(&self) -> PathBuf {
        self.home.path().join("run")
    }

    pub fn log(&self) -> PathBuf {
        self.home.path().join("logs/c.log")
    }

    fn make_image(&self) {
        let image = self.home.path().join("image");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc", "run"] {
            fs::create_dir_all(image.join(name)).unwrap();
        }
        for name in ["upper", "work"] {
            fs::create_dir(self.home.path().join(name)).unwrap();
        }
        fs::copy("/bin/busybox", image.join("bin/busybox")).expect("busybox-static is installed");
        for name in ["sh", "sleep", "cat", "echo", "id", "true"] {
            std::os::unix::fs::symlink("busybox", image.join("bin").join(name)).unwrap();
        }
        fs::write(image.join("etc/passwd"), "root:x:0:0::/:\nweb:x:33:34::/:\n").unwrap();
        fs::write(image.join("etc/group"), "root:x:0:\nwww:x:34:\nlogs:x:40:web\n").unwrap();
    }

    pub fn mounts(&self) -> Vec<Mount> {
        let path = |name: &str| self.home.path().join(name).to_str().unwrap().to_owned();
        let options = vec![
            format!("lowerdir={}", path("image")),
            format!("upperdir={}", path("upper")),
            format!("workdir={}", path("work")),
        ];
        vec![Mount { kind: "overlay".into(), source: "overlay".into(), target: String::new(), options }]
    }

    /// The spec of a shell script, by the whole path that the daemon takes.
    pub fn spec(&self, script: &str, user: &str) -> Vec<u8> {
        let root = mount::detached(&self.mounts()).unwrap();
        let context = SpecContext {
            namespace: &self.namespace,
            id: &self.id,
            cgroup_parent: &self.cgroup_parent,
            root_path: "rootfs",
            root: Some(std::os::fd::AsFd::as_fd(&root)),
            cdi_directories: &[],
        };
        let image = ImageProcessConfig {
            user: user.to_owned(),
            entrypoint: vec!["/bin/sh".into(), "-c".into()],
            cmd: vec![script.to_owned()],
            ..ImageProcessConfig::default()
        };
        spec::to_json(&spec::build(&SpecOptions::default(), Some(&image), &context).unwrap()).unwrap()
    }

    pub fn directory(&self, spec: &[u8]) -> TaskDirectory {
        let owner = (&self.namespace, &self.id);
        TaskDirectory::ensure(&self.state(), &new_nonce().unwrap(), owner, spec, None).unwrap()
    }

    pub async fn shim(&self, directory: &TaskDirectory) -> ProcessIdentity {
        self.launcher.spawn(directory, &self.namespace, &self.id, PATIENCE).await.unwrap()
    }

    /// A container created and started.
    pub async fn run(&self, script: &str, user: &str, runtime: &str) -> Task {
        let directory = self.directory(&self.spec(script, user));
        let shim = self.shim(&directory).await;
        let (connection, notices) =
            ShimConnection::connect(directory.path(), directory.nonce(), PATIENCE).await.unwrap();
        assert_eq!(connection.shim(), shim);
        let log =
            LogTarget { path: self.log().to_str().unwrap().to_owned(), bytes_max: 1 << 20, files_max: 2 };
        let create = CreateRequest {
            id: self.id.to_string(),
            runtime: runtime.to_owned(),
            rootfs: self.mounts(),
            stdio: Stdio { log: Some(log), ..Stdio::default() },
            no_pivot_root: false,
            adoptable: false,
        };
        let created = connection.request(Request::Create(create), PATIENCE).await.unwrap();
        let started = connection.request(Request::Start { exec: None }, PATIENCE).await.unwrap();
        assert_eq!(created, started);
        let Response::Process(init) = started else { panic!("{started:?}") };
        Task { directory, shim, connection, notices, init }
    }

    pub fn known(&self, task: &Task, runtime: &str) -> Known {
        Known {
            id: self.id.to_string(),
            shim: Some(task.shim),
            init: Some(task.init),
            runtime: Some(runtime.to_owned()),
            held: Vec::new(),
        }
    }

    /// Nothing of this test is on the host any more but its home.
    pub fn assert_nothing_left(&self) {
        let cgroups = Cgroups::detect().unwrap();
        assert_eq!(cgroups.containers_below(&self.cgroup_parent).unwrap(), []);
        assert_eq!(bosun_runtime::observe::shims(&self.state()), []);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.home.path().to_str().unwrap()), "{mounts}");
        assert_eq!(TaskDirectory::list(&self.state()).unwrap(), []);
        cgroups.group(&self.cgroup_parent).unwrap().ensure_removed().unwrap();
    }
}

impl Drop for World {
    /// Also after a failed test.
    fn drop(&mut self) {
        for shim in bosun_runtime::observe::shims(&self.state()) {
            let _ = process::kill(&shim.process, nix::sys::signal::Signal::SIGKILL);
        }
        if let Ok(cgroups) = Cgroups::detect() {
            let _ = cgroups.group(&self.cgroup_parent).and_then(|it| it.ensure_removed());
        }
    }
}

pub async fn exit_of(notices: &mut mpsc::Receiver<Notice>) -> ExitNotice {
    loop {
        match tokio::time::timeout(PATIENCE, notices.recv()).await.expect("no exit comes") {
            Some(Notice::Exited(exit)) => return exit,
            Some(_) => {}
            None => panic!("the connection ended without an exit"),
        }
    }
}

/// Waits until a condition of the host holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

pub fn shim_binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).expect("target/<profile>/deps").join("bosun-shim");
    assert!(path.exists(), "{} is not built: run `cargo xtask test`", path.display());
    path
}
