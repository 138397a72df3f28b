//! An external OCI runtime: `runc`, `crun`, or any binary with their command line (SHM-12). Runs in a job's child.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use bosun_types::shim::file;
use bosun_types::task::ProcessIdentity;
use nix::sys::signal::Signal;
use oci_spec::runtime::Spec;

use crate::error::{Context as _, Result, ShimError};
use crate::oci::{NewContainer, NewExec, OciRuntime, ProcessStreams};
use crate::sys::identity_of;

/// The runtime's log, relative to the task directory.
const LOG: &str = "log.json";
/// Init's pid file, relative to the task directory.
const PID_FILE: &str = "init.pid";
/// Longest log that is searched for the error.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// A runtime binary.
#[derive(Debug)]
pub struct Binary {
    program: String,
}

impl Binary {
    /// By name (looked up in `PATH`) or path.
    pub fn new(program: &str) -> Self {
        Self { program: program.to_owned() }
    }

    fn command(&self, verb: &str) -> Result<Command> {
        let root = std::path::absolute(file::RUNTIME_ROOT).context(|| "working directory".into())?;
        fs::create_dir_all(&root).context(|| format!("make {}", root.display()))?;
        // Each call tells its own errors only.
        let _ = fs::remove_file(LOG);
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(root).args(["--log", LOG, "--log-format", "json", verb]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    fn run(&self, mut command: Command, what: &str) -> Result<()> {
        let status =
            die_with_parent(&mut command).status().context(|| format!("{what}: run {}", self.program))?;
        if status.success() {
            return Ok(());
        }
        let text = last_error(Path::new(LOG)).unwrap_or_else(|| status.to_string());
        Err(ShimError::Runtime(format!("{what}: {}: {text}", self.program)))
    }
}

impl OciRuntime for Binary {
    fn create(&self, container: NewContainer<'_>, _spec: &Spec) -> Result<ProcessIdentity> {
        let mut command = self.command("create")?;
        command.args(["--bundle", ".", "--pid-file", PID_FILE]);
        if container.no_pivot_root {
            command.arg("--no-pivot");
        }
        give_streams(&mut command, container.streams)?;
        command.arg(container.id);
        self.run(command, "create container")?;
        read_pid(PID_FILE)
    }

    fn start(&self, id: &str) -> Result<()> {
        let mut command = self.command("start")?;
        command.arg(id);
        self.run(command, "start container")
    }

    fn exec(&self, exec: NewExec<'_>) -> Result<ProcessIdentity> {
        exec.streams.give_to(exec.process, crate::oci::load_maps()?.as_ref());
        let process = crate::oci::encode(exec.process)?;
        fs::write(exec.process_file, process).context(|| format!("write {}", exec.process_file))?;
        let mut command = self.command("exec")?;
        command.args(["--detach", "--process", exec.process_file, "--pid-file", exec.pid_file]);
        give_streams(&mut command, exec.streams)?;
        command.arg(exec.id);
        let result = self.run(command, "exec");
        let _ = fs::remove_file(exec.process_file);
        result?;
        let identity = read_pid(exec.pid_file);
        let _ = fs::remove_file(exec.pid_file);
        identity
    }

    fn delete(&self, id: &str) -> Result<()> {
        if !Path::new(file::RUNTIME_ROOT).join(id).exists() {
            return Ok(());
        }
        let mut command = self.command("delete")?;
        command.args(["--force", id]);
        self.run(command, "delete container")
    }

    fn update(&self, id: &str, _cgroup_path: &str, resources: &[u8]) -> Result<()> {
        const RESOURCES: &str = "resources.json";
        fs::write(RESOURCES, resources).context(|| format!("write {RESOURCES}"))?;
        let mut command = self.command("update")?;
        command.args(["--resources", RESOURCES, id]);
        let result = self.run(command, "update container");
        let _ = fs::remove_file(RESOURCES);
        result
    }
}

/// The runtime call must not outlive the job (SHM-12); the container is not its child by then.
#[expect(unsafe_code, reason = "pre_exec")]
fn die_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from))
    }
}

fn give_streams(command: &mut Command, streams: ProcessStreams) -> Result<()> {
    match streams {
        ProcessStreams::Pipes([stdin, stdout, stderr]) => {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        }
        ProcessStreams::Console(path) => {
            let path = std::path::absolute(path).context(|| "working directory".into())?;
            command.arg("--console-socket").arg(path);
        }
    }
    Ok(())
}

fn read_pid(path: &str) -> Result<ProcessIdentity> {
    let text = fs::read_to_string(path).context(|| format!("read {path}"))?;
    let pid: i32 =
        text.trim().parse().map_err(|_| ShimError::Runtime(format!("{path}: {text:?} is no pid")))?;
    // The process may be the shim's child already, and reaped: then the shim itself remembers its start time.
    Ok(identity_of(pid).unwrap_or(ProcessIdentity { pid: u32::try_from(pid).unwrap_or(0), start_ticks: 0 }))
}

/// The last line of level "error" in a runtime's JSON log (TSK-33).
fn last_error(log: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(log).ok()?.take(LOG_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|line| line["level"] == "error")
        .and_then(|line| line["msg"].as_str().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tsk_33_the_last_error_line_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log.json");
        assert_eq!(last_error(&log), None);
        let lines = [
            r#"{"level":"error","msg":"first"}"#,
            r#"{"level":"error","msg":"exec: \"nope\": not found"}"#,
            r#"{"level":"info","msg":"bye"}"#,
            "garbage",
        ];
        fs::write(&log, lines.join("\n")).unwrap();
        assert_eq!(last_error(&log).as_deref(), Some(r#"exec: "nope": not found"#));
    }
}
