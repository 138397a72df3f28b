//! Scrub: a layer's directory against a fresh unpack of its blob, and its mending.
//!
//! No list of digests is kept beside a layer: the blob is the truth, and it is verified itself. Times of directories are not compared: those that
//! an archive only implies have the time of their unpacking.
//!
//! A file is mended by renaming the fresh one over it: whoever opens it finds the old one or the new one, and a container that runs on the layer
//! keeps its mount. Repeated after a crash, it does what is left.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bosun_types::ErrorClass;
use bosun_types::error::{chain, class_of_io};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat, linkat};

use crate::archive::path::{c_string, shown};
use crate::archive::reader::{Kind, TarReader};
use crate::archive::root::{Root, file_type, open_child_directory};
use crate::archive::whiteout::PREFIX;
use crate::archive::{ArchiveError, Limits, tree};
use crate::compare::{self, CompareError, Source};
use crate::compression::Compression;
use crate::snapshotter::copy_one;

/// What scrubbing fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrubError {
    /// The trees could not be compared.
    #[error("compare with the layer")]
    Compare {
        /// Why.
        source: CompareError,
    },
    /// The comparison could not be read back.
    #[error("read the differences")]
    Read {
        /// Why.
        source: ArchiveError,
    },
    /// The file system failed.
    #[error("{doing} {path:?}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Path below the root, shortened.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl From<ScrubError> for bosun_types::Error {
    fn from(error: ScrubError) -> Self {
        let class: ErrorClass = match &error {
            ScrubError::Compare { source } => source.class(),
            ScrubError::Read { source } => source.class(),
            ScrubError::Io { source, .. } => class_of_io(source),
        };
        Self::new(class, chain(&error))
    }
}

/// Short form.
pub type Result<T, E = ScrubError> = std::result::Result<T, E>;

/// How a name of the directory is not as the layer has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It is there and not in the layer.
    Extra,
    /// It is in the layer and not there.
    Missing,
    /// A directory with another owner or other permissions.
    Metadata,
    /// A file with other contents, type, owner, permissions, time or attributes.
    Differs,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    path: Vec<u8>,
    /// What is wrong.
    pub wrong: Wrong,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.wrong {
            Wrong::Extra => "is not of the layer",
            Wrong::Missing => "is missing",
            Wrong::Metadata => "has another owner or other permissions",
            Wrong::Differs => "differs",
        };
        write!(f, "/{} {what}", shown(&self.path))
    }
}

/// Everything in which `actual` differs from `fresh`, parents before what is in them. Blocking.
pub fn differences(fresh: &Path, actual: &Path) -> Result<Vec<Difference>> {
    let source = Source::trees(Some(actual), fresh).map_err(|source| ScrubError::Compare { source })?;
    // On the disk of the layers and without a name: a layer that is wholly lost is as large as itself.
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(fresh)
        .map_err(io_at("make a file in", fresh.as_os_str().as_encoded_bytes()))?;
    compare::compare(source, Compression::None, &mut file, &|_| Ok(()))
        .map_err(|source| ScrubError::Compare { source })?;
    file.seek(SeekFrom::Start(0)).map_err(io_at("rewind", b""))?;
    judge(file, &Pair::open(fresh, actual)?)
}

fn io_at<'a, E: Into<io::Error>>(doing: &'static str, path: &'a [u8]) -> impl FnOnce(E) -> ScrubError + 'a {
    move |error| ScrubError::Io { doing, path: shown(path), source: error.into() }
}

fn judge(file: File, pair: &Pair) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    let mut tar = TarReader::new(BufReader::new(file), Limits { entries_max: u64::MAX, ..Limits::default() });
    while let Some(entry) = tar.next().map_err(|source| ScrubError::Read { source })? {
        let (parent, name) = split(&entry.path);
        if let Some(removed) = name.strip_prefix(PREFIX) {
            let path = if parent.is_empty() { removed.to_vec() } else { [parent, removed].join(&b'/') };
            found.push(Difference { path, wrong: Wrong::Extra });
            continue;
        }
        let actual = pair.look(&pair.actual, &entry.path)?;
        let wrong = match (entry.kind, actual) {
            (_, None) => Wrong::Missing,
            (Kind::Directory, Some(actual)) => {
                let fresh = pair.look(&pair.fresh, &entry.path)?;
                let facts = |stat: libc::stat| (stat.st_mode, stat.st_uid, stat.st_gid);
                if fresh.map(facts) == Some(facts(actual)) {
                    // Only its time, or what is in it.
                    continue;
                }
                if file_type(&actual) == nix::sys::stat::SFlag::S_IFDIR {
                    Wrong::Metadata
                } else {
                    Wrong::Differs
                }
            }
            _ => Wrong::Differs,
        };
        let path = entry.path.strip_suffix(b"/").unwrap_or(&entry.path).to_vec();
        found.push(Difference { path, wrong });
    }
    Ok(found)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// Both trees; every name is resolved inside its root.
struct Pair {
    fresh: Root,
    actual: Root,
    /// Where in the actual tree files were copied to, by device and inode of the fresh one.
    copied: RefCell<HashMap<(u64, u64), Vec<u8>>>,
}

/// Directory of the actual tree in which copies come to be.
const MENDING: &CStr = c".bosun-mending";
/// Directory in that one, for files of several names; no file of a layer is called so.
const LINKS: &CStr = c".bosun-mending-links";

impl Pair {
    fn open(fresh: &Path, actual: &Path) -> Result<Self> {
        let open = |path: &Path| Root::open(path).map_err(io_at("open", path.as_os_str().as_encoded_bytes()));
        Ok(Self { fresh: open(fresh)?, actual: open(actual)?, copied: RefCell::default() })
    }

    /// The directory that holds a name, if it is there.
    fn parent(&self, root: &Root, path: &[u8]) -> Result<Option<(OwnedFd, CString)>> {
        let (parent, name) = split(path);
        match root.directory(parent) {
            Ok(directory) => Ok(Some((directory, c_string(name)))),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(io_at("open the directory of", path)(errno)),
        }
    }

    fn look(&self, root: &Root, path: &[u8]) -> Result<Option<libc::stat>> {
        let Some((directory, name)) = self.parent(root, path)? else { return Ok(None) };
        match fstatat(&directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(io_at("look at", path)(errno)),
        }
    }

    fn remove(&self, path: &[u8]) -> Result<()> {
        match self.parent(&self.actual, path)? {
            Some((directory, name)) => tree::remove(directory.as_fd(), &name).map_err(io_at("remove", path)),
            None => Ok(()),
        }
    }

    /// The fresh one takes the place of the actual one; one that went with its directory is there already.
    fn replace(&self, path: &[u8]) -> Result<()> {
        let Some(fresh) = self.look(&self.fresh, path)? else { return Ok(()) };
        let is_directory = |stat: &libc::stat| file_type(stat) == nix::sys::stat::SFlag::S_IFDIR;
        // A rename takes the place of a file by a file only.
        if self.look(&self.actual, path)?.is_some_and(|actual| is_directory(&actual) || is_directory(&fresh))
        {
            self.remove(path)?;
        }
        let (from, to) = (self.parent(&self.fresh, path)?, self.parent(&self.actual, path)?);
        let (Some((from, name)), Some((to, _))) = (from, to) else { return Ok(()) };
        match renameat(&from, name.as_c_str(), &to, name.as_c_str()) {
            // Subvolumes of btrfs are file systems to the kernel.
            Err(Errno::EXDEV) => self.copy(&fresh, (from.as_fd(), to.as_fd()), &name, path),
            other => other.map_err(io_at("replace", path)),
        }
    }

    /// Copies one into the actual tree, then renames it to its place. What a crash leaves is extra for the next scrub.
    fn copy(
        &self,
        fresh: &libc::stat,
        (from, to): (BorrowedFd<'_>, BorrowedFd<'_>),
        name: &CStr,
        path: &[u8],
    ) -> Result<()> {
        let failed = |error: io::Error| io_at("copy", path)(error);
        let root = self.actual.as_fd();
        tree::remove(root, MENDING).map_err(io_at("remove", MENDING.to_bytes()))?;
        let directory = |parent: BorrowedFd<'_>, name: &CStr| -> io::Result<OwnedFd> {
            mkdirat(parent, name, Mode::S_IRWXU)?;
            Ok(open_child_directory(parent, &name.to_owned())?)
        };
        let mending = directory(root, MENDING).map_err(failed)?;
        let key = (fresh.st_dev, fresh.st_ino);
        // Another name of a file that came before is a name of that.
        let first = self.copied.borrow().get(&key).cloned().filter(|_| fresh.st_nlink > 1);
        match first.map(|first| self.parent(&self.actual, &first)).transpose()?.flatten() {
            Some((parent, first)) => {
                linkat(&parent, first.as_c_str(), &mending, name, AtFlags::empty())
                    .map_err(|errno| failed(errno.into()))?;
            }
            None => {
                let links = directory(mending.as_fd(), LINKS).map_err(failed)?;
                copy_one(from, name, mending.as_fd(), links).map_err(failed)?;
                self.copied.borrow_mut().insert(key, path.to_vec());
            }
        }
        renameat(&mending, name, to, name).map_err(io_at("replace", path))?;
        tree::remove(root, MENDING).map_err(io_at("remove", MENDING.to_bytes()))
    }

    fn set_metadata(&self, path: &[u8]) -> Result<()> {
        let fresh = self.look(&self.fresh, path)?;
        let (Some(fresh), Some((directory, name))) = (fresh, self.parent(&self.actual, path)?) else {
            return Ok(());
        };
        let (uid, gid) = (Uid::from_raw(fresh.st_uid), Gid::from_raw(fresh.st_gid));
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        fchownat(&directory, name.as_c_str(), Some(uid), Some(gid), flags).map_err(io_at("give", path))?;
        let mode = Mode::from_bits_truncate(fresh.st_mode);
        fchmodat(&directory, name.as_c_str(), mode, FchmodatFlags::FollowSymlink)
            .map_err(io_at("change the mode of", path))
    }
}

/// Makes `actual` what `fresh` is, taking files out of `fresh`. Blocking; the caller syncs.
pub fn mend(fresh: &Path, actual: &Path, differences: &[Difference]) -> Result<()> {
    let pair = Pair::open(fresh, actual)?;
    for Difference { path, wrong } in differences {
        match wrong {
            Wrong::Extra => pair.remove(path)?,
            Wrong::Missing | Wrong::Differs => pair.replace(path)?,
            Wrong::Metadata => pair.set_metadata(path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn tree(root: &Path) {
        fs::create_dir_all(root.join("bin/deep")).unwrap();
        fs::write(root.join("bin/tool"), "one").unwrap();
        fs::hard_link(root.join("bin/tool"), root.join("bin/other")).unwrap();
        fs::write(root.join("bin/deep/file"), "two").unwrap();
        symlink("tool", root.join("bin/link")).unwrap();
        // One time for all: two unpackings of one archive have it too.
        for name in ["bin/tool", "bin/deep/file"] {
            let file = File::options().append(true).open(root.join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let link = c_string(root.join("bin/link").as_os_str().as_encoded_bytes());
        let time = nix::sys::time::TimeSpec::new(0, 0);
        let flags = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
        nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, link.as_c_str(), &time, &time, flags).unwrap();
    }

    fn pair() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let (fresh, actual) = (home.path().join("fresh"), home.path().join("actual"));
        tree(&fresh);
        tree(&actual);
        (home, fresh, actual)
    }

    fn words(fresh: &Path, actual: &Path) -> Vec<String> {
        differences(fresh, actual).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_trees_have_no_differences_whenever_they_were_made() {
        let (_home, fresh, actual) = pair();
        assert_eq!(words(&fresh, &actual), Vec::<String>::new());
    }

    #[test]
    fn everything_that_can_be_wrong_is_told_and_mended() {
        let (_home, fresh, actual) = pair();
        told_and_mended(&fresh, &actual);
    }

    #[test]
    fn what_cannot_be_renamed_from_another_file_system_is_copied() {
        let (_home, _, actual) = pair();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let fresh = memory.path().join("fresh");
        tree(&fresh);
        assert_ne!(fs::metadata(&fresh).unwrap().dev(), fs::metadata(&actual).unwrap().dev());
        fs::create_dir(actual.join(".bosun-mending")).unwrap();
        fs::write(actual.join(".bosun-mending/tool"), "of a crash").unwrap();
        told_and_mended(&fresh, &actual);
    }

    fn told_and_mended(fresh: &Path, actual: &Path) {
        let flipped = File::options().append(true).open(actual.join("bin/tool")).unwrap();
        fs::write(actual.join("bin/tool"), "onE").unwrap();
        flipped.set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::remove_file(actual.join("bin/link")).unwrap();
        fs::write(actual.join("bin/link"), "no link").unwrap();
        fs::remove_dir_all(actual.join("bin/deep")).unwrap();
        fs::create_dir(actual.join("bin/alien")).unwrap();
        fs::write(actual.join("bin/alien/file"), "").unwrap();
        fs::set_permissions(actual.join("bin"), fs::Permissions::from_mode(0o700)).unwrap();
        let mut told = words(fresh, actual);
        told.retain(|told| !told.contains("mending"));
        told.sort();
        assert_eq!(
            told,
            [
                "/bin has another owner or other permissions",
                "/bin/alien is not of the layer",
                "/bin/deep is missing",
                "/bin/deep/file is missing",
                "/bin/link differs",
                "/bin/other differs",
                "/bin/tool differs",
            ]
        );
        let found = differences(fresh, actual).unwrap();
        mend(fresh, actual, &found).unwrap();
        let (_other, again, _) = pair();
        assert_eq!(words(&again, actual), Vec::<String>::new());
        assert_eq!(fs::read_to_string(actual.join("bin/tool")).unwrap(), "one");
        let inode = |name: &str| fs::metadata(actual.join(name)).unwrap().ino();
        assert_eq!(inode("bin/tool"), inode("bin/other"), "still one file");
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_leads_nowhere_outside() {
        let (home, fresh, actual) = pair();
        let outside = home.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::remove_dir_all(actual.join("bin")).unwrap();
        symlink(&outside, actual.join("bin")).unwrap();
        let found = differences(&fresh, &actual).unwrap();
        mend(&fresh, &actual, &found).unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        let (_other, again, _) = pair();
        assert_eq!(words(&again, &actual), Vec::<String>::new());
    }
}
