//! Files out of a container's root, and into it, as plain tar (no whiteouts). The root is hostile: what runs in it may rename and replace whatever
//! is copied, at any instant (CVE-2018-15664, CVE-2019-14271).
//!
//! - Every path is resolved by the kernel inside the root's descriptor (`openat2`, RESOLVE_IN_ROOT, no magic links); from there on single names are
//!   opened below descriptors, and nothing is followed. No program and no library of the container is run or loaded.
//! - Only regular files are opened for reading, and each by the descriptor that it was judged by.
//! - The kernel's own file systems (proc, sysfs, cgroups, ...) are not walked into: they have no end.
//! - Owners in the stream are those inside the container.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};

use bosun_types::copy::{Copied, CopyIn, CopyOut, FileInfo, FileKind};
use bosun_types::error::class_of_io;
use bosun_types::user_namespace::IdMaps;
use bosun_types::{Error, Result, Timestamp};
use nix::sys::stat::SFlag;
use nix::sys::statfs::{
    BPF_FS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, DEVPTS_SUPER_MAGIC, FsType,
    PROC_SUPER_MAGIC, SECURITYFS_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, fstatfs,
};

use crate::archive::path::{CleanPath, shown};
use crate::archive::reader::{Entry, Kind};
use crate::archive::root::Root;
use crate::archive::writer::TarWriter;
use crate::archive::{self, Limits, UnpackOptions, Whiteouts, tree};
use crate::compare::node::Node;

/// Size of the buffers between files and the stream, in bytes.
const BUFFER_BYTES: usize = 128 << 10;
/// Whom a file belongs to that the container has no id for.
const NOBODY: u32 = 65_534;

/// File systems that show the kernel, not files.
const KERNELS: [FsType; 9] = [
    PROC_SUPER_MAGIC,
    SYSFS_MAGIC,
    CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC,
    DEVPTS_SUPER_MAGIC,
    DEBUGFS_MAGIC,
    TRACEFS_MAGIC,
    SECURITYFS_MAGIC,
    BPF_FS_MAGIC,
];

/// A container's root as its processes see it, or would.
#[derive(Debug)]
pub struct ContainerRoot {
    root: Root,
    /// The ids on the root are those outside; `None`: they are those inside.
    maps: Option<IdMaps>,
}

impl ContainerRoot {
    /// `maps`: whoever owns a file is shown as somebody outside of the container.
    pub fn new(root: OwnedFd, maps: Option<IdMaps>) -> Self {
        Self { root: Root::with_mounts(root), maps }
    }

    fn open(&self, path: &str, follow: bool) -> Result<Node> {
        // A slash or a dot at the end asks for a directory behind the link.
        let follow = follow || path.ends_with('/') || path.ends_with("/.");
        let found = self.root.look(path.as_bytes(), follow).map_err(std::io::Error::from);
        found.and_then(Node::of).map_err(|error| failed("look at", path, &error))
    }

    /// What is at `path`.
    ///
    /// # Errors
    /// NotFound.
    pub fn stat(&self, path: &str, follow: bool) -> Result<FileInfo> {
        let node = self.open(path, follow)?;
        let (seconds, nanoseconds) = node.facts.mtime;
        Ok(FileInfo {
            kind: kind_of(&node),
            size: node.facts.size,
            mode: node.facts.mode & 0o7777,
            modified_at: Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)),
            link: (node.kind == SFlag::S_IFLNK)
                .then(|| String::from_utf8_lossy(&node.facts.link).into_owned()),
        })
    }

    /// Writes what is at a path as a tar stream.
    ///
    /// # Errors
    /// NotFound; Unavailable when a file became shorter in the middle; the output's own.
    pub fn read(&self, request: &CopyOut, output: impl Write) -> Result<Copied> {
        let node = self.open(&request.path, request.follow)?;
        if request.rename.is_empty() && node.kind != SFlag::S_IFDIR {
            return Err(Error::invalid_argument(format!(
                "{:?} is no directory: it needs a name",
                request.path
            )));
        }
        let top = CleanPath::new(request.rename.as_bytes(), &Limits::default())?;
        let mut walk = Walk {
            tar: TarWriter::new(output),
            maps: self.maps.as_ref(),
            links: HashMap::new(),
            copied: Copied::default(),
            buffer: vec![0; BUFFER_BYTES],
        };
        walk.tree(node, top.as_bytes())?;
        walk.tar.finish().and_then(|mut output| output.flush()).map_err(|error| unwritten(&error))?;
        Ok(walk.copied)
    }

    /// Puts a tar stream into a directory. On an error what came before it stays.
    ///
    /// # Errors
    /// NotFound: no such directory. InvalidArgument: no tar, or one that would leave the directory or replace a directory by something else.
    pub fn write(self, request: &CopyIn, input: impl Read) -> Result<Copied> {
        let prefix = CleanPath::new(request.directory.as_bytes(), &Limits::default())?;
        self.root
            .directory(prefix.as_bytes())
            .map_err(|errno| failed("open the directory", &request.directory, &errno.into()))?;
        let options = UnpackOptions {
            whiteouts: Whiteouts::Ordinary,
            devices: false,
            keep_kinds: true,
            ..UnpackOptions::default()
        };
        let maps = self.maps.clone();
        let change = |entry: &mut Entry| {
            let below = |name: &[u8]| [prefix.as_bytes(), name].join(&b'/');
            entry.path = below(&entry.path);
            if entry.kind == Kind::HardLink {
                entry.link = below(&entry.link);
            }
            owned_by(entry, request.keep_owners, maps.as_ref());
        };
        let report =
            archive::unpack_into(self.root, BufReader::with_capacity(BUFFER_BYTES, input), &options, change)?;
        Ok(Copied { entries: report.entries, bytes: report.bytes, skipped: report.devices_skipped })
    }
}

/// Root's, or as the stream says, among the ids that the container has.
fn owned_by(entry: &mut Entry, keep: bool, maps: Option<&IdMaps>) {
    let (uid, gid) = if keep { (entry.uid, entry.gid) } else { (0, 0) };
    let outside = |id: u32, map: fn(&IdMaps, u32) -> Option<u32>| {
        maps.map_or(id, |maps| map(maps, id).or_else(|| map(maps, 0)).unwrap_or(NOBODY))
    };
    entry.uid = outside(uid, IdMaps::host_uid);
    entry.gid = outside(gid, IdMaps::host_gid);
}

fn kind_of(node: &Node) -> FileKind {
    match node.kind {
        SFlag::S_IFREG => FileKind::File,
        SFlag::S_IFDIR => FileKind::Directory,
        SFlag::S_IFLNK => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

fn failed(doing: &str, path: &str, error: &std::io::Error) -> Error {
    let message = format!("{doing} {:?} in the container: {error}", shown(path.as_bytes()));
    Error::new(class_of_io(error), message)
}

fn unwritten(error: &std::io::Error) -> Error {
    let own = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    own.cloned().unwrap_or_else(|| Error::new(class_of_io(error), format!("write the stream: {error}")))
}

/// A directory that is being walked.
struct Frame {
    directory: OwnedFd,
    names: std::vec::IntoIter<CString>,
    path_length: usize,
}

struct Walk<'a, W: Write> {
    tar: TarWriter<W>,
    maps: Option<&'a IdMaps>,
    /// Files with several names, and the name each was written under.
    links: HashMap<(u64, u64), Vec<u8>>,
    copied: Copied,
    buffer: Vec<u8>,
}

impl<W: Write> Walk<'_, W> {
    /// By hand, not by recursion: a container makes its directories as deep as it likes.
    fn tree(&mut self, top: Node, name: &[u8]) -> Result<()> {
        let mut path = name.to_vec();
        let mut stack: Vec<Frame> = self.node(&top, &path)?.into_iter().collect();
        let limits = Limits::default();
        while let Some(frame) = stack.last_mut() {
            path.truncate(frame.path_length);
            let Some(name) = frame.names.next() else {
                stack.pop();
                continue;
            };
            let node = Node::open(frame.directory.as_fd(), &name);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            // Gone between the listing and the look.
            let Some(node) = node.map_err(|error| at("look at", &path, &error))? else { continue };
            if stack.len() > limits.depth_max || path.len() > limits.path_bytes_max {
                return Err(Error::failed_precondition(format!(
                    "{:?} is too deep to be copied",
                    shown(&path)
                )));
            }
            stack.extend(self.node(&node, &path)?);
        }
        Ok(())
    }

    /// Writes one file; a directory is to be walked then.
    fn node(&mut self, node: &Node, path: &[u8]) -> Result<Option<Frame>> {
        let Some(mut entry) = node.entry(path) else {
            self.copied.skipped += 1;
            return Ok(None);
        };
        if let Some(maps) = self.maps {
            entry.uid = maps.inside_uid(entry.uid).unwrap_or(NOBODY);
            entry.gid = maps.inside_gid(entry.gid).unwrap_or(NOBODY);
        }
        let is_directory = entry.kind == Kind::Directory;
        if node.facts.names > 1 && !is_directory {
            match self.links.get(&node.inode) {
                Some(first) => {
                    let link = first.clone();
                    let entry = Entry { link, kind: Kind::HardLink, size: 0, xattrs: Vec::new(), ..entry };
                    return self.write(&entry).map(|()| None);
                }
                None => drop(self.links.insert(node.inode, path.to_vec())),
            }
        }
        if !path.is_empty() && entry.kind != Kind::Regular {
            self.write(&entry)?;
        }
        match entry.kind {
            Kind::Regular => self.contents(node, &entry, path).map(|()| None),
            Kind::Directory => self.frame(node, path),
            _ => Ok(None),
        }
    }

    fn frame(&self, node: &Node, path: &[u8]) -> Result<Option<Frame>> {
        let directory = node.directory().map_err(|error| at("open", path, &error))?;
        let kind = fstatfs(&directory).map_err(|errno| at("look at", path, &errno.into()))?.filesystem_type();
        if KERNELS.contains(&kind) {
            return Ok(None);
        }
        let names = tree::list(directory.as_fd()).map_err(|errno| at("list", path, &errno.into()))?;
        let mut names: Vec<CString> = names.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(Some(Frame { directory, names: names.into_iter(), path_length: path.len() }))
    }

    fn contents(&mut self, node: &Node, entry: &Entry, path: &[u8]) -> Result<()> {
        let mut file = node.contents().map_err(|error| at("open", path, &error))?;
        self.write(entry)?;
        let mut left = entry.size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let length = match file.read(&mut self.buffer[..wanted]) {
                Ok(0) => {
                    let message = format!("{:?} became shorter while it was read", shown(path));
                    return Err(Error::unavailable(message).with_hint("pause the container and try again"));
                }
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(at("read", path, &error)),
            };
            self.tar.content(&self.buffer[..length]).map_err(|error| unwritten(&error))?;
            left -= length as u64;
            self.copied.bytes += length as u64;
        }
        Ok(())
    }

    fn write(&mut self, entry: &Entry) -> Result<()> {
        self.copied.entries += 1;
        self.tar.entry(entry).map_err(|error| unwritten(&error))
    }
}

fn at(doing: &str, path: &[u8], error: &std::io::Error) -> Error {
    failed(doing, &String::from_utf8_lossy(path), error)
}

#[cfg(test)]
mod tests;
