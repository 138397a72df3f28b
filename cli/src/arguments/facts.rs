//! Words about what there is: an image's facts, the daemon's parts.

use bosun_types::platform::Platform;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use clap::Args;

use super::Filter;

/// Show what an image is and what of it is here.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun images check\n  bosun images check registry.local:5000/team/app:1.2 --platform linux/arm64\n  bosun --json images check registry.local:5000/team/app:1.2\n\nSTATUS: complete, incomplete (something it needs is not here), unavailable (its manifest is not here), none (nothing for the platform)."
)]
pub struct CheckImages {
    /// Which [default: all].
    pub names: Vec<String>,
    /// Print only the names of those that are complete and unpacked.
    #[arg(short, long)]
    pub quiet: bool,
    /// For this platform: OS/ARCHITECTURE[/VARIANT] [default: the host's].
    #[arg(long, value_parser = Platform::parse)]
    pub platform: Option<Platform>,
    /// Whether it is unpacked there.
    #[arg(long, env = "BOSUN_SNAPSHOTTER", default_value = SNAPSHOTTER_DEFAULT)]
    pub snapshotter: String,
}

/// Set labels of an image; without any they are printed.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun images label registry.local:5000/team/app:1.2 tier=base keep=\n  bosun images label registry.local:5000/team/app:1.2"
)]
pub struct LabelImage {
    /// Which.
    pub image: String,
    /// KEY=VALUE sets, KEY= removes.
    pub labels: Vec<String>,
    /// These, and no others any more.
    #[arg(short, long)]
    pub replace_all: bool,
}

/// Make snapshots of images' layers, those that are not yet; containers do it by themselves.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun images unpack registry.local:5000/team/app:1.2 --snapshotter native"
)]
pub struct UnpackImages {
    /// Which.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Where.
    #[arg(long, env = "BOSUN_SNAPSHOTTER", default_value = SNAPSHOTTER_DEFAULT)]
    pub snapshotter: String,
}

/// List what the daemon is made of: snapshotters, runtimes and the rest, and why one cannot be used.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun parts\n  bosun parts --filter type==snapshotter\n  bosun --json parts --filter id==runc"
)]
pub struct Parts {
    /// Which: fields type, id.
    #[command(flatten)]
    pub filter: Filter,
}
