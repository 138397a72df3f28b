//! `bosun-fixture`: makes small images from Debian's busybox and pushes them; for the demo and the bench.

use std::path::PathBuf;

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
    }
}
