//! The words of the command line. Every sub-command teaches itself: what it does, its flags, examples.

mod access;
mod archive;
mod checkpoint;
mod content;
mod copy;
mod deferred;
mod events;
mod facts;
mod filter;
mod garbage;
mod groups;
mod lifecycle;
mod process;
mod registry;
mod snapshots;
mod stress;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

pub use self::access::{Audit, SocketCommand};
pub use self::archive::{ArchiveFormat, LoadImages, SaveImages};
pub use self::checkpoint::{Checkpoint, Restore};
pub use self::content::{Content, ContentCommand};
pub use self::copy::{Commit, Copy, Prune};
pub use self::deferred::Deferred;
pub use self::events::{CursorsCommand, Events, EventsCommand};
pub use self::facts::{CheckImages, LabelImage, Parts, UnpackImages};
pub use self::filter::Filter;
pub use self::garbage::{Gc, LeaseEntry, Leases, LeasesCommand, Why};
pub use self::groups::{GroupCreate, Groups, GroupsCommand};
pub use self::lifecycle::{Restart, Start, Stop};
pub use self::process::{Attach, Exec, Logs, Network, OverflowChoice, OwnershipChoice, Run, Security, Users};
pub use self::registry::{Fetch, FetchObject, Pull, Push, PushObject, RegistryAccess, TransfersCommand};
pub use self::snapshots::{New as NewSnapshot, Snapshots, SnapshotsCommand};
pub use self::stress::{Stress, StressCommand};

/// What `bosun help exit-codes` says.
pub const TOPICS: &str = "EXIT CODES
  0    done
  1    the request failed; standard error says why, and what to do
  2    wrong usage
  125  run, restore, exec and attach: bosun failed, not the command in the container
  126  run: the command cannot be started
  127  run: the command is not found
  137  the command was ended by SIGKILL: 128 and the signal's number, as a shell has it
  run, restore, exec and attach end with the command's own code otherwise; `content verify` and `doctor` end with 1 when something is wrong.

FORMATS
  --format table    columns for people, cut to the terminal's width (the default)
  --format json     the same as --json: everything that is known
  --format TEMPLATE a line for each item, in the part of Go's language that people write for docker:
                    {{.field}} {{.a.b}} {{json .}} {{upper .x}} {{lower .x}} {{len .x}} {{join .x \", \"}} {{index .labels \"key\"}}
                    {{range .x}}...{{end}} {{if .x}}...{{else}}...{{end}}
  --format 'table TEMPLATE'  the same as columns with a header; \\t separates them
  Fields are those of --json; upper case and _ make no difference.

COLOURS
  Only on terminals, and not when NO_COLOR is set.";

/// Run and supervise containers with bosund.
#[derive(Parser)]
#[command(
    name = "bosun",
    version,
    propagate_version = true,
    after_help = "EXAMPLES:\n  bosun pull registry.local:5000/library/busybox:latest\n  bosun run --rm registry.local:5000/library/busybox:latest echo hello\n  bosun ps\n  bosun tree\n\nEXIT CODES: 0 success, 1 failure (125 for run, restore and exec), 2 wrong usage; run, restore and exec end with the container's own code: `bosun help exit-codes`."
)]
pub struct Arguments {
    /// Socket of the daemon.
    #[arg(long, global = true, env = "BOSUN_ADDRESS", default_value = "/run/bosun/bosun.sock", value_hint = ValueHint::FilePath)]
    pub address: PathBuf,
    /// Namespace to work in [default: default; through a namespace's own socket: that one].
    #[arg(short, long, global = true, env = "BOSUN_NAMESPACE")]
    pub namespace: Option<String>,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub json: bool,
    /// How to print: json, table, or a template of the fields that --json shows, such as '{{.id}}'. Of `save`: oci or docker.
    #[arg(long, global = true, conflicts_with = "json")]
    pub format: Option<String>,
    /// Lease that holds what is made or found (see `bosun leases`).
    #[arg(long, global = true, env = "BOSUN_LEASE")]
    pub lease: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The everyday words.
#[derive(Subcommand)]
pub enum Command {
    /// Fetch an image from a registry and unpack it.
    Pull(Deferred<Pull>),
    /// Send an image to a registry.
    Push(Deferred<Push>),
    /// Show and end what the daemon fetches and sends.
    #[command(subcommand, alias = "transfer")]
    Transfers(Deferred<TransfersCommand>),
    /// List and manage images.
    #[command(alias = "image")]
    Images(Deferred<Images>),
    /// Read images from an archive: `images import`.
    #[command(alias = "import")]
    Load(Deferred<LoadImages>),
    /// Write images into an archive: `images export`.
    #[command(alias = "export")]
    Save(Deferred<SaveImages>),
    /// Make a container from an image and run it.
    Run(Deferred<Box<Run>>),
    /// Store a running container as an image, its processes included.
    Checkpoint(Deferred<Checkpoint>),
    /// Make a container from a checkpoint; it goes on where that was made.
    Restore(Deferred<Restore>),
    /// List containers.
    Ps(Deferred<Ps>),
    /// Show a container's output.
    Logs(Deferred<Logs>),
    /// Take part in a container that runs: its output, and its input if it was made with --interactive.
    Attach(Deferred<Attach>),
    /// Run a further command in a running container.
    Exec(Deferred<Exec>),
    /// Send a signal to a container.
    Kill(Deferred<Kill>),
    /// Start ended containers again.
    Start(Deferred<Start>),
    /// End containers: by a signal, and after a time by force.
    Stop(Deferred<Stop>),
    /// Stop containers, then start them.
    Restart(Deferred<Stop>),
    /// Freeze every process of containers.
    #[command(after_help = "EXAMPLES:\n  bosun pause web")]
    Pause(Deferred<Names>),
    /// Let frozen containers go on.
    #[command(alias = "unpause", after_help = "EXAMPLES:\n  bosun pause web && bosun resume web")]
    Resume(Deferred<Names>),
    /// Change the limits of containers, also while they run.
    Update(Deferred<Update>),
    /// List the processes of containers.
    #[command(after_help = "EXAMPLES:\n  bosun top web\n  bosun --json top web worker")]
    Top(Deferred<Names>),
    /// Show what containers use.
    Stats(Deferred<Stats>),
    /// Wait until containers end and print their exit codes.
    #[command(
        after_help = "EXAMPLES:\n  bosun wait web\n  bosun wait web worker\n\nA container that has ended already is told at once."
    )]
    Wait(Deferred<Names>),
    /// Remove containers.
    Rm(Deferred<Rm>),
    /// Copy files out of a container or into it.
    #[command(alias = "copy")]
    Cp(Deferred<Copy>),
    /// Store what a container wrote as an image.
    Commit(Deferred<Commit>),
    /// Remove containers that have ended, images that nothing uses, and what only they kept.
    Prune(Deferred<Prune>),
    /// Show a container's record, spec and task as JSON.
    #[command(
        after_help = "EXAMPLES:\n  bosun inspect web\n  bosun inspect web --format '{{.image}} {{.task.pid}}'\n  bosun inspect web worker --format '{{json .labels}}'"
    )]
    Inspect(Deferred<Names>),
    /// Look at and change blobs.
    Content(Deferred<Content>),
    /// Show what happened, and what happens.
    Events(Deferred<Events>),
    /// Show the live supervision tree.
    #[command(
        after_help = "EXAMPLES:\n  bosun tree\n  bosun --json tree\n\nEach line is an actor: its state, how often it was restarted, how many messages wait for it."
    )]
    Tree,
    /// List snapshots; make a layer of one's changes, or fill one from a layer.
    #[command(alias = "snapshot")]
    Snapshots(Deferred<Snapshots>),
    /// Supervise containers together.
    #[command(alias = "groups")]
    Group(Deferred<Groups>),
    /// List and manage namespaces.
    #[command(alias = "namespace", alias = "ns")]
    Namespaces(Deferred<Namespaces>),
    /// List and manage leases: they keep what you work on from garbage collection.
    #[command(alias = "lease")]
    Leases(Deferred<Leases>),
    /// Remove blobs and snapshots that nothing keeps, now.
    Gc(Deferred<Gc>),
    /// Show what keeps a blob or a snapshot.
    Why(Deferred<Why>),
    /// Show operations that are under way or parked.
    Operations(Deferred<Operations>),
    /// Show who did what.
    Audit(Deferred<Audit>),
    /// Ask the daemon about itself.
    #[command(subcommand)]
    Daemon(Deferred<DaemonCommand>),
    /// Examine this host: what will not work, why, and what to do. Needs no daemon.
    Doctor(Deferred<Doctor>),
    /// Ask whether the daemon serves; exit code 0 when it does.
    Health(Deferred<Health>),
    /// List what the daemon is made of: snapshotters, runtimes and the rest, and why one cannot be used.
    #[command(alias = "plugins")]
    Parts(Deferred<Parts>),
    /// Load the daemon: containers per second, and what an idle one costs.
    Stress(Deferred<Stress>),
    /// Show the versions of client and daemon.
    #[command(after_help = "EXAMPLES:\n  bosun version\n  bosun version --format '{{.daemon.version}}'")]
    Version,
    /// What exit codes mean; how lists are formatted.
    #[command(name = "exit-codes", alias = "formats", long_about = TOPICS, after_help = "EXAMPLES:\n  bosun exit-codes\n  bosun ps --format '{{.container}} {{.status}}'\n  bosun images --format 'table {{.name}}\\t{{.created_at}}'\n  bosun inspect web --format '{{json .labels}}'")]
    ExitCodes,
    /// Print a completion script: bash, zsh, fish, elvish or powershell.
    ///
    /// The script asks `bosun` while you type, so that names of containers, images, namespaces and more are completed as they are at that moment.
    #[command(
        after_help = "EXAMPLES:\n  bosun completions bash > bosun.bash\n  bosun completions zsh > _bosun\n  bosun completions fish > bosun.fish"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// Where to.
        directory: PathBuf,
    },
}

/// List and manage images.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun images\n  bosun images -f name~=busybox -f labels.team==web\n  bosun images import app.tar\n  docker save app | bosun images import -\n  bosun images rm registry.local:5000/team/app:1.2\n\nFILTER FIELDS: name, target.digest, target.mediatype, labels.KEY"
)]
pub struct Images {
    /// What to do [default: ls].
    #[command(subcommand)]
    pub command: Option<ImagesCommand>,
    /// Print names only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
}

/// What to do with images.
#[derive(Subcommand)]
pub enum ImagesCommand {
    /// List images.
    #[command(alias = "list")]
    Ls {
        /// Print names only.
        #[arg(short, long)]
        quiet: bool,
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// Read an OCI layout (tar or directory) or a `docker save` tar; `-` reads standard input.
    #[command(alias = "load")]
    Import(LoadImages),
    /// Write images into an archive: an OCI layout (tar or directory), for docker too.
    #[command(alias = "save")]
    Export(SaveImages),
    Check(CheckImages),
    Label(LabelImage),
    Unpack(UnpackImages),
    /// Forget image names. Content that nothing names is collected later.
    #[command(alias = "remove")]
    Rm {
        /// Names.
        #[arg(required = true)]
        names: Vec<String>,
        /// Wait until the content that only they kept is gone.
        #[arg(long)]
        sync: bool,
    },
}

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
    #[arg(long, conflicts_with = "exec_id")]
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

/// List and manage namespaces.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun namespaces\n  bosun namespaces create -l team=web staging\n  bosun -n staging ps\n  bosun namespaces rm staging\n  bosun namespaces socket ls"
)]
pub struct Namespaces {
    /// What to do [default: ls].
    #[command(subcommand)]
    pub command: Option<NamespacesCommand>,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
}

/// What to do with namespaces.
#[derive(Subcommand)]
pub enum NamespacesCommand {
    /// List namespaces.
    #[command(alias = "list", after_help = "FILTER FIELDS: name, labels.KEY")]
    Ls {
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// Make one.
    Create {
        /// Its name.
        name: String,
        /// Label, KEY=VALUE; repeatable.
        #[arg(short, long)]
        label: Vec<String>,
    },
    /// Remove an empty one.
    #[command(alias = "remove")]
    Rm {
        /// Its name.
        name: String,
    },
    /// Make, list and revoke sockets that yield one namespace and nothing else.
    #[command(subcommand)]
    Socket(SocketCommand),
}

/// Show operations.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun operations\n  bosun operations -f state==parked\n  bosun operations retry 12\n  bosun operations forget 12\n\nAn operation that fails at its undoing too is parked: it waits, visible with its cause, for a person."
)]
pub struct Operations {
    /// What to do [default: ls].
    #[command(subcommand)]
    pub command: Option<OperationsCommand>,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
}

/// What to do with operations.
#[derive(Subcommand)]
pub enum OperationsCommand {
    /// List operations that are under way or parked.
    #[command(after_help = "FILTER FIELDS: id, namespace, kind, state")]
    Ls {
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// Try a parked one again.
    Retry {
        /// Its number.
        id: u64,
    },
    /// Close a parked one without doing anything more for it; what it left is removed when bosund starts again.
    Forget {
        /// Its number.
        id: u64,
    },
}

/// Examine the host.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun doctor\n  bosun doctor --quiet\n  bosun doctor --json --root /data/bosun\n\nEXIT CODE: 0 when all that bosun needs is there, warnings included; 1 when something is not."
)]
pub struct Doctor {
    /// bosund's root directory [default: the daemon's, else /var/lib/bosun].
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub root: Option<PathBuf>,
    /// Only what is not as it should be.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Ask for health.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun health\n  bosun health --wait 30 && bosun start web\n\nPrints serving, recovering (it serves; a few things are not known yet) or read-only. EXIT CODE: 0 for the first two."
)]
pub struct Health {
    /// Seconds to wait until it serves.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u32,
}

/// Ask the daemon.
#[derive(Subcommand)]
#[command(
    after_help = "EXAMPLES:\n  bosun daemon status\n  bosun daemon status --format '{{.version}} {{.containers}}'"
)]
pub enum DaemonCommand {
    /// Its version, paths, counts, and whether it recovers.
    Status,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_words_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_behind_the_image_are_the_commands_own() {
        let parsed =
            Arguments::parse_from(["bosun", "run", "--rm", "-it", "r.io/a:1", "sh", "-c", "echo --json"]);
        let Command::Run(Deferred(run)) = parsed.command else { panic!("run") };
        assert!(run.rm && run.interactive && run.tty && !parsed.json);
        assert_eq!(run.command, ["sh", "-c", "echo --json"]);
    }

    #[test]
    fn rst_1_restart_policies_are_flags_of_run_and_update() {
        let parsed = Arguments::parse_from(["bosun", "run", "-d", "--restart", "on-failure:3", "r.io/a:1"]);
        let Command::Run(Deferred(run)) = parsed.command else { panic!("run") };
        assert_eq!(run.restart.restart.map(|when| when.to_string()).as_deref(), Some("on-failure:3"));
        for bad in [
            vec!["bosun", "run", "-d", "--restart", "sometimes", "r.io/a:1"],
            vec!["bosun", "run", "--rm", "--restart", "always", "r.io/a:1"],
            vec!["bosun", "update", "--restart-intensity", "5/1m", "web"],
        ] {
            assert!(Arguments::try_parse_from(bad.clone()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ps_a_is_all() {
        let parsed = Arguments::parse_from(["bosun", "ps", "-aq", "-n", "web"]);
        assert!(matches!(parsed.command, Command::Ps(Deferred(Ps { all: true, quiet: true, .. }))));
        assert_eq!(parsed.namespace.as_deref(), Some("web"));
    }
}
