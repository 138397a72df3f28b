//! The btrfs snapshotter (SNP-19): a subvolume for each snapshot, made as a snapshot of its parent's, so a copy costs
//! nothing and shares every block.
//!
//! ```text
//! <n>/fs          a subvolume: all files of this snapshot, those of its parents included
//! ```
//!
//! As with `native` a layer is unpacked onto what is below it, one after the other. Views are read-only subvolumes. The
//! mounts are binds of a subvolume's directory, not mounts of the device by `subvolid`: the same files, without a name of
//! the device that a mount namespace may not have, and with maps of users. Usage is what differs from the parent, found by
//! comparing: quotas, which cost every write on the file system, are neither needed nor turned on.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bosun_types::mount::Mount;
use bosun_types::snapshot::{SnapshotKind, Usage};
use bosun_types::user_namespace::IdMaps;

use super::place::{NEW, Place, missing_or, open_layer, set_mode, sync_layer};
use super::{Result, Snapshotter, SnapshotterError, bind, io_error};
use crate::archive::tree;

mod subvolume;

/// Snapshots as subvolumes.
#[derive(Debug)]
pub struct Btrfs {
    place: Place,
}

impl Btrfs {
    /// Opens `root` (such as `/var/lib/bosun/snapshots/btrfs`), making what is missing; refuses what is not on btrfs.
    pub fn open(root: &Path) -> Result<Self> {
        // Before anything is made: the root may not be there yet.
        let existing = root.ancestors().find(|path| path.exists()).unwrap_or(root);
        if !subvolume::is_btrfs(existing).map_err(io_error("look at", existing))? {
            return Err(SnapshotterError::Unsupported {
                path: root.to_owned(),
                why: "it is not on btrfs",
                hint: "mount a btrfs file system there",
            });
        }
        Ok(Self { place: Place::open(root)? })
    }

    /// A read-only subvolume that a crash left in the making goes as a whole, or not at all.
    fn ensure_no_draft(&self, directory: u64) -> Result<()> {
        let draft = self.place.suffixed(directory, NEW);
        subvolume::ensure_none(&draft).map_err(io_error("remove the subvolume of", &draft))
    }
}

impl Snapshotter for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn root(&self) -> &Path {
        self.place.root()
    }

    fn ensure_directory(&self, directory: u64, parents: &[u64], kind: SnapshotKind) -> Result<()> {
        self.ensure_no_draft(directory)?;
        self.place.ensure(directory, |new| {
            let Some(parent) = parents.first() else {
                let files = new.join("fs");
                subvolume::create(new).map_err(io_error("make a subvolume", &files))?;
                return set_mode(&files, 0o755);
            };
            let model = self.layer_root(*parent);
            let model_fd = open_layer(&model, *parent)?;
            subvolume::snapshot(new, &model_fd, kind == SnapshotKind::View)
                .map_err(missing_or("snapshot", &model, *parent))
        })
    }

    fn ensure_remapped(&self, directory: u64, from: u64, maps: &IdMaps) -> Result<()> {
        self.ensure_no_draft(directory)?;
        self.place.ensure_remapped(directory, from, maps, |new| {
            let files = new.join("fs");
            subvolume::create(new).map_err(io_error("make a subvolume", &files))
        })
    }

    fn ensure_no_directory(&self, directory: u64) -> Result<()> {
        for path in self.place.forms(directory) {
            subvolume::ensure_none(&path).map_err(io_error("remove the subvolume of", &path))?;
        }
        self.place.ensure_not(directory)
    }

    fn mounts(&self, directory: u64, _: &[u64], kind: SnapshotKind) -> Result<Vec<Mount>> {
        let word = if kind == SnapshotKind::Active { "rw" } else { "ro" };
        Ok(vec![bind(&self.layer_root(directory), word)])
    }

    /// What it does not share with its parent.
    fn usage(&self, directory: u64, parents: &[u64]) -> Result<Usage> {
        let path = self.layer_root(directory);
        let layer = OwnedFd::from(open_layer(&path, directory)?);
        let below = match parents.first() {
            Some(parent) => Some(OwnedFd::from(open_layer(&self.layer_root(*parent), *parent)?)),
            None => None,
        };
        tree::usage_above(layer, below).map_err(|errno| io_error("measure", &path)(errno.into()))
    }

    fn sync(&self, directory: u64) -> Result<()> {
        sync_layer(&self.layer_root(directory), directory)
    }

    fn directories(&self) -> Result<Vec<u64>> {
        self.place.numbers()
    }

    fn layer_root(&self, directory: u64) -> PathBuf {
        self.place.path(directory).join("fs")
    }

    fn supports_independent_layers(&self) -> bool {
        false
    }
}

#[cfg(test)]
pub(super) mod tests;
