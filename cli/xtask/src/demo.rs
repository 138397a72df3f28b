//! `cargo xtask demo`: bosun at work, on this machine, with everything real; each claim is checked, and a claim that does
//! not hold ends the demo with an error.

mod leftovers;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::build::{self, Binaries};
use crate::world::{self, Server, World};
use crate::{packages, run};

/// Nothing to choose yet.
#[derive(Args)]
pub struct Options {
    /// Keep the daemon's log at the end and say where it is.
    #[arg(long)]
    keep_log: bool,
}

/// Repository and tag on the loopback registry.
const REPOSITORY: &str = "demo/busybox:latest";
/// Prints a line ten times a second, for ever.
const COUNTER: &str = "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.1; done";
/// Runs until its file appears, then ends with 42: the demo decides when.
const MORTAL: &str = "echo waiting; while [ ! -e /tmp/end ]; do sleep 0.05; done; echo ending; exit 42";

/// Shows it.
pub fn run(options: &Options) -> anyhow::Result<()> {
    packages::require_root("demo")?;
    packages::ensure(&[packages::BUILD, packages::TEST])?;
    run::say("building release binaries (a few minutes the first time)");
    let binaries = build::release(true)?;
    let mut demo = Demo::start(binaries)?;
    let result = demo.play();
    let log = demo.world.directory.join("bosund.log");
    if options.keep_log || result.is_err() {
        let kept = build::target_directory()?.join("demo-bosund.log");
        std::fs::copy(&log, &kept)?;
        run::say(&format!("the daemon's log: {}", kept.display()));
    }
    result
}

struct Demo {
    binaries: Binaries,
    bosund: Server,
    _registry: Server,
    image: String,
    // Last: its directories go after the servers.
    world: World,
}

impl Demo {
    fn start(binaries: Binaries) -> anyhow::Result<Self> {
        let world = World::new("demo")?;
        title("A registry on loopback, and a daemon");
        let (registry, host) = world::start_registry(&world)?;
        let bosund = world::start_bosund(&world, &binaries, "info", &[])?;
        let demo =
            Self { image: format!("{host}/{REPOSITORY}"), binaries, bosund, _registry: registry, world };
        demo.wait_for_daemon()?;
        Ok(demo)
    }

    fn play(&mut self) -> anyhow::Result<()> {
        self.pull()?;
        self.run_and_look()?;
        let (counter_before, lines_before) = self.kill_the_daemon()?;
        self.find_everything_again(&counter_before, lines_before)?;
        self.clean_up()?;
        title("That was bosun.");
        Ok(())
    }

    fn pull(&self) -> anyhow::Result<()> {
        title("Push a small image with our own writer, pull it with a bar for each layer");
        run::check(Command::new(&self.binaries.fixture).args(["push", &self.image]))?;
        self.show(&["pull", &self.image])?;
        self.show(&["images"])
    }

    fn run_and_look(&self) -> anyhow::Result<()> {
        title("Run a container: its output, and its exit code is ours");
        let words = ["run", "--rm", &self.image, "sh", "-c", "echo hello from $(hostname), pid $$; exit 7"];
        echo(&words);
        let status = self.bosun(&words).status()?;
        say(&format!("exit code {:?}", status.code()));
        ensure!(status.code() == Some(7), "the container ended with 7, bosun said {status}");
        title("Two containers in the background, the tree that holds them, and what happened so far");
        self.show(&["run", "--detach", "--name", "counter", &self.image, "sh", "-c", COUNTER])?;
        self.show(&["run", "--detach", "--name", "mortal", &self.image, "sh", "-c", MORTAL])?;
        self.show(&["ps"])?;
        self.show(&["tree"])?;
        self.show(&["events", "--since", "1", "--no-follow"])
    }

    /// SIGKILL; while no daemon runs, one container writes on and the other ends.
    fn kill_the_daemon(&mut self) -> anyhow::Result<(Value, usize)> {
        title("kill -9 the daemon");
        let counter = self.container("counter")?;
        let mortal = self.container("mortal")?;
        let lines_before = self.logs("counter")?.lines().count();
        self.bosund.kill()?;
        say("bosund is dead; the containers are not its children");
        let pid = pid_of(&mortal)?;
        std::fs::write(format!("/proc/{pid}/root/tmp/end"), "")?;
        world::wait_until("`mortal` to end", || !Path::new(&format!("/proc/{pid}")).exists())?;
        say(&format!("`mortal` (pid {pid}) has ended with 42, and nobody was there to see it but its shim"));
        Ok((counter, lines_before))
    }

    fn find_everything_again(&mut self, counter_before: &Value, lines_before: usize) -> anyhow::Result<()> {
        title("Start the daemon again");
        let log = std::fs::metadata(self.counter_log()?)?.len();
        world::wait_until("output while no daemon runs", || {
            self.counter_log().and_then(|path| Ok(std::fs::metadata(path)?.len())).is_ok_and(|now| now > log)
        })?;
        self.bosund = world::start_bosund(&self.world, &self.binaries, "info", &[])?;
        self.wait_for_daemon()?;
        world::wait_until("recovery", || {
            self.container("mortal").is_ok_and(|info| info["status"] == "stopped")
        })?;
        self.show(&["ps", "--all"])?;
        let counter = self.container("counter")?;
        ensure!(
            counter["pid"] == counter_before["pid"],
            "the pid changed from {} to {}",
            counter_before["pid"],
            counter["pid"]
        );
        ensure!(counter["status"] == "running", "`counter` is {}", counter["status"]);
        say(&format!("`counter` kept its pid {}", counter["pid"]));
        let mortal = self.container("mortal")?;
        ensure!(
            mortal["exit"]["cause"]["code"] == 42,
            "`mortal` ended with 42, bosun says {}",
            mortal["exit"]
        );
        say("`mortal` ended with 42: right");
        let logs = self.logs("counter")?;
        let lines = logs.lines().count();
        ensure!(lines > lines_before, "no new output: {lines_before} lines before, {lines} now");
        let whole = logs.lines().enumerate().all(|(number, line)| line == format!("tick {number}"));
        ensure!(whole, "lines of `counter` are missing or out of order:\n{logs}");
        say(&format!(
            "`bosun logs counter` has every line: {lines_before} before the kill, {lines} now, none missing"
        ));
        self.show(&["logs", "--tail", "3", "counter"])
    }

    fn clean_up(&mut self) -> anyhow::Result<()> {
        title("Clean up, and look whether anything is left behind");
        self.show(&["rm", "--force", "counter", "mortal"])?;
        self.show(&["ps", "--all"])?;
        let left = leftovers::find(&self.world)?;
        if !left.is_empty() {
            bail!("left behind:\n  {}", left.join("\n  "));
        }
        say(
            "no shim, no cgroup, no mount, no task directory, no container's snapshot: nothing is left behind",
        );
        Ok(())
    }

    fn bosun(&self, words: &[&str]) -> Command {
        let mut command = world::bosun(&self.world, &self.binaries);
        command.args(words);
        command
    }

    /// Prints the command as a person would type it, and runs it with our terminal.
    fn show(&self, words: &[&str]) -> anyhow::Result<()> {
        echo(words);
        run::check(&mut self.bosun(words))
    }

    fn wait_for_daemon(&self) -> anyhow::Result<()> {
        let took = world::wait_until("bosund to serve", || {
            self.bosun(&["daemon", "status"]).output().is_ok_and(|output| output.status.success())
        })?;
        say(&format!("bosund serves (pid {}, after {} ms)", self.bosund.pid(), took.as_millis()));
        Ok(())
    }

    /// One container's row of `ps --all --json`.
    fn container(&self, id: &str) -> anyhow::Result<Value> {
        let rows: Vec<Value> =
            serde_json::from_slice(&run::output(&mut self.bosun(&["ps", "--all", "--json"]))?)?;
        rows.into_iter()
            .find(|row| row["container"] == id)
            .with_context(|| format!("`bosun ps --all` does not show {id}"))
    }

    fn logs(&self, id: &str) -> anyhow::Result<String> {
        Ok(String::from_utf8(run::output(&mut self.bosun(&["logs", id]))?)?)
    }

    fn counter_log(&self) -> anyhow::Result<std::path::PathBuf> {
        Ok(self.world.root("bosun").join("logs/default/counter/log"))
    }
}

impl Drop for Demo {
    /// When a claim failed, containers are still there.
    fn drop(&mut self) {
        let _ = self.bosun(&["rm", "--force", "counter", "mortal"]).output();
    }
}

fn pid_of(info: &Value) -> anyhow::Result<u64> {
    info["pid"].as_u64().context("a running container has a pid")
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn title(text: &str) {
    println!("\n== {text}");
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn say(text: &str) {
    println!("-- {text}");
}

/// The command line as a person would type it.
#[expect(clippy::print_stdout, reason = "the command's output")]
fn echo(words: &[&str]) {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| if word.contains([' ', '$', ';']) { format!("'{word}'") } else { (*word).to_owned() })
        .collect();
    println!("$ bosun {}", quoted.join(" "));
}
