//! Words about a container to be made: `bosun create` and `run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::Restart;

/// Make a container, without starting it.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun create --name web registry.local:5000/team/web:1.2 && bosun start web\n  bosun containers create --name api -e PORT=8080 registry.local:5000/team/api:1.2\n  bosun oci spec > config.json && bosun create --name plain --config config.json --rootfs /srv/rootfs\n\nIts snapshot is made too; `bosun start` makes and starts its task, `bosun tasks start` with this terminal's streams."
)]
pub struct Create {
    #[command(flatten)]
    pub container: NewContainer,
    /// Print nothing.
    #[arg(short, long)]
    pub quiet: bool,
}

/// What a container is to be.
#[derive(Args, Default)]
pub struct NewContainer {
    /// Image, or root directory with --rootfs.
    pub image: String,
    /// Command and its arguments [default: the image's].
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Name of the container [default: two words and a number].
    #[arg(long)]
    pub name: Option<String>,
    /// Give it a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// IMAGE is a directory of the host that is used as the root.
    #[arg(long)]
    pub rootfs: bool,
    /// KEY=VALUE; KEY alone takes ours; repeatable.
    #[arg(short, long)]
    pub env: Vec<String>,
    /// File with a KEY=VALUE a line.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub env_file: Vec<PathBuf>,
    /// Working directory.
    #[arg(short = 'w', long, alias = "workdir")]
    pub cwd: Option<String>,
    /// user[:group], names or numbers.
    #[arg(short, long)]
    pub user: Option<String>,
    /// Replace the image's entrypoint.
    #[arg(long)]
    pub entrypoint: Option<String>,
    /// Host name inside.
    #[arg(long)]
    pub hostname: Option<String>,
    /// type=bind,src=/a,dst=/b,options=ro:rbind; repeatable.
    #[arg(long)]
    pub mount: Vec<String>,
    /// /host/path:/path[:ro]; repeatable.
    #[arg(short = 'v', long)]
    pub volume: Vec<String>,
    /// Label, KEY=VALUE; repeatable.
    #[arg(short, long)]
    pub label: Vec<String>,
    /// OCI runtime: bosun (embedded), runc, crun, or a path.
    #[arg(long, default_value = "bosun")]
    pub runtime: String,
    /// Snapshotter.
    #[arg(long, env = "BOSUN_SNAPSHOTTER")]
    pub snapshotter: Option<String>,
    /// Network: a namespace of its own with nothing in it, or the host's.
    #[arg(long, alias = "network", value_enum, default_value = "none")]
    pub net: Network,
    /// The same as --net host.
    #[arg(long)]
    pub net_host: bool,
    /// All capabilities, nothing masked, no seccomp filter.
    #[arg(long)]
    pub privileged: bool,
    #[command(flatten)]
    pub security: Security,
    #[command(flatten)]
    pub users: Users,
    /// Read-only root file system.
    #[arg(long)]
    pub read_only: bool,
    /// Join a Linux namespace, type:path, or type:host for the daemon's own; repeatable.
    #[arg(long)]
    pub with_ns: Vec<String>,
    /// Memory limit, such as 64m or 1g.
    #[arg(short, long, alias = "memory-limit")]
    pub memory: Option<String>,
    /// Processors, such as 0.5 or 2.
    #[arg(long)]
    pub cpus: Option<f64>,
    /// Most processes.
    #[arg(long)]
    pub pids_limit: Option<u64>,
    /// Weight against others when processors are short, 2 to 262144; 1024 is ordinary.
    #[arg(long, value_name = "WEIGHT")]
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period, exactly, instead of --cpus.
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus")]
    pub cpu_quota: Option<u64>,
    /// The scheduler's period, in microseconds [default: 100000].
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus")]
    pub cpu_period: Option<u64>,
    /// Annotation of the OCI spec, KEY=VALUE; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// A whole OCI spec, JSON, in the place of what these flags and the image say of the process; `bosun oci spec` prints one.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["command", "env", "env_file", "cwd", "user", "entrypoint", "hostname", "mount", "volume", "net_host", "privileged", "read_only", "with_ns", "memory", "cpus", "cpu_shares", "cpu_quota", "cpu_period", "pids_limit", "annotation", "device", "gpus", "cap_add", "cap_drop", "security_opt", "ulimit", "tmpfs", "uidmap", "userns_remap"])]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub restart: Restart,
}

/// Whose network.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Network {
    /// Its own, empty.
    #[default]
    None,
    /// The host's.
    Host,
}

/// Users of the container's own.
#[derive(Args, Default)]
pub struct Users {
    /// Users of its own: those from INSIDE on are those from OUTSIDE on of the host; repeatable. Also for groups unless --gidmap is given.
    #[arg(long, value_name = "INSIDE:OUTSIDE:SIZE")]
    pub uidmap: Vec<String>,
    /// The same for groups; repeatable.
    #[arg(long, value_name = "INSIDE:OUTSIDE:SIZE", requires = "uidmap")]
    pub gidmap: Vec<String>,
    /// Short for --uidmap 0:UID:SIZE [default SIZE: 65536].
    #[arg(long, value_name = "UID[:SIZE]", conflicts_with = "uidmap")]
    pub userns_remap: Option<String>,
    /// How the image's files come to belong to those users: idmap, by the mount, nothing is copied; copy, once on disk for each map; auto, by the mount
    /// where kernel and file system can.
    #[arg(long, value_name = "HOW", value_enum, default_value = "auto")]
    pub userns_files: OwnershipChoice,
}

/// How files come to belong to mapped users.
#[derive(Clone, Copy, ValueEnum, Default)]
pub enum OwnershipChoice {
    /// By the mount where it can.
    #[default]
    Auto,
    /// By the mount.
    Idmap,
    /// On disk.
    Copy,
}

/// What a container may do.
#[derive(Args, Default)]
pub struct Security {
    /// Give a capability, such as net_admin or ALL; repeatable.
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Take a capability, or ALL; repeatable.
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
    /// seccomp=unconfined|PROFILE.json, apparmor=PROFILE, label=USER:ROLE:TYPE:LEVEL, no-new-privileges[=false], mask=/path, read-only=/path,
    /// unmask=/path|ALL; repeatable.
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Limit of each process, NAME=SOFT[:HARD], such as nofile=1024:4096 or core=unlimited; repeatable.
    #[arg(long, value_name = "LIMIT")]
    pub ulimit: Vec<String>,
    /// Let it use a host device, /dev/x[:/dev/y][:rwm], or what the host's CDI specs say of VENDOR/CLASS=NAME; repeatable.
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// GPUs: all, a count, device=0,1, or a CDI name. The same as --device nvidia.com/gpu=…
    #[arg(long, value_name = "GPUS")]
    pub gpus: Option<String>,
    /// An empty file system in memory, /path[:options]; repeatable.
    #[arg(long, value_name = "PATH")]
    pub tmpfs: Vec<String>,
}
