//! The words of the command line. Every sub-command teaches itself: what it does, its flags, examples.

mod access;
mod archive;
mod checkpoint;
mod containers;
mod content;
mod copy;
mod create;
mod daemon;
mod deferred;
mod events;
mod facts;
mod filter;
mod garbage;
mod groups;
mod images;
mod lifecycle;
mod namespaces;
mod process;
mod registry;
mod snapshots;
mod stress;
mod tasks;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueHint};

pub use self::access::{Audit, SocketCommand};
pub use self::archive::{ArchiveFormat, LoadImages, SaveImages};
pub use self::checkpoint::{Checkpoint, Restore};
pub use self::containers::{Containers, ContainersCommand, Kill, Names, Ps, Rm, Stats, Update};
pub use self::content::{Content, ContentCommand, PruneContent};
pub use self::copy::{Commit, Copy, Prune};
pub use self::create::{Create, Network, NewContainer, OwnershipChoice, Security, Users};
pub use self::daemon::{DaemonCommand, Doctor, Health, Oci, OciCommand, Operations, OperationsCommand};
pub use self::deferred::Deferred;
pub use self::events::{CursorsCommand, Events, EventsCommand};
pub use self::facts::{CheckImages, LabelImage, Parts, UnpackImages};
pub use self::filter::Filter;
pub use self::garbage::{Gc, LeaseEntry, Leases, LeasesCommand, Why};
pub use self::groups::{GroupCreate, Groups, GroupsCommand};
pub use self::images::{Images, ImagesCommand, MountImage, TagImage, UnmountImage};
pub use self::lifecycle::{Restart, Start, Stop};
pub use self::namespaces::{Namespaces, NamespacesCommand};
pub use self::process::{Attach, Exec, Logs, OverflowChoice, Run, Streams};
pub use self::registry::{Fetch, FetchObject, Pull, Push, PushObject, RegistryAccess, TransfersCommand};
pub use self::snapshots::{New as NewSnapshot, Snapshots, SnapshotsCommand};
pub use self::stress::{Stress, StressCommand};
pub use self::tasks::{StartTask, Tasks, TasksCommand};
pub use crate::format::Format;

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
    pub format: Option<Format>,
    /// Lease that holds what is made or found (see `bosun leases`).
    #[arg(long, global = true, env = "BOSUN_LEASE")]
    pub lease: Option<String>,
    /// How long the whole command may take, such as 30s or 5m; before the word [default: no limit].
    #[arg(long, value_name = "TIME", value_parser = limit)]
    pub timeout: Option<Duration>,
    /// How long to wait for a daemon that is starting; before the word [default: 2s].
    #[arg(long, value_name = "TIME", value_parser = limit)]
    pub connect_timeout: Option<Duration>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A time, and not none.
fn limit(text: &str) -> Result<Duration, String> {
    match crate::context::duration(text) {
        Ok(limit) if limit.is_zero() => Err("use more than nothing".to_owned()),
        Ok(limit) => Ok(limit),
        Err(error) => Err(error.to_string()),
    }
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
    #[command(aliases = ["image", "i"])]
    Images(Deferred<Images>),
    /// Read images from an archive: `images import`.
    #[command(alias = "import")]
    Load(Deferred<LoadImages>),
    /// Write images into an archive: `images export`.
    #[command(alias = "export")]
    Save(Deferred<SaveImages>),
    /// Make a container without starting it.
    Create(Deferred<Box<Create>>),
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
    /// List and manage containers, noun first.
    #[command(aliases = ["container", "c"])]
    Containers(Deferred<Containers>),
    /// List and manage tasks, noun first: what runs of containers.
    #[command(aliases = ["task", "t"])]
    Tasks(Deferred<Tasks>),
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
    /// Print an OCI spec as bosun makes it, to change and give to `create --config`.
    Oci(Deferred<Oci>),
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
        assert!(run.rm && run.streams.interactive && run.container.tty && !parsed.json);
        assert_eq!(run.container.command, ["sh", "-c", "echo --json"]);
    }

    #[test]
    fn rst_1_restart_policies_are_flags_of_run_and_update() {
        let parsed = Arguments::parse_from(["bosun", "run", "-d", "--restart", "on-failure:3", "r.io/a:1"]);
        let Command::Run(Deferred(run)) = parsed.command else { panic!("run") };
        assert_eq!(
            run.container.restart.restart.map(|when| when.to_string()).as_deref(),
            Some("on-failure:3")
        );
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
