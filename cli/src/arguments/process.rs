//! Words about processes: what runs, what they write, who takes part.

use std::path::PathBuf;

use bosun_types::task::OnShimDeath;
use clap::{Args, ValueEnum, ValueHint};

use super::NewContainer;
use crate::detach_keys::DetachKeys;

/// Make and run a container.
#[derive(Args, Default)]
#[command(
    after_help = "EXAMPLES:\n  bosun run --rm -it registry.local:5000/library/busybox:latest sh\n  bosun run -d --name web -e PORT=8080 registry.local:5000/team/web:1.2\n  bosun run -d --name api --restart on-failure:5 registry.local:5000/team/api:1.2\n  bosun run --rm --memory 64m --cpus 0.5 --pids-limit 32 registry.local:5000/library/busybox:latest nproc\n  bosun run --rm --net host -v /etc:/host:ro registry.local:5000/library/busybox:latest ls /host\n  bosun run --rm --gpus all registry.local:5000/library/busybox:latest env\n  bosun run --rm --userns-remap 100000:65536 registry.local:5000/library/busybox:latest id\n  bosun run --rm --rootfs /srv/rootfs /bin/sh -c 'echo hello'\n\nEXIT CODE: the container's; 125 when bosun failed, 126 when the command cannot be started, 127 when it is not found.\nWithout -t, signals that bosun gets go to the container."
)]
pub struct Run {
    #[command(flatten)]
    pub container: NewContainer,
    #[command(flatten)]
    pub streams: Streams,
    /// Remove the container when it ends.
    #[arg(long, conflicts_with_all = ["detach", "restart"])]
    pub rm: bool,
    /// Print the name and return at once; output goes to the log. With --interactive, `bosun attach` writes its input.
    #[arg(short, long)]
    pub detach: bool,
    /// IMAGE is a checkpoint: it goes on where that was made, with the spec of then. `bosun restore` is the same.
    #[arg(long, conflicts_with_all = ["rootfs", "config", "command", "env", "env_file", "cwd", "user", "entrypoint", "hostname", "mount", "volume", "net_host", "privileged", "read_only", "with_ns", "memory", "cpus", "cpu_shares", "cpu_quota", "cpu_period", "pids_limit", "annotation"])]
    pub checkpoint: bool,
}

/// Streams of a container's first process, and what it is run with.
#[derive(Args, Default)]
pub struct Streams {
    /// With -it: keys that leave it as it is; empty: none.
    #[arg(long, default_value = crate::detach_keys::DEFAULT)]
    pub detach_keys: DetachKeys,
    /// Pass our standard input on.
    #[arg(short, long)]
    pub interactive: bool,
    /// Write the container's pid to this file.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub pid_file: Option<PathBuf>,
    /// What becomes of the container if its monitor process (bosun-shim) dies while it runs: it is killed, or adopted by a new monitor with its output, its
    /// signals and its true exit code. Not with --tty.
    #[arg(long, value_enum, default_value_t = ShimDeath::Kill)]
    pub on_shim_death: ShimDeath,
    /// No log file.
    #[arg(long)]
    pub no_log: bool,
    /// With --detach: where output goes instead of bosund's log file: file:///path, or binary:///program?key=value, a program that gets stdout as descriptor 3,
    /// stderr as 4, and closes 5 once it is ready.
    #[arg(long, value_name = "URI", requires = "detach", conflicts_with = "no_log")]
    pub log_uri: Option<String>,
    /// Of the log file: max-size=SIZE [default: 16m], max-file=N [default: 4]; repeatable.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "no_log")]
    pub log_opt: Vec<String>,
    /// Output goes nowhere.
    #[arg(long, conflicts_with_all = ["interactive", "log_uri", "log_opt"])]
    pub null_io: bool,
    /// Change the root by moving it over the old one (MS_MOVE), not by pivot_root: for a root in an initial ramdisk.
    #[arg(long)]
    pub no_pivot: bool,
}

/// What becomes of a running container whose monitor dies.
#[derive(Clone, Copy, ValueEnum, Default)]
pub enum ShimDeath {
    /// It is killed and cleaned up.
    #[default]
    Kill,
    /// It goes on under a new monitor.
    Adopt,
}

impl From<ShimDeath> for OnShimDeath {
    fn from(chosen: ShimDeath) -> Self {
        match chosen {
            ShimDeath::Kill => Self::Kill,
            ShimDeath::Adopt => Self::Adopt,
        }
    }
}

/// Show output.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun logs web\n  bosun logs -f --tail 10 web\n  bosun logs --since 2026-11-24T08:00:00Z -t web\n  bosun logs --since 10m web"
)]
pub struct Logs {
    /// The container.
    pub container: String,
    /// Go on until it ends.
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines.
    #[arg(long)]
    pub tail: Option<u64>,
    /// Only what is newer: RFC 3339, or an age such as 90s, 10m, 2h.
    #[arg(long)]
    pub since: Option<String>,
    /// Put the time before each line.
    #[arg(short, long)]
    pub timestamps: bool,
}

/// Take part in a container.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun run -d -it --name shell docker.io/library/alpine:3.20\n  bosun attach shell\n  bosun attach --replay 4096 --no-stdin web\n  echo reload | bosun attach --no-sig-proxy web\n\nAny number may be attached at once, up to 8. The detach keys leave the container as it is.\n\nEXIT CODE: the process's; 0 after detaching; 125 when bosun failed."
)]
pub struct Attach {
    /// The container.
    pub container: String,
    /// Attach to this exec instead of the container's first process.
    #[arg(long)]
    pub exec_id: Option<String>,
    /// Begin with the last N bytes of the output, as far as they are kept (64 KiB).
    #[arg(long, value_name = "N")]
    pub replay: Option<u32>,
    /// Only read.
    #[arg(long)]
    pub no_stdin: bool,
    /// Let the process read end-of-file when our standard input ends.
    #[arg(long, conflicts_with = "no_stdin")]
    pub close_stdin: bool,
    /// When we read too slowly: drop the oldest output and say how much; block the process; or read what was missed from the log.
    #[arg(long, value_enum, default_value = "drop")]
    pub overflow: OverflowChoice,
    /// Keep our signals and our window's size from the process.
    #[arg(long = "no-sig-proxy", action = clap::ArgAction::SetFalse)]
    pub sig_proxy: bool,
    /// Keys that detach; empty: none.
    #[arg(long, default_value = crate::detach_keys::DEFAULT)]
    pub detach_keys: DetachKeys,
}

/// When a reader is too slow.
#[derive(Clone, Copy, ValueEnum)]
pub enum OverflowChoice {
    /// The process goes on, we miss some.
    Drop,
    /// The process waits for us.
    Block,
    /// The log has it.
    Spill,
}

/// Run a further command.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun exec web ls /\n  bosun exec -it web sh\n  bosun exec --user nobody --cwd /tmp web id\n\nEXIT CODE: the command's; 125 when bosun failed."
)]
pub struct Exec {
    /// The container.
    pub container: String,
    /// Command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Give it a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// Pass our standard input on.
    #[arg(short, long)]
    pub interactive: bool,
    /// Start it and return. With --interactive, `bosun attach --exec-id` takes part in it.
    #[arg(short, long)]
    pub detach: bool,
    /// With -it: keys that leave it as it is; empty: none.
    #[arg(long, default_value = crate::detach_keys::DEFAULT)]
    pub detach_keys: DetachKeys,
    /// Its id [default: a random one].
    #[arg(long)]
    pub exec_id: Option<String>,
    /// KEY=VALUE; repeatable.
    #[arg(short, long)]
    pub env: Vec<String>,
    /// Working directory.
    #[arg(short = 'w', long, alias = "workdir")]
    pub cwd: Option<String>,
    /// user[:group].
    #[arg(short, long)]
    pub user: Option<String>,
}
