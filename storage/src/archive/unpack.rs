//! The writer: entries onto a root, one after the other.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::io::BufRead;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::path::{CleanPath, c_string, shown};
use super::reader::{Entry, Kind, TarReader};
use super::root::{Root, file_type, is_whiteout, open_child_directory};
use super::sparse::HoleyFile;
use super::{ArchiveError, Result, UnpackOptions, UnpackReport, Whiteouts, metadata, tree, whiteout};

/// Parent directories kept open. Archives come in the order of a walk, so few are enough.
const PARENTS_MAX: usize = 64;

/// A directory that entries are put into.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    pub(super) inode: u64,
}

/// A directory's times, set last: every entry put into it changes them (MNT-9).
struct DirectoryTimes {
    path: Vec<u8>,
    inode: u64,
    mtime: (i64, i64),
}

pub(super) struct Unpacker<'a> {
    pub(super) root: Root,
    pub(super) options: &'a UnpackOptions,
    pub(super) report: UnpackReport,
    /// Roots of the parent layers.
    parents: Vec<Root>,
    open: HashMap<Vec<u8>, Rc<Directory>>,
    times: Vec<DirectoryTimes>,
    /// With removing whiteouts: hashes of (inode of the parent, name) of what this archive unpacked; whiteouts spare it.
    unpacked: Option<(RandomState, HashSet<u64>)>,
    /// The directory of old archives' hard links is there and goes at the end.
    has_link_directory: bool,
}

/// What stood where an entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Whiteout,
    Other,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(target: &Path, options: &'a UnpackOptions) -> Result<Self> {
        let open = |path: &Path| {
            Root::open(path).map_err(|errno| {
                failed("open the directory", std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))(errno)
            })
        };
        let mut unpacker = Self::below(open(target)?, options);
        unpacker.parents = options.parents.iter().map(|parent| open(parent)).collect::<Result<_>>()?;
        Ok(unpacker)
    }

    /// Into a root that is open.
    pub(super) fn below(root: Root, options: &'a UnpackOptions) -> Self {
        Self {
            root,
            options,
            report: UnpackReport::default(),
            parents: Vec::new(),
            open: HashMap::new(),
            times: Vec::new(),
            unpacked: (options.whiteouts == Whiteouts::Remove).then(Default::default),
            has_link_directory: false,
        }
    }

    pub(super) fn run<R: BufRead>(self, reader: &mut TarReader<R>) -> Result<UnpackReport> {
        self.run_changed(reader, |_| ())
    }

    /// The same; each entry that is not the root itself is changed first.
    pub(super) fn run_changed<R: BufRead>(
        mut self,
        reader: &mut TarReader<R>,
        mut change: impl FnMut(&mut Entry),
    ) -> Result<UnpackReport> {
        while let Some(mut entry) = reader.next()? {
            if !CleanPath::new(&entry.path, &self.options.limits)?.is_root() {
                change(&mut entry);
            }
            self.apply(&entry, reader)?;
        }
        reader.drain()?;
        self.report.entries = reader.count();
        self.finish()
    }

    fn apply<R: BufRead>(&mut self, entry: &Entry, reader: &mut TarReader<R>) -> Result<()> {
        let path = CleanPath::new(&entry.path, &self.options.limits)?;
        // MNT-7: what an archive says of the root itself is ignored.
        if path.is_root() {
            return Ok(());
        }
        let (parent_path, name) = path.split();
        if self.options.whiteouts != Whiteouts::Ordinary
            && let Some(mark) = whiteout::parse(&path)?
        {
            return self.whiteout(&path, mark, entry);
        }
        let parent = self.parent(parent_path)?;
        match entry.kind {
            Kind::Regular => self.file(&parent, &path, entry, reader)?,
            Kind::Directory => self.directory(&parent, &path, entry)?,
            Kind::Symlink => self.symlink(&parent, &path, entry)?,
            Kind::HardLink => self.hard_link(&parent, &path, entry)?,
            Kind::Character | Kind::Block | Kind::Fifo => self.node(&parent, &path, entry)?,
        }
        self.mark_unpacked(parent.inode, name);
        Ok(())
    }

    /// The directory that entries below `path` go into; what is missing is made.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Rc<Directory>> {
        if let Some(known) = self.open.get(path) {
            return Ok(Rc::clone(known));
        }
        let fd = match self.root.directory(path) {
            // The second is what an overlay whiteout in the way looks like.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => self.imply(path)?,
            other => other.map_err(failed("open the directory", path))?,
        };
        let inode = fstat(&fd).map_err(failed("look at", path))?.st_ino;
        let directory = Rc::new(Directory { fd, inode });
        if self.open.len() >= PARENTS_MAX {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), Rc::clone(&directory));
        Ok(directory)
    }

    /// Makes a directory that the archive never mentioned, as the parent layers have it; those above it first.
    fn imply(&mut self, path: &[u8]) -> Result<OwnedFd> {
        if let Some(slash) = path.iter().rposition(|byte| *byte == b'/') {
            self.parent(&path[..slash])?;
        }
        let mut made = Vec::new();
        let fd = self.root.ensure_directory(path, &mut made);
        let fd = fd.map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => ArchiveError::Refused {
                path: shown(path),
                why: "something that is no directory stands where entries go into".to_owned(),
            },
            _ => failed("make the directory", path)(errno),
        })?;
        if made.is_empty() {
            return Ok(fd);
        }
        for made in made {
            self.mark_unpacked(made.parent, &made.name);
            if let (Some(directory), Whiteouts::Overlay) = (made.opaque, self.options.whiteouts) {
                whiteout::make_opaque(directory.as_fd(), path)?;
            }
        }
        if !metadata::adopt(&self.parents, path, fd.as_fd(), self.options.owners)
            .map_err(failed("change the owner of", path))?
        {
            self.report.implicit_directories += 1;
        }
        Ok(fd)
    }

    fn file<R: BufRead>(
        &mut self,
        parent: &Directory,
        path: &CleanPath,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<()> {
        let (_, name) = path.split();
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let name = c_string(name);
        let (fd, _) = self.create(parent, path, || {
            openat(&parent.fd, name.as_c_str(), flags, Mode::from_bits_truncate(0o600))
        })?;
        let file = std::fs::File::from(fd);
        let mut contents = HoleyFile::new(&file);
        while let Some((at, piece)) = reader.piece()? {
            let length = piece.len();
            contents.put(at, piece).map_err(failed_io("write", path.as_bytes()))?;
            reader.consume(length);
            self.report.bytes += length as u64;
        }
        contents.finish(entry.size).map_err(failed_io("write", path.as_bytes()))?;
        self.report.xattrs_skipped += metadata::apply(file.as_fd(), entry, self.options.owners)
            .and_then(|skipped| metadata::set_times(file.as_fd(), entry.mtime).map(|()| skipped))
            .map_err(failed_io("set the metadata of", path.as_bytes()))?;
        Ok(())
    }

    /// MNT-8: a directory over a directory only changes its metadata.
    fn directory(&mut self, parent: &Directory, path: &CleanPath, entry: &Entry) -> Result<()> {
        let bytes = path.as_bytes();
        let name = c_string(path.split().1);
        let make = || mkdirat(&parent.fd, name.as_c_str(), Mode::from_bits_truncate(0o700));
        let (mut over_whiteout, mut was_there) = (false, false);
        match make() {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let there = self.look(parent.fd.as_fd(), path)?;
                if there.is_none_or(|stat| file_type(&stat) != SFlag::S_IFDIR) {
                    self.may_replace(path, true)?;
                    over_whiteout = self.clear_way(parent, path)? == Found::Whiteout;
                    make().map_err(failed("make the directory", bytes))?;
                } else {
                    was_there = true;
                }
            }
            Err(errno) => return Err(failed("make the directory", bytes)(errno)),
        }
        let fd =
            open_child_directory(parent.fd.as_fd(), &name).map_err(failed("open the directory", bytes))?;
        if was_there {
            metadata::remove_other_xattrs(fd.as_fd(), entry)
                .map_err(failed_io("set the metadata of", bytes))?;
        }
        self.report.xattrs_skipped += metadata::apply(fd.as_fd(), entry, self.options.owners)
            .map_err(failed_io("set the metadata of", bytes))?;
        if over_whiteout {
            // This layer removes what the layers below have under that name, and has a new directory: not a merged one.
            whiteout::make_opaque(fd.as_fd(), bytes)?;
        }
        let inode = fstat(&fd).map_err(failed("look at", bytes))?.st_ino;
        self.times.push(DirectoryTimes { path: bytes.to_vec(), inode, mtime: entry.mtime });
        Ok(())
    }

    fn symlink(&mut self, parent: &Directory, path: &CleanPath, entry: &Entry) -> Result<()> {
        if entry.link.is_empty() || entry.link.len() > self.options.limits.path_bytes_max {
            let why = format!("its link target has {} bytes", entry.link.len());
            return Err(ArchiveError::Refused { path: shown(path.as_bytes()), why });
        }
        // The target is only text: it is resolved inside the root whenever something follows it.
        let (target, name) = (c_string(&entry.link), c_string(path.split().1));
        self.create(parent, path, || symlinkat(target.as_c_str(), &parent.fd, name.as_c_str()))?;
        self.report.xattrs_skipped +=
            metadata::apply_to_link(parent.fd.as_fd(), &name, entry, self.options.owners)
                .map_err(failed_io("set the metadata of", path.as_bytes()))?;
        Ok(())
    }

    /// A link to something unpacked before, or to what was there before; always inside the root.
    fn hard_link(&mut self, parent: &Directory, path: &CleanPath, entry: &Entry) -> Result<()> {
        let target = CleanPath::new(&entry.link, &self.options.limits)?;
        let missing = || ArchiveError::Refused {
            path: shown(path.as_bytes()),
            why: format!("its hard link target {:?} is not in the archive", shown(&entry.link)),
        };
        if target.is_root() {
            return Err(missing());
        }
        let (target_parent, target_name) = target.split();
        let target_name = c_string(target_name);
        let target_fd = match self.open.get(target_parent) {
            Some(known) => known.fd.try_clone().map_err(failed_io("open the directory", target_parent))?,
            None => match self.root.directory(target_parent) {
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Err(missing()),
                other => other.map_err(failed("open the directory", target_parent))?,
            },
        };
        let no_follow = AtFlags::AT_SYMLINK_NOFOLLOW;
        let source = match fstatat(&target_fd, target_name.as_c_str(), no_follow) {
            Err(Errno::ENOENT) => return Err(missing()),
            other => other.map_err(failed("look at", target.as_bytes()))?,
        };
        if file_type(&source) == SFlag::S_IFDIR {
            let why = "a hard link to a directory".to_owned();
            return Err(ArchiveError::Refused { path: shown(path.as_bytes()), why });
        }
        // A link to itself, or the same link twice: there already.
        if self
            .look(parent.fd.as_fd(), path)?
            .is_some_and(|there| (there.st_dev, there.st_ino) == (source.st_dev, source.st_ino))
        {
            return Ok(());
        }
        let name = c_string(path.split().1);
        self.create(parent, path, || {
            linkat(&target_fd, target_name.as_c_str(), &parent.fd, name.as_c_str(), AtFlags::empty())
        })?;
        Ok(())
    }

    fn node(&mut self, parent: &Directory, path: &CleanPath, entry: &Entry) -> Result<()> {
        let kind = match entry.kind {
            Kind::Character => SFlag::S_IFCHR,
            Kind::Block => SFlag::S_IFBLK,
            _ => SFlag::S_IFIFO,
        };
        let is_device = kind != SFlag::S_IFIFO;
        if is_device && !self.options.devices {
            self.report.devices_skipped += 1;
            return Ok(());
        }
        let name = c_string(path.split().1);
        let device = nix::sys::stat::makedev(entry.device.0.into(), entry.device.1.into());
        let made = self.create(parent, path, || {
            match mknodat(&parent.fd, name.as_c_str(), kind, Mode::from_bits_truncate(0o600), device) {
                // MNT-10: in a user namespace there are no devices to be made.
                Err(Errno::EPERM) if is_device => Ok(false),
                other => other.map(|()| true),
            }
        })?;
        if !made.0 {
            tracing::warn!(path = shown(path.as_bytes()), "device node left out: not permitted");
            self.report.devices_skipped += 1;
            return Ok(());
        }
        self.report.xattrs_skipped +=
            metadata::apply_to_node(parent.fd.as_fd(), &name, entry, self.options.owners)
                .map_err(failed_io("set the metadata of", path.as_bytes()))?;
        Ok(())
    }

    /// Makes something that must be new; what is in the way goes first (MNT-8: the last entry of a name wins).
    fn create<T>(
        &mut self,
        parent: &Directory,
        path: &CleanPath,
        make: impl Fn() -> nix::Result<T>,
    ) -> Result<(T, Found)> {
        match make() {
            Ok(made) => Ok((made, Found::Nothing)),
            Err(Errno::EEXIST) => {
                let found = self.clear_way(parent, path)?;
                make().map(|made| (made, found)).map_err(failed("create", path.as_bytes()))
            }
            Err(errno) => Err(failed("create", path.as_bytes())(errno)),
        }
    }

    fn clear_way(&mut self, parent: &Directory, path: &CleanPath) -> Result<Found> {
        let Some(stat) = self.look(parent.fd.as_fd(), path)? else { return Ok(Found::Nothing) };
        self.may_replace(path, file_type(&stat) == SFlag::S_IFDIR)?;
        let name = c_string(path.split().1);
        match file_type(&stat) {
            SFlag::S_IFDIR => {
                tree::remove(parent.fd.as_fd(), &name).map_err(failed("remove", path.as_bytes()))?;
                // Open directories may be gone, and names may lead elsewhere now.
                self.open.clear();
            }
            _ => {
                unlinkat(&parent.fd, name.as_c_str(), UnlinkatFlags::NoRemoveDir)
                    .map_err(failed("remove", path.as_bytes()))?;
                if file_type(&stat) == SFlag::S_IFLNK {
                    self.open.clear();
                }
            }
        }
        let was_whiteout = self.options.whiteouts == Whiteouts::Overlay && is_whiteout(&stat);
        Ok(if was_whiteout { Found::Whiteout } else { Found::Other })
    }

    /// Only a directory may be in a directory's place, where kinds are kept: of both cases the caller knows one.
    fn may_replace(&self, path: &CleanPath, is_about_directory: bool) -> Result<()> {
        if self.options.keep_kinds && is_about_directory {
            let why = "a directory does not replace something else there, nor the other way round".to_owned();
            return Err(ArchiveError::Refused { path: shown(path.as_bytes()), why });
        }
        Ok(())
    }

    pub(super) fn look(&self, parent: BorrowedFd<'_>, path: &CleanPath) -> Result<Option<FileStat>> {
        match fstatat(parent, c_string(path.split().1).as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(failed("look at", path.as_bytes())(errno)),
        }
    }

    /// Forgets the open directories: one of them may have been removed.
    pub(super) fn forget_open(&mut self) {
        self.open.clear();
    }

    pub(super) fn note_link_directory(&mut self) {
        self.has_link_directory = true;
    }

    fn mark_unpacked(&mut self, parent: u64, name: &[u8]) {
        if let Some((state, unpacked)) = &mut self.unpacked {
            unpacked.insert(state.hash_one((parent, name)));
        }
    }

    pub(super) fn was_unpacked(&self, parent: u64, name: &[u8]) -> bool {
        self.unpacked
            .as_ref()
            .is_some_and(|(state, unpacked)| unpacked.contains(&state.hash_one((parent, name))))
    }

    fn finish(mut self) -> Result<UnpackReport> {
        if self.has_link_directory {
            tree::remove(self.root.as_fd(), &c_string(whiteout::LINK_DIRECTORY))
                .map_err(failed("remove", whiteout::LINK_DIRECTORY))?;
        }
        self.open.clear();
        for directory in std::mem::take(&mut self.times) {
            // Gone, or another one by now: then a later entry of the archive took its place.
            let Ok(fd) = self.root.directory(&directory.path) else { continue };
            if fstat(&fd).is_ok_and(|stat| stat.st_ino == directory.inode) {
                metadata::set_times(fd.as_fd(), directory.mtime)
                    .map_err(failed_io("set the times of", &directory.path))?;
            }
        }
        Ok(self.report)
    }
}

pub(super) fn failed<'a>(doing: &'static str, path: &'a [u8]) -> impl FnOnce(Errno) -> ArchiveError + 'a {
    move |errno| ArchiveError::Write { doing, path: shown(path), source: errno.into() }
}

pub(super) fn failed_io<'a>(
    doing: &'static str,
    path: &'a [u8],
) -> impl FnOnce(std::io::Error) -> ArchiveError + 'a {
    move |source| ArchiveError::Write { doing, path: shown(path), source }
}
