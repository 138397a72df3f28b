//! The words of `bosun content`.

use std::path::PathBuf;

use bosun_types::Digest;
use clap::{Args, Subcommand, ValueHint};

use super::{Fetch, FetchObject, Filter, PushObject};

/// Look at and change blobs.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun content ls -f 'labels.\"containerd.io/uncompressed\"'\n  bosun content get sha256:… > layer.tar.gz\n  bosun content ingest --expected-digest sha256:… layer-1 layer.tar.gz\n  bosun content label sha256:… keep=yes\n  EDITOR=vi bosun content edit sha256:…\n  bosun content active\n  bosun content abort layer-2\n  bosun content verify\n  bosun content repair\n  bosun content rm sha256:…"
)]
pub struct Content {
    /// What to do.
    #[command(subcommand)]
    pub command: ContentCommand,
}

/// What to do with blobs.
#[derive(Subcommand)]
pub enum ContentCommand {
    /// Fetch an image's content from a registry, without unpacking it.
    Fetch(Fetch),
    /// Fetch single blobs or manifests from a registry.
    FetchObject(FetchObject),
    /// Send a single blob or manifest to a registry.
    PushObject(PushObject),
    /// List blobs.
    #[command(alias = "list", after_help = "FILTER FIELDS: digest, labels.KEY")]
    Ls {
        /// Print digests only.
        #[arg(short, long)]
        quiet: bool,
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// List unfinished writes.
    #[command(after_help = "FILTER FIELDS: ref")]
    Active {
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// Compare blobs with their digests, and images' layers with their blobs; ends with 1 when something is damaged.
    Verify {
        /// Only these blobs [default: all blobs, and every image's layers].
        digests: Vec<Digest>,
    },
    /// The same, and mend what is damaged: blobs are fetched again from where they came from, files of layers replaced one by one, also under running
    /// containers.
    Repair {
        /// Only these blobs [default: all blobs, and every image's layers].
        digests: Vec<Digest>,
    },
    /// Write a blob's bytes to standard output.
    Get {
        /// Which.
        digest: Digest,
        /// First byte.
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Most bytes; 0: to the end.
        #[arg(long, default_value_t = 0)]
        size: u64,
    },
    /// Store a file, or standard input, as a blob and print its digest. A reference that was begun before goes on where it was.
    Ingest {
        /// Name of this write, while it is not finished.
        reference: String,
        /// The file [default: standard input].
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// Refuse any other size, in bytes.
        #[arg(long, default_value_t = 0)]
        expected_size: u64,
        /// Refuse any other digest.
        #[arg(long)]
        expected_digest: Option<Digest>,
        /// Label, KEY=VALUE; repeatable.
        #[arg(short, long)]
        label: Vec<String>,
    },
    /// Edit a small blob as text; the result is a new blob with the same labels, whose digest is printed.
    Edit {
        /// Which.
        digest: Digest,
        /// The editor.
        #[arg(long, env = "EDITOR", default_value = "vi")]
        editor: String,
    },
    /// Set labels: KEY=VALUE sets, KEY= removes; without any the labels are printed.
    Label {
        /// Which.
        digest: Digest,
        /// Labels.
        labels: Vec<String>,
    },
    /// Remove blobs from this namespace. What an image still needs is missed later.
    #[command(aliases = ["delete", "del", "remove"])]
    Rm {
        /// Which.
        #[arg(required = true)]
        digests: Vec<Digest>,
    },
    /// Let go of layers' blobs that are unpacked: their files stay, and the space of the blobs is free.
    Prune(PruneContent),
    /// Forget an unfinished write.
    Abort {
        /// Its reference.
        reference: String,
    },
}

/// Let go of what is there twice.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun content prune --dry-run\n  bosun content prune\n\nContainers run as before. `bosun push`, `save` and `content repair` of such an image need the blobs again: `bosun pull` fetches them. A blob that an image\nwhich is not unpacked refers to stays."
)]
pub struct PruneContent {
    /// Only say which.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait for the collection: they go with the next.
    #[arg(long = "async")]
    pub not_now: bool,
    /// Where images are unpacked.
    #[arg(long, env = "BOSUN_SNAPSHOTTER", default_value = bosun_types::snapshot::SNAPSHOTTER_DEFAULT)]
    pub snapshotter: String,
}
