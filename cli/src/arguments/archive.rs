//! The words for image archives: `bosun images import` and `load`, `bosun images export` and `save`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

/// Read an archive.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun load app.tar.gz\n  docker save app | bosun load -\n  bosun load --all-platforms --no-unpack layout/\n  bosun load --base-name r.local/team/app archive.tar\n\nAn image whose archive gives only a tag is called BASE:TAG, one without any name BASE@DIGEST."
)]
pub struct LoadImages {
    /// File, directory, or `-` for standard input.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub source: PathBuf,
    /// Base name for images whose archive gives only a tag, or nothing.
    #[arg(long)]
    pub base_name: Option<String>,
    /// Call each image by its digest too: NAME@DIGEST.
    #[arg(long)]
    pub digests: bool,
    /// Platform to take of an index [default: this host's].
    #[arg(long, conflicts_with = "all_platforms")]
    pub platform: Option<String>,
    /// Keep what the archive holds of every platform; unpacked is what this host can run.
    #[arg(long)]
    pub all_platforms: bool,
    /// Snapshotter to unpack into.
    #[arg(long, env = "BOSUN_SNAPSHOTTER")]
    pub snapshotter: Option<String>,
    /// Do not unpack.
    #[arg(long)]
    pub no_unpack: bool,
}

/// Write an archive.
#[derive(Args)]
#[command(
    after_help = "EXAMPLES:\n  bosun save -o app.tar r.local/team/app:1.2\n  bosun save r.local/team/app:1.2 | ssh host bosun load -\n  bosun save --format docker r.local/team/app:1.2 | docker load\n  bosun save --all-platforms -o layout/ r.local/a:1 r.local/b:2\n\nThe archive is an OCI layout; with --format docker it has a manifest.json for docker too."
)]
pub struct SaveImages {
    /// Images.
    #[arg(required = true)]
    pub images: Vec<String>,
    /// File to write; a directory (a path that ends in /) becomes an OCI layout; `-` is standard output.
    #[arg(short, long, default_value = "-", value_hint = ValueHint::AnyPath)]
    pub output: PathBuf,
    /// Platform to write of an index; repeatable [default: this host's].
    #[arg(long, conflicts_with = "all_platforms")]
    pub platform: Vec<String>,
    /// Everything that an index names and that is here.
    #[arg(long)]
    pub all_platforms: bool,
    /// Leave out layers whose type says that they may not be given on.
    #[arg(long)]
    pub skip_non_distributable: bool,
    /// Print nothing but digests.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Whose archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum ArchiveFormat {
    /// An OCI layout.
    #[default]
    Oci,
    /// That, and what `docker load` reads.
    Docker,
}
