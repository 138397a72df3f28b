//! `bosun-fixture`: makes small images from Debian's busybox and pushes them; for the demo and the bench.

use std::path::PathBuf;

use bosun_storage::compression::Compression;
use clap::{Parser, Subcommand};

/// Makes and pushes small images.
#[derive(Parser)]
#[command(name = "bosun-fixture")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write busybox as an OCI layout tar.
    Archive {
        /// File to write.
        file: PathBuf,
        /// Full name of the image inside.
        #[arg(long)]
        reference: String,
    },
    /// Write busybox's root file system as a directory.
    Rootfs {
        /// Directory to fill.
        directory: PathBuf,
    },
    /// Push busybox with a few layers of data to a registry.
    Push {
        /// `<host>/<path>:<tag>`.
        reference: String,
        /// Layers of data beside busybox's own.
        #[arg(long, default_value_t = 4)]
        layers: usize,
        /// Megabytes of each.
        #[arg(long, default_value_t = 4)]
        megabytes: usize,
    },
    /// Push an image of this machine's own files, once with gzip and once with zstd: `<reference>-gzip`, `<reference>-zstd`.
    Big {
        /// `<host>/<path>:<tag>`; the tag gets its ending.
        reference: String,
        /// Layers.
        #[arg(long, default_value_t = 8)]
        layers: u64,
        /// Megabytes of files in all.
        #[arg(long, default_value_t = 400)]
        megabytes: u64,
        /// The first layer has nine tenths of it.
        #[arg(long)]
        dominant: bool,
    },
}

/// Bytes of each layer.
fn sizes(layers: u64, megabytes: u64, dominant: bool) -> Vec<u64> {
    let all = megabytes << 20;
    if !dominant || layers < 2 {
        return (0..layers).map(|_| all / layers.max(1)).collect();
    }
    let small = all / 10 / (layers - 1);
    std::iter::once(all - small * (layers - 1)).chain((1..layers).map(|_| small)).collect()
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Archive { file, reference } => {
            let output = std::fs::File::create(file)?;
            bosun_tests::fixture::busybox_image()?.write_oci_tar(output, Some(&reference))?;
            Ok(())
        }
        Command::Rootfs { directory } => bosun_tests::fixture::write_rootfs(&directory),
        Command::Push { reference, layers, megabytes } => {
            let image = bosun_tests::fixture::layered_image(layers, megabytes << 20)?;
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(bosun_tests::fixture::push(&image, &reference.parse()?))
        }
        Command::Big { reference, layers, megabytes, dominant } => {
            let kinds = [Compression::Gzip, Compression::Zstd];
            let images = bosun_tests::real_files::images(&sizes(layers, megabytes, dominant), &kinds)?;
            let runtime = tokio::runtime::Runtime::new()?;
            for (image, kind) in images.iter().zip(["gzip", "zstd"]) {
                let reference = format!("{reference}-{kind}").parse()?;
                runtime.block_on(bosun_tests::fixture::push(image, &reference))?;
            }
            Ok(())
        }
    }
}
