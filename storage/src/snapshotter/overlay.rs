//! The overlayfs snapshotter.
//!
//! ```text
//! <n>/fs          0755: the files of this snapshot alone (overlayfs's upper or one of its lower directories)
//! <n>/work        0711: overlayfs's own, for active snapshots
//! ```
//!
//! Layers are differences, so they can be unpacked at the same time, each without its parents.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bosun_types::mount::Mount;
use bosun_types::snapshot::{SNAPSHOTTER_DEFAULT, SnapshotKind, Usage};
use bosun_types::user_namespace::IdMaps;

use super::place::{NEW, Place, make_directory, missing_or, open_layer, set_mode, sync_layer};
use super::{Result, Snapshotter, SnapshotterError, bind, io_error};
use crate::archive::tree;

/// Snapshots as overlayfs directories.
#[derive(Debug)]
pub struct Overlay {
    place: Place,
    /// Option words that every overlay mount gets on this kernel.
    common_options: Vec<String>,
}

impl Overlay {
    /// Opens `root` (such as `/var/lib/bosun/snapshots/overlayfs`), making what is missing; refuses a file system that
    /// does not tell the type of directory entries (SNP-15).
    pub fn open(root: &Path) -> Result<Self> {
        let place = Place::open(root)?;
        check_entry_types(root)?;
        Ok(Self { place, common_options: common_options(Path::new("/sys/module/overlay/parameters")) })
    }

    fn layer_text(&self, directory: u64) -> String {
        self.layer_root(directory).to_string_lossy().into_owned()
    }

    fn overlay(&self, upper: Option<u64>, lower: &[u64]) -> Mount {
        let mut options = self.common_options.clone();
        if let Some(directory) = upper {
            options.push(format!("workdir={}", self.place.path(directory).join("work").display()));
            options.push(format!("upperdir={}", self.layer_text(directory)));
        }
        let lower: Vec<String> = lower.iter().map(|directory| self.layer_text(*directory)).collect();
        options.push(format!("lowerdir={}", lower.join(":")));
        Mount { kind: "overlay".to_owned(), source: "overlay".to_owned(), target: String::new(), options }
    }
}

impl Snapshotter for Overlay {
    fn name(&self) -> &str {
        SNAPSHOTTER_DEFAULT
    }

    fn root(&self) -> &Path {
        self.place.root()
    }

    fn ensure_directory(&self, directory: u64, parents: &[u64], kind: SnapshotKind) -> Result<()> {
        self.place.ensure(directory, |new| {
            let layer = new.join("fs");
            make_directory(&layer, 0o755)?;
            if kind == SnapshotKind::Active {
                make_directory(&new.join("work"), 0o711)?;
            }
            let Some(parent) = parents.first() else { return Ok(()) };
            // SNP-14: overlayfs shows the upper root's owner and mode, so they must be the parent's.
            let parent_root = self.layer_root(*parent);
            let model = fs::metadata(&parent_root).map_err(missing_or("look at", &parent_root, *parent))?;
            std::os::unix::fs::chown(&layer, Some(model.uid()), Some(model.gid()))
                .map_err(io_error("change the owner of", &layer))?;
            set_mode(&layer, model.mode() & 0o7777)
        })
    }

    fn ensure_remapped(&self, directory: u64, from: u64, maps: &IdMaps) -> Result<()> {
        self.place.ensure_remapped(directory, from, maps, |new| make_directory(&new.join("fs"), 0o700))
    }

    fn ensure_no_directory(&self, directory: u64) -> Result<()> {
        self.place.ensure_not(directory)
    }

    fn mounts(&self, directory: u64, parents: &[u64], kind: SnapshotKind) -> Result<Vec<Mount>> {
        let mount = match (kind, parents) {
            // SNP-11.
            (SnapshotKind::Active, []) => bind(&self.layer_root(directory), "rw"),
            (SnapshotKind::View | SnapshotKind::Committed, []) => bind(&self.layer_root(directory), "ro"),
            // SNP-12.
            (SnapshotKind::Active, _) => self.overlay(Some(directory), parents),
            // SNP-13.
            (SnapshotKind::View, [parent]) => bind(&self.layer_root(*parent), "ro"),
            (SnapshotKind::View, _) => self.overlay(None, parents),
            (SnapshotKind::Committed, _) => {
                let all: Vec<u64> = std::iter::once(directory).chain(parents.iter().copied()).collect();
                self.overlay(None, &all)
            }
        };
        Ok(vec![mount])
    }

    fn usage(&self, directory: u64, _: &[u64]) -> Result<Usage> {
        let path = self.layer_root(directory);
        let fd = OwnedFd::from(open_layer(&path, directory)?);
        tree::usage(fd).map_err(|errno| io_error("measure", &path)(errno.into()))
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
        true
    }
}

/// `index=off`: with an index the kernel refuses a lower directory that other mounts have used. `metacopy=off`: a file
/// that is only metadata in the upper directory would be empty when that directory becomes a layer. Each is given only to
/// a kernel that knows the word; the latter only where it is on, to keep the option string short.
fn common_options(parameters: &Path) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(parameters.join(name)).ok();
    let mut options = Vec::new();
    if read("index").is_some() {
        options.push("index=off".to_owned());
    }
    if read("metacopy").is_some_and(|value| value.starts_with('Y')) {
        options.push("metacopy=off".to_owned());
    }
    options
}

/// SNP-15: overlayfs needs to see whiteouts in directory listings.
fn check_entry_types(root: &Path) -> Result<()> {
    let probe = root.join(format!("probe-{}{NEW}", std::process::id()));
    let told = (|| {
        fs::write(&probe, b"")?;
        let mut dir = nix::dir::Dir::open(root, nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty())?;
        let mut told = false;
        for entry in dir.iter() {
            let entry = entry?;
            if entry.file_name().to_bytes() == probe.file_name().unwrap_or_default().as_encoded_bytes() {
                told = entry.file_type().is_some();
            }
        }
        io::Result::Ok(told)
    })();
    let _ = fs::remove_file(&probe);
    if told.map_err(io_error("probe", root))? {
        return Ok(());
    }
    Err(SnapshotterError::Unsupported {
        path: root.to_owned(),
        why: "its file system does not tell the type of directory entries (d_type)",
        hint: "on xfs, format with ftype=1; or use another file system for the root directory",
    })
}

#[cfg(test)]
pub(super) mod tests;
