//! The words of `bosun cp`, `commit` and `prune`.

use clap::{Args, ValueHint};

/// Copy files.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun cp web:/etc/hostname .\n  bosun cp ./site web:/srv\n  bosun cp ./site/. web:/srv\n  bosun cp web:/srv - | tar -t\n  tar -c site | bosun cp - web:/srv\n\nThe container may run or not. Of one that runs you see what its processes see; of another its root file system, without volumes.\nA directory that exists takes the source under its own name; with /. at the end of the source, only what it holds.\nWhat comes in belongs to the container's root, what comes out to you, unless --archive keeps the owners."
)]
pub struct Copy {
    /// CONTAINER:PATH, PATH, or - for a tar stream.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub source: String,
    /// PATH, CONTAINER:PATH, or - for a tar stream.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub destination: String,
    /// Keep owners: as numbers, inside the container.
    #[arg(short, long)]
    pub archive: bool,
    /// Copy what a symbolic link leads to, if SOURCE is one.
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Do not say what was copied.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Store a container as an image.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun commit web registry.local:5000/team/web:patched\n  bosun commit -m 'new certificates' --author me web registry.local:5000/team/web:certs\n  bosun commit -c 'CMD [\"/bin/serve\", \"--fast\"]' -c 'ENV MODE=fast' web registry.local:5000/team/web:fast\n\nWhat the container wrote to its root file system becomes a layer above its image's. Volumes are not in it, nor memory (`bosun checkpoint` stores\nthat). The image's config is its image's, with the changes given here. With --pause it is frozen meanwhile: else a file that is written at that\nmoment may be half old and half new.\n\nCHANGES: CMD, ENTRYPOINT (JSON array or words), ENV KEY=VALUE, LABEL KEY=VALUE, USER, WORKDIR, EXPOSE PORT, VOLUME PATH, STOPSIGNAL"
)]
pub struct Commit {
    /// The container.
    pub container: String,
    /// Name of the image.
    pub image: String,
    /// What was done; it goes into the image's history.
    #[arg(short, long)]
    pub message: Option<String>,
    /// Who did it.
    #[arg(short, long)]
    pub author: Option<String>,
    /// A change of the image's config, as in a Dockerfile; repeatable.
    #[arg(short, long, value_name = "CHANGE")]
    pub change: Vec<String>,
    /// Freeze the container while its files are read.
    #[arg(short, long)]
    pub pause: bool,
    /// Let the name point here if there is an image of that name.
    #[arg(short, long)]
    pub force: bool,
}

/// Remove what is not used.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun prune --dry-run\n  bosun prune --force\n  bosun prune --containers --force\n  bosun prune --images --dry-run\n\nContainers that have ended, or have no task, unless their restart policy will start them again; images that no container is made from; then blobs\nand snapshots that nothing keeps any more. Without --force it asks first."
)]
pub struct Prune {
    /// Only containers.
    #[arg(long, conflicts_with = "images")]
    pub containers: bool,
    /// Only images.
    #[arg(long)]
    pub images: bool,
    /// Only say what would go, and how much.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub force: bool,
}
