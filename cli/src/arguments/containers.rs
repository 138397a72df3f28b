//! Words about containers and their tasks: the everyday ones, and those noun first.

use clap::{Args, Subcommand};

use super::{Checkpoint, Create, Filter, Restart, Restore};

/// List containers.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun ps\n  bosun ps -a --json\n  bosun ps -f 'labels.tier==web,image~=nginx'\n  bosun ps -q | xargs bosun kill\n\nFILTER FIELDS: id, image, runtime.name, snapshotter, snapshotkey, labels.KEY"
)]
pub struct Ps {
    /// Ended ones and those without a task too.
    #[arg(short, long)]
    pub all: bool,
    /// Print names only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
}

/// Change limits.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun update --memory 256m web\n  bosun update --cpus 1.5 --pids-limit 100 web db\n  bosun update --restart on-failure:5 web\n\nA live container feels it at once; the container's spec is changed too, so that its next task has the same limits."
)]
pub struct Update {
    /// Containers.
    #[arg(required = true)]
    pub containers: Vec<String>,
    /// Memory limit, such as 256m or 1g.
    #[arg(short, long)]
    pub memory: Option<String>,
    /// Processors, such as 0.5 or 2.
    #[arg(long)]
    pub cpus: Option<f64>,
    /// Most processes and threads.
    #[arg(long)]
    pub pids_limit: Option<u64>,
    #[command(flatten)]
    pub restart: Restart,
}

/// Show use.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun stats\n  bosun stats --no-stream web\n  bosun --json stats web\n\nWith --json one sample of everything that the cgroup tells is printed: times in nanoseconds of CPU, sizes in bytes."
)]
pub struct Stats {
    /// Containers [default: all that run].
    pub containers: Vec<String>,
    /// One table, then end; the default where the output is no terminal.
    #[arg(long)]
    pub no_stream: bool,
}

/// Send a signal.
#[derive(Args)]
#[command(after_help = "EXAMPLES:\n  bosun kill web\n  bosun kill -s HUP web\n  bosun kill -s 9 --all web")]
pub struct Kill {
    /// Containers.
    #[arg(required = true)]
    pub containers: Vec<String>,
    /// Name, with or without SIG, or number.
    #[arg(short, long, default_value = "TERM")]
    pub signal: String,
    /// Every process of the container.
    #[arg(short, long, conflicts_with = "exec_id")]
    pub all: bool,
    /// One exec.
    #[arg(long)]
    pub exec_id: Option<String>,
}

/// Containers by name.
#[derive(Args)]
pub struct Names {
    /// Containers.
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// Remove containers.
#[derive(Args)]
#[command(after_help = "EXAMPLES:\n  bosun rm web\n  bosun rm -f web worker")]
pub struct Rm {
    /// Containers.
    #[arg(required = true)]
    pub containers: Vec<String>,
    /// Kill first what runs.
    #[arg(short, long)]
    pub force: bool,
    /// Leave the snapshot.
    #[arg(long)]
    pub keep_snapshot: bool,
}

/// Containers, noun first.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun containers\n  bosun containers ls -q -f labels.tier==web\n  bosun containers create --name api registry.local:5000/team/api:1.2\n  bosun containers info web\n  bosun containers info --spec web\n  bosun containers label web tier=front old=\n  bosun containers checkpoint web backup.local/web:before-upgrade\n  bosun containers restore -d --name web2 backup.local/web:before-upgrade\n  bosun containers rm -f web\n\nThe everyday words do the same: ps, create, inspect, checkpoint, restore, rm."
)]
pub struct Containers {
    /// What to do [default: ls].
    #[command(subcommand)]
    pub command: Option<ContainersCommand>,
    /// Print names only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
}

/// What to do with containers.
#[derive(Subcommand)]
pub enum ContainersCommand {
    /// List containers, those without a task too.
    #[command(
        alias = "list",
        after_help = "FILTER FIELDS: id, image, runtime.name, snapshotter, snapshotkey, labels.KEY"
    )]
    Ls {
        /// Print names only.
        #[arg(short, long)]
        quiet: bool,
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// Make a container without starting it.
    Create(Box<Create>),
    /// Show containers' records, specs and tasks as JSON.
    #[command(alias = "inspect")]
    Info {
        /// Containers.
        #[arg(required = true)]
        containers: Vec<String>,
        /// The OCI spec alone.
        #[arg(long)]
        spec: bool,
    },
    /// Set labels; without any they are printed.
    Label {
        /// The container.
        container: String,
        /// KEY=VALUE sets, KEY= removes.
        labels: Vec<String>,
    },
    /// Store a running container as an image, its processes included.
    Checkpoint(Checkpoint),
    /// Make a container from a checkpoint; it goes on where that was made.
    Restore(Box<Restore>),
    /// Remove containers.
    #[command(aliases = ["delete", "del", "remove"])]
    Rm(Rm),
}
