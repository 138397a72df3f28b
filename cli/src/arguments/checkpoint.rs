//! Words about checkpoints.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{NewContainer, Run, Streams};
use crate::detach_keys::DetachKeys;

/// Store a running container as an image.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun checkpoint web\n  bosun checkpoint web backup.local/web:before-upgrade\n  bosun checkpoint --exit web backup.local/web:moved && bosun rm web\n  bosun restore --name web2 backup.local/web:moved\n\nIts processes are stored with their memory and open files, by CRIU, which must be installed; what it has written to its root file\nsystem is stored beside them. It is frozen meanwhile and goes on as it was, also when the checkpoint fails."
)]
pub struct Checkpoint {
    /// The container.
    pub container: String,
    /// Name of the image [default: containerd.io/checkpoint/CONTAINER:MM-DD-YYYY-HH:MM:SS].
    pub image: Option<String>,
    /// End the container once the image is there.
    #[arg(long)]
    pub exit: bool,
    /// Store established TCP connections too; else they are a reason to fail.
    #[arg(long)]
    pub open_tcp: bool,
    /// Store unix sockets whose other end is outside of the container.
    #[arg(long)]
    pub external_unix_sockets: bool,
    /// Store a terminal that it shares with its outside. One of its own (-t) needs no word.
    #[arg(long)]
    pub terminal: bool,
    /// Store file locks.
    #[arg(long)]
    pub file_locks: bool,
    /// Leave a Linux namespace empty; only `network`; repeatable.
    #[arg(long, value_name = "NAMESPACE")]
    pub empty_ns: Vec<String>,
    /// What CRIU keeps of cgroups: ignore, none, props, soft, full or strict [default: ignore].
    #[arg(long, value_name = "MODE")]
    pub cgroups_mode: Option<String>,
}

/// Make a container from a checkpoint; it goes on where that was made.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun restore -d --name web2 backup.local/web:moved\n  bosun restore --rm -it containerd.io/checkpoint/shell:11-27-2026-10:30:00\n\nThe same as `bosun run --checkpoint IMAGE`. A container that had a terminal of its own needs -t here too.\n\nEXIT CODE: the container's; 125 when bosun failed."
)]
pub struct Restore {
    /// Image that `bosun checkpoint` made.
    pub image: String,
    /// Name of the container [default: two words and a number].
    #[arg(long)]
    pub name: Option<String>,
    /// Remove the container when it ends.
    #[arg(long, conflicts_with = "detach")]
    pub rm: bool,
    /// Print the name and return at once; output goes to the log.
    #[arg(short, long)]
    pub detach: bool,
    /// With -it: keys that leave it as it is; empty: none.
    #[arg(long, default_value = crate::detach_keys::DEFAULT)]
    pub detach_keys: DetachKeys,
    /// Take its terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// Pass our standard input on.
    #[arg(short, long)]
    pub interactive: bool,
    /// Label, KEY=VALUE; repeatable.
    #[arg(short, long)]
    pub label: Vec<String>,
    /// Snapshotter.
    #[arg(long, env = "BOSUN_SNAPSHOTTER")]
    pub snapshotter: Option<String>,
    /// Write the container's pid to this file.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub pid_file: Option<PathBuf>,
    /// No log file.
    #[arg(long)]
    pub no_log: bool,
}

impl From<Restore> for Run {
    fn from(words: Restore) -> Self {
        Self {
            checkpoint: true,
            rm: words.rm,
            detach: words.detach,
            container: NewContainer {
                image: words.image,
                name: words.name,
                tty: words.tty,
                label: words.label,
                snapshotter: words.snapshotter,
                runtime: bosun_types::container::RUNTIME_EMBEDDED.to_owned(),
                ..NewContainer::default()
            },
            streams: Streams {
                detach_keys: words.detach_keys,
                interactive: words.interactive,
                pid_file: words.pid_file,
                no_log: words.no_log,
                ..Streams::default()
            },
        }
    }
}
