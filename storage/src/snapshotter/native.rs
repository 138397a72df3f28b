//! The native snapshotter: directories and copies, for every file system (SNP-18).
//!
//! ```text
//! <n>/fs          all files of this snapshot, those of its parents included; empty for a view, which shows its parent
//! ```
//!
//! Where the file system can share blocks between files (btrfs, xfs), a copy costs names only. A layer is unpacked onto a
//! copy of its parent, so one after the other.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bosun_types::mount::Mount;
use bosun_types::snapshot::{SnapshotKind, Usage};
use bosun_types::user_namespace::IdMaps;

use super::copy::{self, Owners};
use super::place::{Place, make_directory, missing_or, open_layer, sync_layer};
use super::{Result, Snapshotter, bind, io_error};
use crate::archive::tree;

/// Snapshots as plain directories.
#[derive(Debug)]
pub struct Native {
    place: Place,
}

impl Native {
    /// Opens `root` (such as `/var/lib/bosun/snapshots/native`), making what is missing.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self { place: Place::open(root)? })
    }
}

impl Snapshotter for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn root(&self) -> &Path {
        self.place.root()
    }

    fn ensure_directory(&self, directory: u64, parents: &[u64], kind: SnapshotKind) -> Result<()> {
        self.place.ensure(directory, |new| {
            let (files, aside) = (new.join("fs"), new.join("links"));
            make_directory(&files, 0o755)?;
            let Some(parent) = parents.first() else { return Ok(()) };
            let model = self.layer_root(*parent);
            fs::metadata(&model).map_err(missing_or("look at", &model, *parent))?;
            if kind == SnapshotKind::View {
                return Ok(());
            }
            make_directory(&aside, 0o700)?;
            copy::copy(&model, &files, &aside, Owners::Same).map_err(io_error("copy", &model))?;
            fs::remove_dir(&aside).map_err(io_error("remove", &aside))
        })
    }

    fn ensure_remapped(&self, directory: u64, from: u64, maps: &IdMaps) -> Result<()> {
        self.place.ensure_remapped(directory, from, maps, |new| make_directory(&new.join("fs"), 0o700))
    }

    fn ensure_no_directory(&self, directory: u64) -> Result<()> {
        self.place.ensure_not(directory)
    }

    fn mounts(&self, directory: u64, parents: &[u64], kind: SnapshotKind) -> Result<Vec<Mount>> {
        let mount = match (kind, parents.first()) {
            (SnapshotKind::Active, _) => bind(&self.layer_root(directory), "rw"),
            (SnapshotKind::View, Some(parent)) => bind(&self.layer_root(*parent), "ro"),
            (SnapshotKind::View, None) | (SnapshotKind::Committed, _) => {
                bind(&self.layer_root(directory), "ro")
            }
        };
        Ok(vec![mount])
    }

    /// The copy is the snapshot's own, so all of it counts, also what was the parent's.
    fn usage(&self, directory: u64, _: &[u64]) -> Result<Usage> {
        let path = self.layer_root(directory);
        let layer = OwnedFd::from(open_layer(&path, directory)?);
        tree::usage(layer).map_err(|errno| io_error("measure", &path)(errno.into()))
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
