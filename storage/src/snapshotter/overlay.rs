//! The overlayfs snapshotter.
//!
//! ```text
//! <root>/            0700: set-uid files of images are out of reach of every other user
//! ├─ <n>/fs          0755: the files of this snapshot alone (overlayfs's upper or one of its lower directories)
//! ├─ <n>/work        0711: overlayfs's own, for active snapshots
//! ├─ <n>.new         being made
//! └─ <n>.gone        being removed
//! ```
//!
//! Directories appear and vanish whole, by a rename; what a crash leaves half way has a name of its own. Layers are
//! differences, so they can be unpacked at the same time, each without its parents.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bosun_types::mount::Mount;
use bosun_types::snapshot::{SNAPSHOTTER_DEFAULT, SnapshotKind, Usage};

use super::{Result, Snapshotter, SnapshotterError, io_error};
use crate::archive::path::c_string;
use crate::archive::tree;

/// Suffix of a directory that is being made.
const NEW: &str = ".new";
/// Suffix of a directory that is being removed.
const GONE: &str = ".gone";

/// Snapshots as overlayfs directories.
#[derive(Debug)]
pub struct Overlay {
    root: PathBuf,
    /// Option words that every overlay mount gets on this kernel.
    common_options: Vec<String>,
}

impl Overlay {
    /// Opens `root` (such as `/var/lib/bosun/snapshots/overlayfs`), making what is missing; refuses a file system that
    /// does not tell the type of directory entries (SNP-15).
    pub fn open(root: &Path) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(io_error("create", root))?;
        set_mode(root, 0o700)?;
        check_entry_types(root)?;
        Ok(Self {
            root: root.to_owned(),
            common_options: common_options(Path::new("/sys/module/overlay/parameters")),
        })
    }

    fn path(&self, directory: u64) -> PathBuf {
        self.root.join(directory.to_string())
    }

    fn suffixed(&self, directory: u64, suffix: &str) -> PathBuf {
        self.root.join(format!("{directory}{suffix}"))
    }

    fn layer_text(&self, directory: u64) -> String {
        self.layer_root(directory).to_string_lossy().into_owned()
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.root.join(name);
        let root = File::open(&self.root).map_err(io_error("open", &self.root))?;
        tree::remove(root.as_fd(), &c_string(name.as_bytes()))
            .map_err(|errno| io_error("remove", &path)(errno.into()))
    }

    fn bind(&self, directory: u64, word: &str) -> Mount {
        Mount {
            kind: "bind".to_owned(),
            source: self.layer_text(directory),
            target: String::new(),
            options: vec![word.to_owned(), "rbind".to_owned()],
        }
    }

    fn overlay(&self, upper: Option<u64>, lower: &[u64]) -> Mount {
        let mut options = self.common_options.clone();
        if let Some(directory) = upper {
            options.push(format!("workdir={}", self.path(directory).join("work").display()));
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

    fn ensure_directory(&self, directory: u64, parents: &[u64], kind: SnapshotKind) -> Result<()> {
        let path = self.path(directory);
        if path.exists() {
            return Ok(());
        }
        self.remove(&format!("{directory}{NEW}"))?;
        let new = self.suffixed(directory, NEW);
        make_directory(&new, 0o700)?;
        let layer = new.join("fs");
        make_directory(&layer, 0o755)?;
        if kind == SnapshotKind::Active {
            make_directory(&new.join("work"), 0o711)?;
        }
        if let Some(parent) = parents.first() {
            // SNP-14: overlayfs shows the upper root's owner and mode, so they must be the parent's.
            let model = match fs::metadata(self.layer_root(*parent)) {
                Ok(model) => model,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(SnapshotterError::Missing { directory: *parent });
                }
                Err(error) => return Err(io_error("look at", &self.layer_root(*parent))(error)),
            };
            std::os::unix::fs::chown(&layer, Some(model.uid()), Some(model.gid()))
                .map_err(io_error("change the owner of", &layer))?;
            set_mode(&layer, model.mode() & 0o7777)?;
        }
        fs::rename(&new, &path).map_err(io_error("rename", &new))
    }

    fn ensure_no_directory(&self, directory: u64) -> Result<()> {
        let (path, gone) = (self.path(directory), self.suffixed(directory, GONE));
        self.remove(&format!("{directory}{GONE}"))?;
        match fs::rename(&path, &gone) {
            Ok(()) => self.remove(&format!("{directory}{GONE}"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("rename", &path)(error)),
        }
        self.remove(&format!("{directory}{NEW}"))
    }

    fn mounts(&self, directory: u64, parents: &[u64], kind: SnapshotKind) -> Vec<Mount> {
        let mount = match (kind, parents) {
            // SNP-11.
            (SnapshotKind::Active, []) => self.bind(directory, "rw"),
            (SnapshotKind::View | SnapshotKind::Committed, []) => self.bind(directory, "ro"),
            // SNP-12.
            (SnapshotKind::Active, _) => self.overlay(Some(directory), parents),
            // SNP-13.
            (SnapshotKind::View, [parent]) => self.bind(*parent, "ro"),
            (SnapshotKind::View, _) => self.overlay(None, parents),
            (SnapshotKind::Committed, _) => {
                let all: Vec<u64> = std::iter::once(directory).chain(parents.iter().copied()).collect();
                self.overlay(None, &all)
            }
        };
        vec![mount]
    }

    fn usage(&self, directory: u64) -> Result<Usage> {
        let path = self.layer_root(directory);
        let fd = OwnedFd::from(open_layer(&path, directory)?);
        tree::usage(fd).map_err(|errno| io_error("measure", &path)(errno.into()))
    }

    fn sync(&self, directory: u64) -> Result<()> {
        let path = self.layer_root(directory);
        let layer = open_layer(&path, directory)?;
        // One call for the whole file system: a layer has thousands of files, and fsync of each takes seconds.
        nix::unistd::syncfs(&layer).map_err(|errno| io_error("sync", &path)(errno.into()))
    }

    fn directories(&self) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(io_error("list", &self.root))? {
            let entry = entry.map_err(io_error("list", &self.root))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let number = name.strip_suffix(NEW).or_else(|| name.strip_suffix(GONE)).unwrap_or(name);
            found.extend(number.parse::<u64>().ok());
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn layer_root(&self, directory: u64) -> PathBuf {
        self.path(directory).join("fs")
    }

    fn supports_independent_layers(&self) -> bool {
        true
    }
}

fn open_layer(path: &Path, directory: u64) -> Result<File> {
    File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SnapshotterError::Missing { directory },
        _ => io_error("open", path)(error),
    })
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new().mode(mode).create(path).map_err(io_error("create", path))?;
    // Whatever the umask.
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("change the mode of", path))
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
mod tests;
