//! A btrfs of a test's own, in a file.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of the file, which is sparse; mkfs.btrfs wants more than 109 MiB.
const BYTES: u64 = 1 << 30;

/// A mounted btrfs. When it is dropped, also by a panic, the mount goes; the loop device goes with its last mount.
pub struct Disk {
    target: PathBuf,
}

impl Disk {
    /// Makes it in `file` and mounts it on `target`, making what is missing.
    pub fn mount(file: &Path, target: &Path) -> Self {
        std::fs::create_dir_all(target).expect("a directory");
        std::fs::File::create(file).and_then(|file| file.set_len(BYTES)).expect("a sparse file");
        let done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        let made = done(Command::new("mkfs.btrfs").arg("-q").arg(file));
        assert!(made, "mkfs.btrfs failed: btrfs-progs is installed by `cargo xtask test`");
        let mounted = done(Command::new("mount").args(["-t", "btrfs", "-o", "loop"]).arg(file).arg(target));
        assert!(mounted, "a loop device with btrfs cannot be mounted");
        Self { target: target.to_owned() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let flags = nix::mount::MntFlags::MNT_DETACH;
        if let Err(error) = nix::mount::umount2(&self.target, flags) {
            eprintln!("{} stays mounted: {error}", self.target.display());
        }
    }
}
