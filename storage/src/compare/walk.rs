//! The walk over the trees, and the entries it writes.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::stat::SFlag;

use super::decide::{Side, Verdict, judge, merge};
use super::node::{Node, OverlayMark, same_contents};
use super::{CompareError, CompareReport, Progress, Result, Source};
use crate::archive::path::{c_string, shown};
use crate::archive::reader::{Entry, Kind};
use crate::archive::whiteout::{OPAQUE, PREFIX};
use crate::archive::writer::TarWriter;
use crate::archive::{Limits, tree};
use crate::compression::Compressor;

/// Size of the buffer between files and the archive, in bytes.
const BUFFER_BYTES: usize = 128 << 10;

/// A directory that is being walked.
struct Frame {
    lower: Option<OwnedFd>,
    upper: OwnedFd,
    names: std::vec::IntoIter<(CString, Side)>,
    /// Length of its path.
    path_length: usize,
    /// Its entry, while nothing in it has been written.
    unwritten: Option<Node>,
}

/// A file with several names.
#[derive(Default)]
struct Group {
    /// The name that its entry was written under.
    written: Option<Vec<u8>>,
    /// Names that did not change, seen before anything made the file worth an entry.
    unchanged: Vec<Vec<u8>>,
}

pub(super) struct Walk<'a, W: Write> {
    tar: TarWriter<Compressor<W>>,
    limits: Limits,
    progress: Progress<'a>,
    report: CompareReport,
    is_overlay: bool,
    stack: Vec<Frame>,
    /// Path of the name that is looked at.
    path: Vec<u8>,
    groups: HashMap<(u64, u64), Group>,
    buffer: Vec<u8>,
    /// Bytes of content written so far.
    written: u64,
}

fn output(source: io::Error) -> CompareError {
    CompareError::Output { source }
}

impl<'a, W: Write> Walk<'a, W> {
    pub(super) fn new(compressor: Compressor<W>, limits: Limits, progress: Progress<'a>) -> Self {
        Self {
            tar: TarWriter::new(compressor),
            limits,
            progress,
            report: CompareReport::default(),
            is_overlay: false,
            stack: Vec::new(),
            path: Vec::new(),
            groups: HashMap::new(),
            buffer: vec![0; BUFFER_BYTES],
            written: 0,
        }
    }

    pub(super) fn run(mut self, source: Source) -> Result<(Compressor<W>, CompareReport)> {
        let (lower, upper) = match source {
            Source::Overlay { upper } => {
                self.is_overlay = true;
                (None, upper)
            }
            Source::Trees { lower, upper } => (lower, upper),
        };
        // MNT-7: the root's own metadata is not in a layer, but its being opaque is.
        let root = Node::open(upper.as_fd(), c".").map_err(|source| self.failed("look at", source))?;
        let is_opaque =
            self.is_overlay && root.is_some_and(|root| root.overlay_mark() == Some(OverlayMark::Opaque));
        self.push(lower, upper, None)?;
        if is_opaque {
            self.mark(OPAQUE)?;
        }
        while let Some(frame) = self.stack.last_mut() {
            self.path.truncate(frame.path_length);
            match frame.names.next() {
                Some((name, side)) => self.name(&name, side)?,
                None => drop(self.stack.pop()),
            }
        }
        Ok((self.tar.finish().map_err(output)?, self.report))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> CompareError {
        CompareError::Read { doing, path: shown(&self.path), source }
    }

    fn refused(&self, why: impl Into<String>) -> CompareError {
        CompareError::Refused { path: shown(&self.path), why: why.into() }
    }

    /// Goes into the directory at `path`. `unwritten` is its entry if that is not written yet.
    fn push(&mut self, lower: Option<OwnedFd>, upper: OwnedFd, unwritten: Option<Node>) -> Result<()> {
        if self.stack.len() > self.limits.depth_max {
            return Err(self.refused(format!("deeper than {} directories", self.limits.depth_max)));
        }
        let list = |directory: &OwnedFd| -> io::Result<Vec<CString>> {
            Ok(tree::list(directory.as_fd())?.into_iter().map(|(name, _)| name).collect())
        };
        let names =
            lower.as_ref().map_or(Ok(Vec::new()), list).and_then(|lower| Ok(merge(lower, list(&upper)?)));
        let names = names.map_err(|source| self.failed("list", source))?.into_iter();
        self.stack.push(Frame { lower, upper, names, path_length: self.path.len(), unwritten });
        Ok(())
    }

    fn name(&mut self, name: &CStr, side: Side) -> Result<()> {
        let Some(frame) = self.stack.last() else { return Ok(()) };
        let look = |directory: Option<&OwnedFd>| {
            directory.map_or(Ok(None), |directory| Node::open(directory.as_fd(), name))
        };
        let lower = if side == Side::Upper { Ok(None) } else { look(frame.lower.as_ref()) };
        let upper = if side == Side::Lower { Ok(None) } else { look(Some(&frame.upper)) };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.to_bytes());
        let lower = lower.map_err(|source| self.failed("look at", source))?;
        let upper = upper.map_err(|source| self.failed("look at", source))?;
        if name.to_bytes().starts_with(PREFIX) && (upper.is_some() || lower.is_some()) {
            return Err(self.refused("a name that begins with .wh. would remove another"));
        }
        if self.path.len() > self.limits.path_bytes_max {
            return Err(self.refused(format!("its path is longer than {} bytes", self.limits.path_bytes_max)));
        }
        match (lower, upper) {
            // Gone between the listing and the look.
            (None, None) => Ok(()),
            (Some(_), None) => self.removed(name),
            (None, Some(upper)) if self.is_overlay => self.of_overlay(name, upper),
            (None, Some(upper)) => self.added(upper),
            (Some(lower), Some(upper)) => self.both(&lower, upper),
        }
    }

    fn removed(&mut self, name: &CStr) -> Result<()> {
        let parent = self.stack.last().map_or(0, |frame| frame.path_length);
        self.path.truncate(parent);
        self.mark(&[PREFIX, name.to_bytes()].concat())
    }

    /// Writes an empty file `name` into the directory at `path`.
    fn mark(&mut self, name: &[u8]) -> Result<()> {
        let path = if self.path.is_empty() { name.to_vec() } else { [&self.path, name].join(&b'/') };
        self.ancestors()?;
        self.report.whiteouts += 1;
        self.write(&Entry { path, mode: 0o600, ..Entry::new(Kind::Regular) })
    }

    fn of_overlay(&mut self, name: &CStr, upper: Node) -> Result<()> {
        match upper.overlay_mark() {
            Some(OverlayMark::Whiteout) => self.removed(name),
            Some(OverlayMark::Partial(attribute)) => {
                Err(CompareError::Partial { path: shown(&self.path), attribute })
            }
            Some(OverlayMark::Opaque) => {
                self.added(upper)?;
                // `added` has gone into the directory: `path` is its own.
                self.mark(OPAQUE)
            }
            None => self.added(upper),
        }
    }

    /// Everything at `path` and below.
    fn added(&mut self, upper: Node) -> Result<()> {
        if upper.kind != SFlag::S_IFDIR {
            return self.file(&upper);
        }
        self.ancestors()?;
        self.directory(&upper)?;
        let directory = upper.directory().map_err(|source| self.failed("open", source))?;
        self.push(None, directory, None)
    }

    fn both(&mut self, lower: &Node, upper: Node) -> Result<()> {
        let mut verdict = judge(&lower.facts, &upper.facts, lower.inode == upper.inode);
        if verdict == Verdict::SameIfContentsAre {
            let same = same_contents(lower, &upper).map_err(|source| self.failed("read", source))?;
            verdict = if same { Verdict::Same } else { Verdict::Changed };
        }
        match verdict {
            Verdict::Descend(is_changed) => {
                if is_changed {
                    self.ancestors()?;
                    self.directory(&upper)?;
                }
                let open = |node: &Node| node.directory().map_err(|source| self.failed("open", source));
                let (lower, directory) = (open(lower)?, open(&upper)?);
                self.push(Some(lower), directory, (!is_changed).then_some(upper))
            }
            Verdict::Changed => self.added(upper),
            Verdict::Same | Verdict::SameIfContentsAre => self.unchanged(&upper),
        }
    }

    /// A name that did not change. If another name of the same file came, this one must be one file with it.
    fn unchanged(&mut self, upper: &Node) -> Result<()> {
        if upper.facts.names < 2 {
            return Ok(());
        }
        let group = self.groups.entry(upper.inode).or_default();
        if group.written.is_some() {
            return self.file(upper);
        }
        group.unchanged.push(self.path.clone());
        Ok(())
    }

    /// The entries of the directories on the way that were not worth one so far.
    fn ancestors(&mut self) -> Result<()> {
        for position in 0..self.stack.len() {
            if let Some(node) = self.stack[position].unwritten.take() {
                let path = self.path[..self.stack[position].path_length].to_vec();
                self.directory_at(&node, &path)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, node: &Node) -> Result<()> {
        let path = self.path.clone();
        self.directory_at(node, &path)
    }

    fn directory_at(&mut self, node: &Node, path: &[u8]) -> Result<()> {
        self.report.xattrs_skipped += node.xattrs_skipped;
        node.entry(path).map_or(Ok(()), |entry| self.write(&entry))
    }

    /// What is no directory: its entry, or a link to an earlier one.
    fn file(&mut self, node: &Node) -> Result<()> {
        let Some(entry) = node.entry(&self.path) else {
            self.report.sockets_skipped += 1;
            return Ok(());
        };
        self.ancestors()?;
        if node.facts.names < 2 {
            return self.whole(node, &entry);
        }
        let group = self.groups.entry(node.inode).or_default();
        if let Some(target) = group.written.clone() {
            return self.link(&entry, target);
        }
        group.written = Some(self.path.clone());
        let unchanged = std::mem::take(&mut group.unchanged);
        self.whole(node, &entry)?;
        for path in unchanged {
            self.again(&path)?;
            self.link(&Entry { path, ..entry.clone() }, self.path.clone())?;
        }
        Ok(())
    }

    fn link(&mut self, entry: &Entry, target: Vec<u8>) -> Result<()> {
        let link = Entry { link: target, kind: Kind::HardLink, size: 0, xattrs: Vec::new(), ..entry.clone() };
        self.write(&link)
    }

    /// Writes the directories above `path` once more: the walk is past them, and what is put into them must not change
    /// their times.
    fn again(&mut self, path: &[u8]) -> Result<()> {
        let Some(root) = self.stack.first() else { return Ok(()) };
        let mut here = root.upper.try_clone().map_err(|source| self.failed("open", source))?;
        let mut from = 0;
        for (slash, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let name = c_string(&path[from..slash]);
            let node = Node::open(here.as_fd(), &name).map_err(|source| self.failed("look at", source))?;
            // Gone meanwhile: unpacking makes what is missing.
            let Some(node) = node.filter(|node| node.kind == SFlag::S_IFDIR) else { return Ok(()) };
            self.directory_at(&node, &path[..slash])?;
            here = node.directory().map_err(|source| self.failed("open", source))?;
            from = slash + 1;
        }
        Ok(())
    }

    fn whole(&mut self, node: &Node, entry: &Entry) -> Result<()> {
        self.report.xattrs_skipped += node.xattrs_skipped;
        if entry.kind != Kind::Regular {
            return self.write(entry);
        }
        let mut file = node.contents().map_err(|source| self.failed("open", source))?;
        self.write(entry)?;
        let mut left = entry.size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let length = match file.read(&mut self.buffer[..wanted]) {
                Ok(0) => return Err(CompareError::Changed { path: shown(&self.path) }),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.failed("read", source)),
            };
            self.tar.content(&self.buffer[..length]).map_err(output)?;
            left -= length as u64;
            self.written += length as u64;
            (self.progress)(self.written).map_err(output)?;
        }
        Ok(())
    }

    fn write(&mut self, entry: &Entry) -> Result<()> {
        self.report.entries += 1;
        if self.report.entries > self.limits.entries_max {
            return Err(self.refused(format!("a layer has at most {} entries", self.limits.entries_max)));
        }
        self.tar.entry(entry).map_err(output)
    }
}
