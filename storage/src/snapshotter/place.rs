//! The directory that a snapshotter keeps its numbered directories in.
//!
//! ```text
//! <root>/     0700: set-uid files of images are out of reach of every other user
//! ├─ <n>      a snapshot's directory
//! ├─ <n>.new  being made
//! └─ <n>.gone being removed
//! ```
//!
//! Directories appear and vanish whole, by a rename; what a crash leaves half way has a name of its own.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bosun_types::user_namespace::IdMaps;

use super::copy::{self, Owners};
use super::{Result, SnapshotterError, io_error};
use crate::archive::path::c_string;
use crate::archive::tree;

/// Suffix of a directory that is being made.
pub(super) const NEW: &str = ".new";
/// Suffix of a directory that is being removed.
pub(super) const GONE: &str = ".gone";

/// A snapshotter's root.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
}

impl Place {
    /// Makes what is missing.
    pub(super) fn open(root: &Path) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(io_error("create", root))?;
        set_mode(root, 0o700)?;
        Ok(Self { root: root.to_owned() })
    }

    /// One that is there, or for tests of mounts need not be.
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, directory: u64) -> PathBuf {
        self.root.join(directory.to_string())
    }

    pub(super) fn suffixed(&self, directory: u64, suffix: &str) -> PathBuf {
        self.root.join(format!("{directory}{suffix}"))
    }

    /// The root as a descriptor.
    pub(super) fn descriptor(&self) -> Result<File> {
        File::open(&self.root).map_err(io_error("open", &self.root))
    }

    /// Removes a name of the root with everything below it.
    fn remove(&self, name: &str) -> Result<()> {
        let path = self.root.join(name);
        let root = self.descriptor()?;
        tree::remove(root.as_fd(), &c_string(name.as_bytes()))
            .map_err(|errno| io_error("remove", &path)(errno.into()))
    }

    /// Makes a snapshot's directory with what `fill` puts into it, all of it or nothing. One that is there is left as it is.
    pub(super) fn ensure(&self, directory: u64, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.path(directory);
        if path.exists() {
            return Ok(());
        }
        self.remove(&format!("{directory}{NEW}"))?;
        let new = self.suffixed(directory, NEW);
        make_directory(&new, 0o700)?;
        fill(&new)?;
        fs::rename(&new, &path).map_err(io_error("rename", &new))
    }

    /// Copies the files of one snapshot into a new one, with the owners that the maps say.
    /// `make_files` makes `fs` in the new directory.
    pub(super) fn ensure_remapped(
        &self,
        directory: u64,
        from: u64,
        maps: &IdMaps,
        make_files: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let model = self.path(from).join("fs");
        self.ensure(directory, |new| {
            let (files, aside) = (new.join("fs"), new.join("links"));
            make_files(new)?;
            make_directory(&aside, 0o700)?;
            fs::metadata(&model).map_err(missing_or("look at", &model, from))?;
            copy::copy(&model, &files, &aside, Owners::Mapped(maps)).map_err(io_error("copy", &model))?;
            fs::remove_dir(&aside).map_err(io_error("remove", &aside))
        })
    }

    /// The paths that a snapshot's directory may have.
    pub(super) fn forms(&self, directory: u64) -> [PathBuf; 3] {
        [self.path(directory), self.suffixed(directory, NEW), self.suffixed(directory, GONE)]
    }

    /// Removes a snapshot's directory in all its forms.
    pub(super) fn ensure_not(&self, directory: u64) -> Result<()> {
        let (path, gone) = (self.path(directory), self.suffixed(directory, GONE));
        self.remove(&format!("{directory}{GONE}"))?;
        match fs::rename(&path, &gone) {
            Ok(()) => self.remove(&format!("{directory}{GONE}"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("rename", &path)(error)),
        }
        self.remove(&format!("{directory}{NEW}"))
    }

    /// The numbers of all directories, in whatever form.
    pub(super) fn numbers(&self) -> Result<Vec<u64>> {
        let mut found: Vec<u64> = self.names()?.iter().filter_map(|name| number_of(name)).collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// All names in the root.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(io_error("list", &self.root))? {
            let entry = entry.map_err(io_error("list", &self.root))?;
            found.extend(entry.file_name().into_string());
        }
        Ok(found)
    }
}

/// The number of a name such as `7`, `7.new`, `7.gone`, `7.gone.2`; `None` for a stranger.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let (number, suffix) = match name.find('.') {
        Some(dot) => name.split_at(dot),
        None => (name, ""),
    };
    let ours = matches!(suffix, "" | NEW | GONE) || suffix.strip_prefix(GONE)?.starts_with('.');
    if ours { number.parse().ok() } else { None }
}

/// Opens the top of a snapshot's files.
pub(super) fn open_layer(path: &Path, directory: u64) -> Result<File> {
    File::open(path).map_err(missing_or("open", path, directory))
}

/// NotFound is the snapshot's absence; all else is the file system's failure.
pub(super) fn missing_or<'a>(
    doing: &'static str,
    path: &'a Path,
    directory: u64,
) -> impl FnOnce(io::Error) -> SnapshotterError + 'a {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => SnapshotterError::Missing { directory },
        _ => io_error(doing, path)(error),
    }
}

/// Makes a directory with exactly this mode, whatever the umask.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new().mode(mode).create(path).map_err(io_error("create", path))?;
    set_mode(path, mode)
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("change the mode of", path))
}

/// Makes everything below `path` durable.
pub(super) fn sync_layer(path: &Path, directory: u64) -> Result<()> {
    let layer = open_layer(path, directory)?;
    // One call for the whole file system: a layer has thousands of files, and fsync of each takes seconds.
    nix::unistd::syncfs(&layer).map_err(|errno| io_error("sync", path)(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::number_of;

    #[test]
    fn numbers_are_read_from_names_of_our_own_only() {
        let numbers = ["7", "7.new", "7.gone", "7.gone.3", "7.other", "probe-1.new", "", ".gone", "x.gone"];
        let read: Vec<Option<u64>> = numbers.iter().map(|name| number_of(name)).collect();
        assert_eq!(read, [Some(7), Some(7), Some(7), Some(7), None, None, None, None, None]);
    }
}
