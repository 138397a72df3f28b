//! Who runs: bosun, `ctr` with containerd and runc, bare runc, bare crun. Each gets the same busybox.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::Serialize;

use super::measure::{Maker, Samples};
use crate::build::Binaries;
use crate::run;
use crate::world::{self, Server, World};

/// The image's name in both daemons.
const IMAGE: &str = "bench.local/busybox:latest";

/// A contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// Ours.
    Bosun,
    /// containerd through `ctr`.
    Containerd,
    /// No daemon.
    Runc,
    /// No daemon; in a mount namespace with plain v1 cgroups, because it refuses hybrid ones.
    Crun,
}

impl Name {
    /// Whether it has a daemon.
    pub fn is_daemon(self) -> bool {
        matches!(self, Self::Bosun | Self::Containerd)
    }
}

/// Kilobytes of a group of processes.
#[derive(Debug, Default, Serialize)]
pub struct Memory {
    /// Processes counted.
    pub processes: usize,
    /// Proportional set size, in all.
    pub pss_kb: u64,
    /// Private dirty, in all.
    pub private_dirty_kb: u64,
    /// Resident, in all.
    pub rss_kb: u64,
}

/// Everything prepared.
pub struct Contest {
    binaries: Binaries,
    bosund: Server,
    containerd: Server,
    bundle: PathBuf,
    // Last: its directories go after the servers.
    world: World,
}

impl Contest {
    /// Starts both daemons and gives them the image.
    pub fn prepare(binaries: Binaries) -> anyhow::Result<Self> {
        let world = World::new("bench")?;
        let archive = world.directory.join("busybox.tar");
        run::check(
            Command::new(&binaries.fixture).arg("archive").arg(&archive).args(["--reference", IMAGE]),
        )?;
        let bosund = world::start_bosund(&world, &binaries, "info", &[])?;
        let containerd = start_containerd(&world)?;
        let bundle = make_bundle(&world, &binaries)?;
        let contest = Self { binaries, bosund, containerd, bundle, world };
        world::wait_until("bosund", || {
            contest.bosun(&["daemon", "status"]).output().is_ok_and(|o| o.status.success())
        })?;
        world::wait_until("containerd", || {
            contest.ctr(&["version"]).output().is_ok_and(|o| o.status.success())
        })?;
        run::output(contest.bosun(&["images", "import"]).arg(&archive))?;
        run::output(contest.ctr(&["image", "import"]).arg(&archive))?;
        Ok(contest)
    }

    pub(super) fn bosun(&self, arguments: &[&str]) -> Command {
        let mut command = world::bosun(&self.world, &self.binaries);
        command.args(arguments);
        command
    }

    pub(super) fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.world.state("containerd").join("containerd.sock")).args(arguments);
        command
    }

    /// The client's words for a run of `/bin/true`.
    pub(super) fn true_words<'a>(&self, name: Name, id: &'a str) -> Vec<&'a str> {
        match name {
            Name::Containerd => vec!["run", "--rm", IMAGE, id, "/bin/true"],
            Name::Bosun | Name::Runc | Name::Crun => vec!["run", "--rm", IMAGE, "/bin/true"],
        }
    }

    /// How each contestant runs `/bin/true`.
    pub fn true_commands(&self) -> Vec<(Name, Maker)> {
        let address = self.world.state("bosun").join("bosun.sock");
        let program = self.binaries.bosun.clone();
        let bosun: Maker = Box::new(move |_| {
            let mut command = Command::new(&program);
            command.arg("--address").arg(&address).args(["run", "--rm", IMAGE, "/bin/true"]);
            command
        });
        let address = self.world.state("containerd").join("containerd.sock");
        let ctr: Maker = Box::new(move |number| {
            let mut command = Command::new("ctr");
            command.arg("--address").arg(&address).args([
                "run",
                "--rm",
                IMAGE,
                &format!("true-{number}"),
                "/bin/true",
            ]);
            command
        });
        let (bundle, state) = (self.bundle.clone(), self.world.state("runc"));
        let runc: Maker = Box::new(move |number| {
            let mut command = Command::new("runc");
            command
                .arg("--root")
                .arg(&state)
                .arg("run")
                .arg("--bundle")
                .arg(&bundle)
                .arg(format!("true-{number}"));
            command
        });
        let (bundle, state) = (self.bundle.clone(), self.world.state("crun"));
        let crun: Maker = Box::new(move |number| {
            let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun --root \"$1\" run --bundle \"$2\" \"$3\"";
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
            command.arg(&state).arg(&bundle).arg(format!("true-{number}"));
            command
        });
        vec![(Name::Bosun, bosun), (Name::Containerd, ctr), (Name::Runc, runc), (Name::Crun, crun)]
    }

    /// Runs one container with the daemon's stage log on, and gives stage and microseconds.
    pub fn stages(&mut self) -> anyhow::Result<Vec<(String, u64)>> {
        let log = self.world.directory.join("bosund.log");
        self.bosund.kill()?;
        self.bosund = world::start_bosund(&self.world, &self.binaries, "info,bosun::stage=debug", &[])?;
        world::wait_until("bosund", || {
            self.bosun(&["daemon", "status"]).output().is_ok_and(|o| o.status.success())
        })?;
        run::output(&mut self.bosun(&["run", "--rm", IMAGE, "/bin/true"]))?;
        let before = std::fs::metadata(&log)?.len();
        run::output(&mut self.bosun(&["run", "--rm", IMAGE, "/bin/true"]))?;
        let text = std::fs::read(&log)?;
        let text =
            String::from_utf8_lossy(text.get(usize::try_from(before)?..).unwrap_or_default()).into_owned();
        Ok(text.lines().filter_map(parse_stage).collect())
    }

    /// Starts containers that sleep, in both daemons.
    pub fn start_idle(&self, count: usize) -> anyhow::Result<()> {
        (0..count).try_for_each(|number| self.start_sleeper(&format!("idle-{number}")))
    }

    /// Starts one container that sleeps, in each daemon.
    pub(super) fn start_sleeper(&self, id: &str) -> anyhow::Result<()> {
        run::output(&mut self.bosun(&["run", "--detach", "--name", id, IMAGE, "/bin/sleep", "100000"]))?;
        run::output(&mut self.ctr(&["run", "--detach", IMAGE, id, "/bin/sleep", "100000"]))?;
        Ok(())
    }

    /// Removes it again.
    pub(super) fn remove_sleeper(&self, id: &str) -> anyhow::Result<()> {
        run::output(&mut self.bosun(&["rm", "--force", id]))?;
        run::output(&mut self.ctr(&["task", "rm", "--force", id]))?;
        run::output(&mut self.ctr(&["container", "rm", id]))?;
        Ok(())
    }

    /// Shims and daemons of both.
    pub fn memory(&self) -> anyhow::Result<Vec<(String, Memory)>> {
        let sock = self.world.state("containerd").join("containerd.sock");
        Ok(vec![
            (
                "bosun shims".to_owned(),
                memory_of(&find("bosun-shim", &self.world.state("bosun").to_string_lossy())?)?,
            ),
            ("containerd shims".to_owned(), memory_of(&find("containerd-shim", &sock.to_string_lossy())?)?),
            ("bosund".to_owned(), memory_of(&[self.bosund.pid()])?),
            ("containerd".to_owned(), memory_of(&[self.containerd.pid()])?),
        ])
    }

    /// SIGKILL, start, time until every live container is listed as running.
    pub fn restart_times(&mut self, samples: usize, count: usize) -> anyhow::Result<Vec<(Name, Samples)>> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            self.bosund.kill()?;
            let begin = std::time::Instant::now();
            self.bosund = world::start_bosund(&self.world, &self.binaries, "info", &[])?;
            world::wait_until("bosund to list all", || lines(&mut self.bosun(&["ps"]), "running") >= count)?;
            ours.push(begin.elapsed().as_secs_f64() * 1e3);
            self.containerd.kill()?;
            let begin = std::time::Instant::now();
            self.containerd = start_containerd(&self.world)?;
            world::wait_until("containerd to list all", || {
                lines(&mut self.ctr(&["task", "ls"]), "RUNNING") >= count
            })?;
            theirs.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        Ok(vec![(Name::Bosun, ours), (Name::Containerd, theirs)])
    }
}

impl Drop for Contest {
    /// Containers outlive daemons by design, so they are ended here.
    fn drop(&mut self) {
        for (mut list, kill) in [
            (self.bosun(&["ps", "--quiet"]), &["rm", "--force"][..]),
            (self.ctr(&["task", "ls", "--quiet"]), &["task", "rm", "--force"][..]),
        ] {
            let Ok(output) = list.output() else { continue };
            for id in String::from_utf8_lossy(&output.stdout).lines() {
                let mut command = if kill[0] == "rm" { self.bosun(kill) } else { self.ctr(kill) };
                let _ = command.arg(id).output();
            }
        }
    }
}

fn lines(command: &mut Command, word: &str) -> usize {
    let Ok(output) = command.output() else { return 0 };
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(word)).count()
}

fn start_containerd(world: &World) -> anyhow::Result<Server> {
    start_containerd_at(&world.directory, &world.root("containerd"), &world.state("containerd"))
}

/// containerd with its socket in `state`.
pub(super) fn start_containerd_at(directory: &Path, root: &Path, state: &Path) -> anyhow::Result<Server> {
    std::fs::create_dir_all(state)?;
    let config = directory.join("containerd.toml");
    let text = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"{}\"\n",
        root.display(),
        state.join("state").display(),
        state.join("containerd.sock").display()
    );
    std::fs::write(&config, text)?;
    Server::start(
        "containerd",
        Command::new("containerd").arg("--config").arg(&config),
        &directory.join("containerd.log"),
    )
}

/// Largest resident set of a process so far.
pub(super) fn peak_kilobytes(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// A bundle for the runtimes without a daemon.
fn make_bundle(world: &World, binaries: &Binaries) -> anyhow::Result<PathBuf> {
    let bundle = world.directory.join("bundle");
    let rootfs = bundle.join("rootfs");
    run::check(Command::new(&binaries.fixture).arg("rootfs").arg(&rootfs))?;
    run::output(Command::new("runc").arg("spec").arg("--bundle").arg(&bundle))?;
    let config = bundle.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["/bin/true"]);
    std::fs::write(&config, serde_json::to_vec(&spec)?)?;
    Ok(bundle)
}

/// `… stage=create_task.spawn_shim micros=1234 …` of the daemon's log.
fn parse_stage(line: &str) -> Option<(String, u64)> {
    let word = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
    Some((word("stage=")?.trim_matches('"').to_owned(), word("micros=")?.parse().ok()?))
}

/// Pids whose program name starts with `name` and whose command line holds `mark`.
fn find(name: &str, mark: &str) -> anyhow::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        let comm = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        // The kernel keeps 15 bytes of a program's name.
        if comm.trim_end() == &name[..name.len().min(15)] && String::from_utf8_lossy(&line).contains(mark) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

fn memory_of(pids: &[u32]) -> anyhow::Result<Memory> {
    let mut sum = Memory { processes: pids.len(), ..Memory::default() };
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let field = |key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        sum.pss_kb += field("Pss:");
        sum.private_dirty_kb += field("Private_Dirty:");
        sum.rss_kb += field("Rss:");
    }
    Ok(sum)
}
