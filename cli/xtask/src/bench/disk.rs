//! A new file system for one measurement: ext4 with a journal, in a file of this machine's disk, by a loop device that bypasses the page cache of that file.
//!
//! What an earlier sample has written and removed is not to be paid by the next one: an ext4 without a journal skips inodes that were freed in the last seconds,
//! one by one, and a virtual machine's disk often has none. New, both contestants find the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::run;

/// Size of the file system, in bytes: a large image packed and unpacked, twice. The file is sparse.
const BYTES: u64 = 4 << 30;

/// A mounted file system; gone, with its file, when dropped.
pub(super) struct Disk {
    device: String,
    file: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes it and mounts it at the directory, which is made.
    pub(super) fn mount(at: &Path) -> anyhow::Result<Self> {
        let file = at.with_extension("disk");
        std::fs::File::create(&file)
            .and_then(|made| made.set_len(BYTES))
            .with_context(|| format!("cannot make {}", file.display()))?;
        std::fs::create_dir_all(at)?;
        let mut attach = Command::new("losetup");
        let device = run::output(attach.args(["--find", "--show", "--direct-io=on"]).arg(&file))?;
        let device = String::from_utf8(device).context("losetup named no device")?.trim().to_owned();
        let disk = Self { device, file, mount: at.to_owned() };
        // All tables now: what is made lazily would be written while the clock runs.
        let eager = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run::check(Command::new("mkfs.ext4").args(["-q", "-E", eager, &disk.device]))?;
        run::check(Command::new("mount").arg(&disk.device).arg(at))?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mount).status();
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
        let _ = std::fs::remove_file(&self.file);
    }
}
