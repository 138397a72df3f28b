//! Reads the structure of a tar stream: headers, PAX and GNU extensions, sizes. What the names mean is not its business.
//!
//! The `tar` crate decodes header fields; the iteration is ours, because it must bound extended headers before they are in
//! memory, split PAX records by their lengths (values may hold newlines), and have one authority for an entry's size:
//! PAX if given, else the header, and nothing for types that carry no data (as the Go readers, which made nearly every
//! image, have it).

use std::io::{self, BufRead};

use tar::{EntryType, Header};

use super::path::shown;
use super::pax::Extensions;
use super::sparse::{DataMap, Map, Parts, PaxMap, Places};
use super::{ArchiveError, Limits, Result};

/// Tar's unit of everything, in bytes.
pub(crate) const BLOCK_BYTES: u64 = 512;
/// Largest user or group id: 2^32-1 means "leave it" to the kernel, and beyond it wraps to root (CVE-2024-40635).
const OWNER_MAX: u64 = u32::MAX as u64 - 1;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// One entry's header, extensions applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    /// Of the file. The archive holds fewer bytes of one with holes.
    pub(crate) size: u64,
    /// It has holes: its bytes are to be read with [`TarReader::piece`].
    pub(crate) sparse: bool,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, i64),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// An entry without a name, owned by root, made at the epoch.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            path: Vec::new(),
            link: Vec::new(),
            kind,
            size: 0,
            sparse: false,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }
}

/// A tar stream.
pub(crate) struct TarReader<R> {
    source: R,
    limits: Limits,
    /// Headers read so far, extended ones included.
    count: u64,
    /// Bytes of the current entry's data that were not read yet.
    remaining: u64,
    /// Zero bytes that follow them.
    padding: u64,
    /// Where in the file they belong.
    places: Places,
    ended: bool,
}

impl<R: BufRead> TarReader<R> {
    pub(crate) fn new(source: R, limits: Limits) -> Self {
        Self { source, limits, count: 0, remaining: 0, padding: 0, places: Places::dense(), ended: false }
    }

    /// Headers read so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The next entry; what is left of the data of the one before is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.next_header()? else {
                if extensions.is_empty() {
                    return Ok(None);
                }
                return Err(self.malformed("an extended header without an entry ends the archive"));
            };
            match header.entry_type() {
                EntryType::XHeader => {
                    let data = self.extended(&header)?;
                    extensions.pax(&data, &self.limits).map_err(|why| self.malformed(why))?;
                }
                EntryType::GNULongName => {
                    let data = self.extended(&header)?;
                    extensions.gnu_path(data).map_err(|why| self.malformed(why))?;
                }
                EntryType::GNULongLink => {
                    let data = self.extended(&header)?;
                    extensions.gnu_link(data).map_err(|why| self.malformed(why))?;
                }
                // MNT-10: global headers are ignored.
                EntryType::XGlobalHeader => {
                    let size = header.entry_size().map_err(|_| self.malformed("unreadable size"))?;
                    self.begin_data(size)?;
                }
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, mut extensions: Extensions) -> Result<Entry> {
        let pax_sparse = extensions.sparse.take();
        // GNU tar puts the true name here, and one for readers that do not know sparse files where names are.
        let sparse_path = pax_sparse.as_ref().and_then(|sparse| sparse.path.clone());
        let path = match sparse_path.or_else(|| extensions.path.take()) {
            Some(path) => path,
            None => header.path_bytes().into_owned(),
        };
        let kind = self.kind(header, &path)?;
        let number = |what: &str, field: io::Result<u64>| {
            field
                .map_err(|_| ArchiveError::Malformed { entry: self.count, why: format!("unreadable {what}") })
        };
        let size = match (kind, extensions.size) {
            (Kind::Regular, Some(size)) => size,
            (Kind::Regular, None) => number("size", header.entry_size())?,
            _ => 0,
        };
        let owner = |what: &str, id: u64| {
            u32::try_from(id).ok().filter(|id| u64::from(*id) <= OWNER_MAX).ok_or_else(|| {
                ArchiveError::Refused { path: shown(&path), why: format!("{what} {id} is out of range") }
            })
        };
        let uid = owner("user id", extensions.uid.map_or_else(|| number("user id", header.uid()), Ok)?)?;
        let gid = owner("group id", extensions.gid.map_or_else(|| number("group id", header.gid()), Ok)?)?;
        let mtime = match extensions.mtime {
            Some(mtime) => mtime,
            // Base-256 fields may be negative: the bits are right.
            None => (number("time", header.mtime())?.cast_signed(), 0),
        };
        let mode = header.mode().map_err(|_| self.malformed("unreadable mode"))? & 0o7777;
        let device = match kind {
            Kind::Character | Kind::Block => {
                let part = |field: io::Result<Option<u32>>| {
                    field
                        .map(Option::unwrap_or_default)
                        .map_err(|_| self.malformed("unreadable device number"))
                };
                (part(header.device_major())?, part(header.device_minor())?)
            }
            _ => (0, 0),
        };
        let link = match extensions.link {
            Some(link) => link,
            None => header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default(),
        };
        let map = match pax_sparse {
            Some(_) if kind != Kind::Regular || header.entry_type() == EntryType::GNUSparse => {
                return Err(self.malformed("holes in what is no ordinary file"));
            }
            Some(sparse) => {
                let map = sparse.finish().map_err(|why| self.malformed(why))?;
                self.begin_data(size)?;
                match map {
                    PaxMap::Here(map) => Some(map),
                    PaxMap::InData(size) => Some(self.data_map(size)?),
                }
            }
            None if header.entry_type() == EntryType::GNUSparse => {
                let map = self.old_gnu_map(header)?;
                self.begin_data(size)?;
                Some(map)
            }
            None => {
                self.begin_data(size)?;
                None
            }
        };
        let sparse = map.is_some();
        let size = match map {
            None => size,
            Some(map) => {
                if map.stored() != self.remaining {
                    return Err(self.malformed("the map of a sparse file does not fit its data"));
                }
                let size = map.size;
                self.places = Places::of(map);
                size
            }
        };
        let xattrs = extensions.xattrs;
        Ok(Entry { path, link, kind, size, sparse, mode, uid, gid, mtime, device, xattrs })
    }

    /// The map in the header and in the blocks that follow it.
    fn old_gnu_map(&mut self, header: &Header) -> Result<Map> {
        let gnu = header.as_gnu().ok_or_else(|| self.malformed("a sparse file of an unknown kind"))?;
        let size = gnu.real_size().map_err(|_| self.malformed("unreadable size"))?;
        let mut parts = Parts::default();
        parts.old_gnu(&gnu.sparse).map_err(|why| self.malformed(why))?;
        let mut goes_on = gnu.is_extended();
        while goes_on {
            let block = self.block()?.ok_or(ArchiveError::Truncated { entry: self.count })?;
            let mut more = tar::GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(block.as_bytes());
            parts.old_gnu(more.sparse()).map_err(|why| self.malformed(why))?;
            goes_on = more.is_extended();
        }
        parts.finish(size).map_err(|why| self.malformed(why))
    }

    /// The map in front of the data, which it fills up to a block.
    fn data_map(&mut self, size: u64) -> Result<Map> {
        let (mut map, mut read, mut whole) = (DataMap::default(), 0_u64, false);
        while !whole || !read.is_multiple_of(BLOCK_BYTES) {
            if read == self.limits.header_bytes_max {
                let max = self.limits.header_bytes_max;
                return Err(self.malformed(format!("the map of a sparse file is longer than {max} bytes")));
            }
            let Some(&[byte, ..]) = self.chunk()? else {
                return Err(self.malformed("the map of a sparse file has no end"));
            };
            self.consume(1);
            read += 1;
            if !whole {
                whole = map.byte(byte).map_err(|why| self.malformed(why))?;
            }
        }
        map.finish(size).map_err(|why| self.malformed(why))
    }

    fn kind(&self, header: &Header, path: &[u8]) -> Result<Kind> {
        let kind = match header.entry_type() {
            // Before POSIX a directory was a file whose name ends in a slash.
            EntryType::Regular if path.ends_with(b"/") && header.as_bytes()[156] == 0 => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::Regular,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Char => Kind::Character,
            EntryType::Block => Kind::Block,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            other => {
                return Err(ArchiveError::Refused {
                    path: shown(path),
                    why: format!("entries of type {:?} are not supported", char::from(other.as_byte())),
                });
            }
        };
        Ok(kind)
    }

    /// The data of an extended header, bounded before it is read.
    fn extended(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.entry_size().map_err(|_| self.malformed("unreadable size"))?;
        if size > self.limits.header_bytes_max {
            let max = self.limits.header_bytes_max;
            return Err(
                self.malformed(format!("an extended header of {size} bytes, at most {max} are allowed"))
            );
        }
        self.begin_data(size)?;
        let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        while let Some(chunk) = self.chunk()? {
            data.extend_from_slice(chunk);
            let length = chunk.len();
            self.consume(length);
        }
        Ok(data)
    }

    fn begin_data(&mut self, size: u64) -> Result<()> {
        if size > i64::MAX.cast_unsigned() {
            return Err(self.malformed("impossible size"));
        }
        self.remaining = size;
        self.places = Places::dense();
        self.padding = (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES;
        Ok(())
    }

    /// The next header; `None` at the end of the archive, be it marked by zero blocks or by nothing.
    fn next_header(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        self.skip_data()?;
        let Some(header) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if is_zero(&header) {
            self.ended = true;
            return match self.block()? {
                Some(second) if !is_zero(&second) => Err(self.malformed("a zero block in the middle")),
                _ => Ok(None),
            };
        }
        self.count += 1;
        if self.count > self.limits.entries_max {
            return Err(self.malformed(format!("more than {} entries", self.limits.entries_max)));
        }
        let sum: u32 = header.as_bytes()[..148]
            .iter()
            .chain(&header.as_bytes()[156..])
            .fold(8 * 32, |sum, byte| sum + u32::from(*byte));
        if header.cksum().ok() != Some(sum) {
            return Err(self.malformed(if self.count == 1 {
                "not a tar archive (the checksum of the first header is wrong)"
            } else {
                "the checksum of the header is wrong"
            }));
        }
        Ok(Some(header))
    }

    /// One block; `None` at a clean end of the stream.
    fn block(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while filled < bytes.len() {
            let chunk = fill(&mut self.source)?;
            if chunk.is_empty() {
                if filled == 0 {
                    return Ok(None);
                }
                return Err(ArchiveError::Truncated { entry: self.count + 1 });
            }
            let length = chunk.len().min(bytes.len() - filled);
            bytes[filled..filled + length].copy_from_slice(&chunk[..length]);
            self.source.consume(length);
            filled += length;
        }
        Ok(Some(header))
    }

    /// Some of the current entry's data; `None` when there is no more. To be followed by `consume`.
    pub(crate) fn chunk(&mut self) -> Result<Option<&[u8]>> {
        if self.remaining == 0 {
            return Ok(None);
        }
        let entry = self.count;
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let chunk = fill(&mut self.source)?;
        if chunk.is_empty() {
            return Err(ArchiveError::Truncated { entry });
        }
        Ok(Some(&chunk[..chunk.len().min(limit)]))
    }

    /// As [`Self::chunk`], with the position in the file at which it belongs.
    pub(crate) fn piece(&mut self) -> Result<Option<(u64, &[u8])>> {
        let (at, left) = (self.places.at, usize::try_from(self.places.left).unwrap_or(usize::MAX));
        Ok(self.chunk()?.map(|chunk| (at, &chunk[..chunk.len().min(left)])))
    }

    pub(crate) fn consume(&mut self, length: usize) {
        self.source.consume(length);
        self.remaining -= length as u64;
        self.places.advance(length as u64);
    }

    fn skip_data(&mut self) -> Result<()> {
        let mut left = self.remaining + self.padding;
        while left > 0 {
            let chunk = fill(&mut self.source)?;
            if chunk.is_empty() {
                return Err(ArchiveError::Truncated { entry: self.count });
            }
            let length = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.source.consume(length);
            left -= length as u64;
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    /// Reads whatever follows the end of the archive: it is part of the digests.
    pub(crate) fn drain(&mut self) -> Result<()> {
        loop {
            let length = fill(&mut self.source)?.len();
            if length == 0 {
                return Ok(());
            }
            self.source.consume(length);
        }
    }

    pub(crate) fn malformed(&self, why: impl Into<String>) -> ArchiveError {
        ArchiveError::Malformed { entry: self.count, why: why.into() }
    }
}

fn is_zero(header: &Header) -> bool {
    header.as_bytes().iter().all(|byte| *byte == 0)
}

/// `fill_buf` that is not stopped by signals. Two calls, because a borrow cannot be returned from within a loop.
fn fill(source: &mut impl BufRead) -> Result<&[u8]> {
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ArchiveError::Read { source }),
        }
    }
    source.fill_buf().map_err(|source| ArchiveError::Read { source })
}
