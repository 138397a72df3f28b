//! Files with holes: the maps of GNU's four ways to say where stored bytes belong, and a writer that leaves holes where zeros would be.
//!
//! Maps come from outside (CVE-2025-58183): they are bounded, in order, without overlaps, and end where the file ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use tar::GnuSparseHeader;

/// Zeros that a block of every common file system holds; fewer leave no hole, in bytes.
const HOLE_BYTES: usize = 4096;
/// Parts of one file, at most: some 4 MiB of memory.
const PARTS_MAX: usize = 1 << 18;
/// Largest file with holes, in bytes: what ext4 carries. Holes cost whoever sends them nothing.
const FILE_BYTES_MAX: u64 = 1 << 44;

/// Where the stored bytes of an entry belong, and how large the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    /// Offset and length in bytes, in order.
    parts: Vec<(u64, u64)>,
    /// Of the file, in bytes.
    pub(super) size: u64,
}

impl Map {
    pub(super) fn new(parts: &[(u64, u64)], size: u64) -> Result<Self, String> {
        if size > FILE_BYTES_MAX {
            return Err(format!("a sparse file of {size} bytes, at most {FILE_BYTES_MAX} are allowed"));
        }
        let mut end = 0;
        for (offset, length) in parts {
            let next = offset.checked_add(*length);
            if *offset < end || next.is_none_or(|next| next > size) {
                return Err("the map of a sparse file is out of order or beyond its end".to_owned());
            }
            end = offset + length;
        }
        let parts = parts.iter().filter(|(_, length)| *length > 0).copied().collect();
        Ok(Self { parts, size })
    }

    /// Bytes that the archive holds of it.
    pub(super) fn stored(&self) -> u64 {
        self.parts.iter().map(|(_, length)| length).sum()
    }
}

/// Collects the parts of a map one by one.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<(u64, u64)>);

impl Parts {
    pub(super) fn push(&mut self, offset: u64, length: u64) -> Result<(), String> {
        if self.0.len() == PARTS_MAX {
            return Err(format!("a sparse file of more than {PARTS_MAX} parts"));
        }
        self.0.push((offset, length));
        Ok(())
    }

    /// The fields of an old GNU header or one of its extensions.
    pub(super) fn old_gnu(&mut self, fields: &[GnuSparseHeader]) -> Result<(), String> {
        for field in fields.iter().filter(|field| !field.is_empty()) {
            let number = |field: io::Result<u64>| field.map_err(|_| "unreadable sparse map".to_owned());
            self.push(number(field.offset())?, number(field.length())?)?;
        }
        Ok(())
    }

    pub(super) fn finish(self, size: u64) -> Result<Map, String> {
        Map::new(&self.0, size)
    }
}

/// PAX's three versions: what was said of the next entry.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    version: (Option<u64>, Option<u64>),
    pub(super) path: Option<Vec<u8>>,
    size: Option<u64>,
    parts: Parts,
    offset: Option<u64>,
}

/// Where a map of PAX is.
pub(super) enum PaxMap {
    /// It was in the records.
    Here(Map),
    /// Version 1.0: it stands in front of the data; the file has this size.
    InData(u64),
}

impl PaxSparse {
    /// A record `GNU.sparse.<key>`.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let number = || number(value).ok_or("a PAX record of a sparse file is not a number");
        match key {
            b"major" => self.version.0 = Some(number()?),
            b"minor" => self.version.1 = Some(number()?),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"numblocks" => {}
            b"offset" => self.offset = Some(number()?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or("a length without an offset in a sparse map")?;
                self.parts.push(offset, number()?)?;
            }
            b"map" if value.is_empty() => {}
            b"map" => {
                let mut numbers = value.split(|byte| *byte == b',').map(self::number);
                while let Some(offset) = numbers.next() {
                    let pair = offset.zip(numbers.next().flatten());
                    let (offset, length) = pair.ok_or("the map of a sparse file is malformed")?;
                    self.parts.push(offset, length)?;
                }
            }
            _ => return Err("a sparse file of an unknown kind".to_owned()),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<PaxMap, String> {
        let size = self.size.ok_or("a sparse file without a size")?;
        match self.version {
            (None | Some(0), _) => self.parts.finish(size).map(PaxMap::Here),
            (Some(1), Some(0)) if self.parts.0.is_empty() => Ok(PaxMap::InData(size)),
            _ => Err("a sparse file of an unknown version".to_owned()),
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    // The parser of the library takes a plus sign.
    let digits = text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// The map in front of the data, version 1.0: decimal numbers, one a line; their count, then offset and length of each part.
#[derive(Debug, Default)]
pub(super) struct DataMap {
    line: Vec<u8>,
    /// Numbers that are still to come; unknown before the first.
    left: Option<u64>,
    offset: Option<u64>,
    parts: Parts,
}

impl DataMap {
    /// One more byte; true when it was the last of the map.
    pub(super) fn byte(&mut self, byte: u8) -> Result<bool, String> {
        if byte != b'\n' {
            // Twenty digits hold any 64-bit number.
            if self.line.len() == 20 {
                return Err("the map of a sparse file is malformed".to_owned());
            }
            self.line.push(byte);
            return Ok(false);
        }
        let number = number(&self.line).filter(|_| !self.line.is_empty());
        let number = number.ok_or("the map of a sparse file is malformed")?;
        self.line.clear();
        let Some(left) = &mut self.left else {
            let left = number.checked_mul(2).ok_or("the map of a sparse file is malformed")?;
            self.left = Some(left);
            return Ok(left == 0);
        };
        *left -= 1;
        let is_last = *left == 0;
        match self.offset.take() {
            None => self.offset = Some(number),
            Some(offset) => self.parts.push(offset, number)?,
        }
        Ok(is_last)
    }

    pub(super) fn finish(self, size: u64) -> Result<Map, String> {
        self.parts.finish(size)
    }
}

/// Where the next stored byte belongs.
#[derive(Debug)]
pub(super) struct Places {
    parts: std::vec::IntoIter<(u64, u64)>,
    pub(super) at: u64,
    /// Bytes from there on that belong together.
    pub(super) left: u64,
}

impl Places {
    /// One after the other.
    pub(super) fn dense() -> Self {
        Self { parts: Vec::new().into_iter(), at: 0, left: u64::MAX }
    }

    pub(super) fn of(map: Map) -> Self {
        let mut places = Self { parts: map.parts.into_iter(), at: 0, left: 0 };
        places.advance(0);
        places
    }

    pub(super) fn advance(&mut self, length: u64) {
        (self.at, self.left) = (self.at + length, self.left - length);
        if self.left == 0
            && let Some(part) = self.parts.next()
        {
            (self.at, self.left) = part;
        }
    }
}

/// A new file that is written with holes where its bytes are zero.
pub(super) struct HoleyFile<'a> {
    file: &'a File,
    end: u64,
}

impl<'a> HoleyFile<'a> {
    /// The file is new and empty.
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, end: 0 }
    }

    /// Puts bytes where they belong, but for whole blocks of zeros.
    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut begin, mut here) = (0, 0);
        while here < bytes.len() {
            let into = usize::try_from((at + here as u64) % HOLE_BYTES as u64).unwrap_or(0);
            let next = bytes.len().min(here + HOLE_BYTES - into);
            // What is left out of a block that was written in part is zero all the same.
            if bytes[here..next] == [0; HOLE_BYTES][..next - here] {
                self.write(at + begin as u64, &bytes[begin..here])?;
                begin = next;
            }
            here = next;
        }
        self.write(at + begin as u64, &bytes[begin..])
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.end = at + bytes.len() as u64;
        self.file.write_all_at(bytes, at)
    }

    /// The file has this size: a hole may be its end.
    pub(super) fn finish(self, size: u64) -> io::Result<()> {
        if self.end == size { Ok(()) } else { self.file.set_len(size) }
    }
}
