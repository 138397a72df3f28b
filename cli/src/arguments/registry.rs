//! The words of what goes to and comes from registries.

use bosun_types::Digest;
use clap::{Args, Subcommand};

/// As whom a registry is asked, and how.
#[derive(Args)]
pub struct RegistryAccess {
    /// User of the registry, NAME:SECRET; with NAME alone the secret is read from standard input
    /// [default: docker's config.json, with its helpers].
    #[arg(short, long, value_name = "NAME[:SECRET]")]
    pub user: Option<String>,
    /// Speak http to the registry; loopback hosts get it without asking.
    #[arg(long)]
    pub plain_http: bool,
}

/// Fetch an image.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun pull registry.local:5000/team/app:1.2\n  bosun pull --platform linux/arm64 registry.local/team/app@sha256:…\n  bosun pull --all-platforms --no-unpack registry.local/team/app:1.2\n\nA reference is <host>/<path>:<tag> or <host>/<path>@<digest>: there is no default host and no default tag.\nAn interrupted pull goes on in the daemon; ask again to follow it, or see `bosun transfers`.\nMirrors and certificates of a registry: /etc/bosun/certs.d/<host>/hosts.toml."
)]
pub struct Pull {
    /// `<host>/<path>:<tag>` or `@<digest>`.
    pub reference: String,
    /// Platform to fetch, such as linux/arm64; repeatable [default: this host's].
    #[arg(long)]
    pub platform: Vec<String>,
    /// Fetch everything that the index names; unpacked is what this host can run.
    #[arg(long, conflicts_with = "platform")]
    pub all_platforms: bool,
    /// Snapshotter to unpack into.
    #[arg(long, env = "BOSUN_SNAPSHOTTER")]
    pub snapshotter: Option<String>,
    /// Fetch only.
    #[arg(long)]
    pub no_unpack: bool,
    /// Make an OCI image of one in docker's old schema 1 form; without this it is refused.
    #[arg(long)]
    pub convert_schema1: bool,
    /// How to reach the registry.
    #[command(flatten)]
    pub access: RegistryAccess,
    /// Label for the image record, KEY=VALUE; repeatable.
    #[arg(short, long)]
    pub label: Vec<String>,
    /// Print only the digest.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Send an image.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun push registry.local:5000/team/app:1.2\n  bosun push registry.local:5000/team/app:1.2 app:built\n  bosun push --platform linux/amd64 registry.local/team/app:1.2\n\nEverything that the image names is sent, unless the registry has it: all of it must be here. Of an index of which only some images are here, \n--platform sends one. An interrupted push goes on in the daemon; see `bosun transfers`."
)]
pub struct Push {
    /// Where to: `<host>/<path>:<tag>`.
    pub reference: String,
    /// Which image [default: the one of the same name].
    pub image: Option<String>,
    /// Only the image for this platform, instead of the whole index.
    #[arg(long)]
    pub platform: Option<String>,
    /// Send layers too whose type says that they may not be given on.
    #[arg(long)]
    pub allow_non_distributable_artifacts: bool,
    /// How to reach the registry.
    #[command(flatten)]
    pub access: RegistryAccess,
    /// Print only the digest.
    #[arg(short, long)]
    pub quiet: bool,
}

/// What to do with transfers.
#[derive(Subcommand)]
#[command(
    after_help = "EXAMPLES:\n  bosun transfers ls\n  bosun transfers follow 7\n  bosun transfers cancel 7"
)]
pub enum TransfersCommand {
    /// List those under way, and those that ended lately.
    #[command(alias = "list")]
    Ls,
    /// Show how one goes, until it ends.
    #[command(after_help = "EXAMPLES:\n  bosun transfers ls\n  bosun transfers follow 7")]
    Follow {
        /// Its number.
        id: u64,
    },
    /// End some. What was fetched stays, and is taken up by the next try.
    Cancel {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<u64>,
    },
}

/// Fetch an image's content.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun content fetch registry.local:5000/team/app:1.2\n  bosun content fetch --all-platforms registry.local:5000/team/app:1.2\n\nThe same as `bosun pull --no-unpack`."
)]
pub struct Fetch {
    /// `<host>/<path>:<tag>` or `@<digest>`.
    pub reference: String,
    /// Platform to fetch, such as linux/arm64; repeatable [default: this host's].
    #[arg(long)]
    pub platform: Vec<String>,
    /// Fetch everything that the index names.
    #[arg(long, conflicts_with = "platform")]
    pub all_platforms: bool,
    /// How to reach the registry.
    #[command(flatten)]
    pub access: RegistryAccess,
    /// Label for the image record, KEY=VALUE; repeatable.
    #[arg(short, long)]
    pub label: Vec<String>,
    /// Print only the digest.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Fetch single objects.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun content fetch-object registry.local:5000/team/app sha256:…\n\nWhat an object names is not fetched. The label containerd.io/gc.root keeps it: take that off when it is not wanted any more."
)]
pub struct FetchObject {
    /// `<host>/<path>`.
    pub reference: String,
    /// Blobs or manifests.
    #[arg(required = true)]
    pub digests: Vec<Digest>,
    /// How to reach the registry.
    #[command(flatten)]
    pub access: RegistryAccess,
}

/// Send one object.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun content push-object registry.local:5000/team/app sha256:…\n  bosun content push-object registry.local:5000/team/app sha256:… application/vnd.oci.image.manifest.v1+json"
)]
pub struct PushObject {
    /// `<host>/<path>`.
    pub reference: String,
    /// Blob or manifest.
    pub digest: Digest,
    /// What it is: a manifest goes another way than a blob [default: a blob].
    pub media_type: Option<String>,
    /// How to reach the registry.
    #[command(flatten)]
    pub access: RegistryAccess,
}
