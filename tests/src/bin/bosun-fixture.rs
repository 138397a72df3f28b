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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Archive { file, reference } => {
            let output = std::fs::File::create(file)?;
            bosun_tests::fixture::busybox_image()?.write_oci_tar(output, Some(&reference))?;
            Ok(())
        }
        Command::Rootfs { directory } => bosun_tests::fixture::write_rootfs(&directory),
    }
}
