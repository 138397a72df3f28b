//! The words of `bosun images`.

use clap::{Args, Subcommand};

use super::{CheckImages, Filter, LabelImage, LoadImages, Pull, Push, SaveImages, UnpackImages};

/// List and manage images.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun images\n  bosun images -f name~=busybox -f labels.team==web\n  bosun images import app.tar\n  docker save app | bosun images import -\n  bosun images pull registry.local:5000/team/app:1.2\n  bosun images push registry.local:5000/team/app:1.2\n  bosun images rm registry.local:5000/team/app:1.2\n\nFILTER FIELDS: name, target.digest, target.mediatype, labels.KEY"
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
    /// Fetch an image from a registry and unpack it.
    Pull(Pull),
    /// Send an image to a registry.
    Push(Push),
    Tag(TagImage),
    Mount(MountImage),
    Unmount(UnmountImage),
    Check(CheckImages),
    Label(LabelImage),
    Unpack(UnpackImages),
    /// Forget image names. Content that nothing names is collected later.
    #[command(aliases = ["remove", "delete", "del"])]
    Rm {
        /// Names.
        #[arg(required = true)]
        names: Vec<String>,
        /// Wait until the content that only they kept is gone.
        #[arg(long)]
        sync: bool,
    },
}

/// Give an image further names.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun images tag registry.local:5000/team/app:1.2 registry.local:5000/team/app:latest\n  bosun images tag --force registry.local:5000/team/app:1.2 app:stable app:today"
)]
pub struct TagImage {
    /// The image.
    pub source: String,
    /// Names.
    #[arg(required = true)]
    pub targets: Vec<String>,
    /// Let a name that is taken point here.
    #[arg(short, long)]
    pub force: bool,
}

/// Mount an image's files on a directory of this host; needs root.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  mkdir -p look && bosun images mount registry.local:5000/team/app:1.2 look && ls look && bosun images unmount --rm look\n\nThe mount is made here, not in the daemon: it is as any other, and gone after a reboot. What it stands on is a snapshot whose key is the directory's\npath; it stays until `bosun images unmount --rm`."
)]
pub struct MountImage {
    /// The image.
    pub image: String,
    /// An existing directory.
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub target: std::path::PathBuf,
    /// Writable, in a layer of its own.
    #[arg(long)]
    pub rw: bool,
    /// Whose snapshots.
    #[arg(long, env = "BOSUN_SNAPSHOTTER", default_value = bosun_types::snapshot::SNAPSHOTTER_DEFAULT)]
    pub snapshotter: String,
}

/// Undo `bosun images mount`.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  mkdir -p tree && bosun images mount --rw registry.local:5000/team/app:1.2 tree && bosun images unmount --rm tree"
)]
pub struct UnmountImage {
    /// The directory.
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub target: std::path::PathBuf,
    /// Remove its snapshot too, with what was written.
    #[arg(long)]
    pub rm: bool,
    /// Whose snapshots.
    #[arg(long, env = "BOSUN_SNAPSHOTTER", default_value = bosun_types::snapshot::SNAPSHOTTER_DEFAULT)]
    pub snapshotter: String,
}
