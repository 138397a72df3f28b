//! A private world for the demo and the bench: directories, processes of our own, ended when it is dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::build::Binaries;
use crate::run;

/// How long a program may take until it serves.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(2);

/// Directories of one run. State is on tmpfs, as `/run` is on a real host.
pub struct World {
    /// Everything is below it.
    pub directory: PathBuf,
}

impl World {
    /// Fresh directories below `/tmp`.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let directory = PathBuf::from(format!("/tmp/bosun-{name}-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("run"))?;
        run::check(
            Command::new("mount").args(["-t", "tmpfs", "-o", "mode=700", "bosun"]).arg(directory.join("run")),
        )?;
        Ok(Self { directory })
    }

    /// What survives a reboot.
    pub fn root(&self, who: &str) -> PathBuf {
        self.directory.join(who)
    }

    /// What does not.
    pub fn state(&self, who: &str) -> PathBuf {
        self.directory.join("run").join(who)
    }

    /// Name of our cgroup parent.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.directory.file_name().unwrap_or_default().to_string_lossy())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The daemon keeps its parent groups, empty, for its next containers; there will be none.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let parent = hierarchy.path().join(self.cgroup_parent().trim_start_matches('/'));
            let _ = std::fs::remove_dir(parent.join("default"));
            let _ = std::fs::remove_dir(parent);
        }
        let run = self.directory.join("run");
        let _ = Command::new("umount").arg("--lazy").arg(&run).status();
        // Only below our own folder, and only when the mount above it is gone.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A program of ours; killed and reaped when dropped.
pub struct Server {
    child: Child,
    name: &'static str,
}

impl Server {
    /// Starts it with its output in a log file.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// bosund in this world, with further flags.
pub fn start_bosund(
    world: &World,
    binaries: &Binaries,
    log_filter: &str,
    flags: &[&str],
) -> anyhow::Result<Server> {
    let mut command = Command::new(&binaries.bosund);
    command.arg("--root").arg(world.root("bosun")).arg("--state").arg(world.state("bosun"));
    command.arg("--shim").arg(&binaries.shim).args(["--cgroup-parent", &world.cgroup_parent()]).args(flags);
    command.env("RUST_LOG", log_filter).env_remove("BOSUN_ADDRESS");
    Server::start("bosund", &mut command, &world.directory.join("bosund.log"))
}

/// The client, aimed at this world's daemon.
pub fn bosun(world: &World, binaries: &Binaries) -> Command {
    let mut command = Command::new(&binaries.bosun);
    command.arg("--address").arg(world.state("bosun").join("bosun.sock"));
    command
}

/// Debian's docker-registry on a free loopback port; gives its `host:port`.
pub fn start_registry(world: &World) -> anyhow::Result<(Server, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let data = world.directory.join("registry");
    let config = world.directory.join("registry.yml");
    std::fs::write(
        &config,
        format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            data.display()
        ),
    )?;
    let server = Server::start(
        "docker-registry",
        Command::new("docker-registry").arg("serve").arg(&config),
        &world.directory.join("registry.log"),
    )?;
    wait_until("the registry to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok((server, format!("127.0.0.1:{port}")))
}

/// Polls a condition until it holds; an error names what was waited for.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() > START_DEADLINE {
            bail!("waited {START_DEADLINE:?} for {what}");
        }
        std::thread::sleep(POLL);
    }
    Ok(begin.elapsed())
}
