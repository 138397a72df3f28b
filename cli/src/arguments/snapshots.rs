//! The words of `bosun snapshots`.

use std::path::PathBuf;

use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use clap::{Args, Subcommand, ValueHint};

/// List and manage snapshots.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun snapshots\n  bosun snapshots tree\n  bosun snapshots usage web\n  bosun snapshots view look sha256:…\n  bosun snapshots mounts /mnt look | sh\n  bosun snapshots diff web\n  bosun snapshots diff web --media-type application/vnd.oci.image.layer.v1.tar -o changes.tar\n  bosun snapshots prepare empty\n  bosun snapshots apply empty sha256:…\n  bosun snapshots commit base empty\n  bosun snapshots info base\n  bosun snapshots label base team=web\n  bosun snapshots rm base"
)]
pub struct Snapshots {
    /// What to do [default: ls].
    #[command(subcommand)]
    pub command: Option<SnapshotsCommand>,
    /// Whose snapshots.
    #[arg(long, global = true, env = "BOSUN_SNAPSHOTTER", default_value = SNAPSHOTTER_DEFAULT)]
    pub snapshotter: String,
}

/// What to do with snapshots.
#[derive(Subcommand)]
pub enum SnapshotsCommand {
    /// List snapshots.
    #[command(alias = "list")]
    Ls,
    /// Make a writable snapshot.
    Prepare(New),
    /// Make a read-only look at a committed snapshot.
    View(New),
    /// Print the commands that mount a writable snapshot or a view.
    Mounts {
        /// Where to mount it.
        target: String,
        /// The snapshot.
        key: String,
    },
    /// Show a snapshot's record as JSON.
    Info {
        /// The snapshot.
        key: String,
    },
    /// Set labels; one without a value is removed. Prints those that there are then.
    Label {
        /// The snapshot.
        key: String,
        /// KEY=VALUE, or KEY= to remove.
        #[arg(required = true)]
        labels: Vec<String>,
    },
    /// Show every snapshot below its parent.
    Tree,
    /// Show what snapshots use on disk, each without its parents. Of a writable one it is measured now.
    Usage {
        /// Their keys [default: all].
        keys: Vec<String>,
        /// In bytes.
        #[arg(short, long)]
        bytes: bool,
    },
    /// Make a writable snapshot immutable under a name.
    Commit {
        /// The name.
        target: String,
        /// The writable snapshot.
        key: String,
        /// Label of what is committed, KEY=VALUE; repeatable.
        #[arg(short, long)]
        label: Vec<String>,
    },
    /// Remove snapshots that have no children.
    #[command(alias = "remove")]
    Rm {
        /// Their keys.
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Make a layer of what a snapshot changed; prints its digest.
    ///
    /// The layer becomes a blob of the content store. Whiteouts stand for what was removed.
    Diff {
        /// The snapshot: of a container that has one of its own, the container's name.
        key: String,
        /// Compare with this snapshot [default: its parent].
        #[arg(long)]
        from: Option<String>,
        /// The layer's media type: OCI, plain or with +gzip or +zstd [default: with +gzip].
        #[arg(long, default_value = "", hide_default_value = true)]
        media_type: String,
        /// Ref of the unfinished write; it is kept if the diff fails.
        #[arg(long = "ref")]
        reference: Option<String>,
        /// Label of the blob, KEY=VALUE; repeatable.
        #[arg(short, long)]
        label: Vec<String>,
        /// Write the layer to this file too; - is standard output.
        #[arg(short, long, value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
    },
    /// Fill a writable snapshot from a layer of the content store, all of it or nothing.
    Apply {
        /// A writable snapshot without changes of its own.
        key: String,
        /// Digest of the layer.
        digest: String,
        /// The layer's media type.
        #[arg(long, default_value = "application/vnd.oci.image.layer.v1.tar")]
        media_type: String,
    },
}

/// A snapshot to make.
#[derive(Args)]
pub struct New {
    /// Its key.
    pub key: String,
    /// The committed snapshot it begins as [default: nothing].
    pub parent: Option<String>,
    /// Label, KEY=VALUE; repeatable.
    #[arg(short, long)]
    pub label: Vec<String>,
    /// Print the commands that mount it there, instead of its key.
    #[arg(short, long, value_name = "DIRECTORY")]
    pub target: Option<String>,
}
