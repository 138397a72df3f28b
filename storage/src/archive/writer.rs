//! Writes tar: POSIX headers, and PAX records for what they cannot hold (long names, large owners, fractions of a second,
//! extended attributes). The same entries give the same bytes.

use std::fmt::Write as _;
use std::io::{self, Write};

use tar::{EntryType, Header};

use super::reader::{BLOCK_BYTES, Entry, Kind};

/// Longest name and link target of a header itself, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// Largest owner that seven octal digits hold.
const OWNER_MAX: u32 = 0o7_777_777;
/// Largest size and time that eleven octal digits hold.
const NUMBER_MAX: u64 = 0o77_777_777_777;
/// What stands in front of the name of an extended header; only readers that do not know PAX show it.
const PAX_DIRECTORY: &[u8] = b"PaxHeaders.0/";

/// A tar stream that is being written. An entry with content is followed by exactly as many bytes as its header says.
#[derive(Debug)]
pub(crate) struct TarWriter<W> {
    output: W,
    /// Bytes of content that the last header promised and that did not come yet.
    owed: u64,
    /// Zero bytes that follow them.
    padding: u64,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output, owed: 0, padding: 0 }
    }

    /// Begins an entry. Only regular files have content.
    pub(crate) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        debug_assert_eq!(self.owed, 0, "the content of the entry before is not whole");
        let records = pax_records(entry);
        if !records.is_empty() {
            self.extended(entry, &records)?;
        }
        let mut header = header_of(entry);
        header.set_cksum();
        self.output.write_all(header.as_bytes())?;
        self.owe(if entry.kind == Kind::Regular { entry.size } else { 0 });
        Ok(())
    }

    /// Some of the content of the entry that was begun last.
    pub(crate) fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.owed =
            self.owed.checked_sub(length).ok_or_else(|| io::Error::other("more content than promised"))?;
        self.output.write_all(bytes)?;
        if self.owed == 0 { self.pad() } else { Ok(()) }
    }

    /// Writes the end mark and gives the output back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK_BYTES as usize])?;
        Ok(self.output)
    }

    fn extended(&mut self, entry: &Entry, records: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        let base = entry.path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or_default();
        let mut name = PAX_DIRECTORY.to_vec();
        name.extend(base.iter().take(NAME_BYTES_MAX - PAX_DIRECTORY.len()));
        set_bytes(&mut header, 0, &name);
        header.set_cksum();
        self.output.write_all(header.as_bytes())?;
        self.owe(records.len() as u64);
        self.content(records)
    }

    fn owe(&mut self, size: u64) {
        self.owed = size;
        self.padding = (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES;
    }

    fn pad(&mut self) -> io::Result<()> {
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        self.output.write_all(&[0; BLOCK_BYTES as usize][..padding])
    }
}

fn header_of(entry: &Entry) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(match entry.kind {
        Kind::Regular => EntryType::Regular,
        Kind::HardLink => EntryType::Link,
        Kind::Symlink => EntryType::Symlink,
        Kind::Character => EntryType::Char,
        Kind::Block => EntryType::Block,
        Kind::Directory => EntryType::Directory,
        Kind::Fifo => EntryType::Fifo,
    });
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.min(OWNER_MAX).into());
    header.set_gid(entry.gid.min(OWNER_MAX).into());
    header.set_mtime(u64::try_from(entry.mtime.0).unwrap_or(0).min(NUMBER_MAX));
    header.set_size(if entry.kind == Kind::Regular { entry.size.min(NUMBER_MAX) } else { 0 });
    if matches!(entry.kind, Kind::Character | Kind::Block) {
        // Linux's numbers (12 and 20 bits) fit, and a ustar header has the fields.
        let _ =
            header.set_device_major(entry.device.0).and_then(|()| header.set_device_minor(entry.device.1));
    }
    set_bytes(&mut header, 0, &entry.path[..entry.path.len().min(NAME_BYTES_MAX)]);
    set_bytes(&mut header, 157, &entry.link[..entry.link.len().min(NAME_BYTES_MAX)]);
    header
}

/// Names are bytes: the header's own setters want text and refuse what they take for unsafe.
fn set_bytes(header: &mut Header, at: usize, bytes: &[u8]) {
    header.as_mut_bytes()[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What the header cannot hold, in a fixed order.
fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    for (key, name) in [("path", &entry.path), ("linkpath", &entry.link)] {
        if name.len() > NAME_BYTES_MAX {
            if std::str::from_utf8(name).is_err() {
                // POSIX: without it the names of a PAX header are UTF-8.
                record(&mut records, b"hdrcharset", b"BINARY");
            }
            record(&mut records, key.as_bytes(), name);
        }
    }
    if entry.kind == Kind::Regular && entry.size > NUMBER_MAX {
        record(&mut records, b"size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if id > OWNER_MAX {
            record(&mut records, key.as_bytes(), id.to_string().as_bytes());
        }
    }
    let whole_and_small = u64::try_from(entry.mtime.0).is_ok_and(|seconds| seconds <= NUMBER_MAX);
    if entry.mtime.1 != 0 || !whole_and_small {
        record(&mut records, b"mtime", time_text(entry.mtime).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

/// `"<length> <key>=<value>\n"`, where the length counts the whole record, its own digits too.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + " =\n".len();
    let mut length = body;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds and nanoseconds (never negative) as `[-]<seconds>[.<fraction>]`.
fn time_text((seconds, nanoseconds): (i64, i64)) -> String {
    let mut text = String::new();
    let (whole, fraction) = if seconds < 0 && nanoseconds > 0 {
        text.push('-');
        ((seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds)
    } else {
        if seconds < 0 {
            text.push('-');
        }
        (seconds.unsigned_abs(), nanoseconds)
    };
    // Writing to a string cannot fail.
    let _ = write!(text, "{whole}");
    if fraction > 0 {
        let _ = write!(text, ".{fraction:09}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Limits;
    use crate::archive::reader::TarReader;

    fn entry(path: &[u8], kind: Kind) -> Entry {
        Entry { path: path.to_vec(), mode: 0o644, ..Entry::new(kind) }
    }

    fn read_back(entry: &Entry) -> Entry {
        let mut writer = TarWriter::new(Vec::new());
        writer.entry(entry).unwrap();
        let tar = writer.finish().unwrap();
        assert_eq!(tar.len() % 512, 0);
        TarReader::new(&tar[..], Limits::default()).next().unwrap().expect("one entry")
    }

    #[test]
    fn what_is_written_is_read_back_whatever_it_is() {
        let long = [b"d".repeat(90), b"f".repeat(90), b"g".repeat(200)].join(&b'/');
        let not_text = [b"\xff\xfe/".as_slice(), &b"n".repeat(150)].concat();
        for path in
            [b"a".as_slice(), &b"n".repeat(100), &b"n".repeat(101), &long, &not_text, b"new\nline", b"\xff"]
        {
            for mtime in
                [(0, 0), (5, 1), (5, 120_000_000), (-1, 0), (-2, 750_000_000), (1 << 40, 999_999_999)]
            {
                let written = Entry {
                    link: path.to_vec(),
                    uid: 2_097_152,
                    gid: u32::MAX - 1,
                    mode: 0o4755,
                    mtime,
                    xattrs: vec![
                        (b"user.a".to_vec(), b"x\ny=z\0".to_vec()),
                        (b"user.b".to_vec(), Vec::new()),
                    ],
                    ..entry(path, Kind::Symlink)
                };
                assert_eq!(read_back(&written), written);
            }
        }
        let device = Entry { device: (4095, 1_048_575), ..entry(b"dev", Kind::Block) };
        assert_eq!(read_back(&device), device);
    }

    #[test]
    fn sizes_beyond_the_header_are_told_by_pax() {
        let mut writer = TarWriter::new(Vec::new());
        let big = Entry { size: NUMBER_MAX + 1, ..entry(b"big", Kind::Regular) };
        writer.entry(&big).unwrap();
        let tar = writer.output;
        assert!(tar.windows(16).any(|window| window == b"size=8589934592\n"));
        let read = TarReader::new(&tar[..], Limits::default()).next().unwrap().expect("one entry");
        assert_eq!(read, big);
    }

    #[test]
    fn content_is_padded_and_never_more_than_promised() {
        let mut writer = TarWriter::new(Vec::new());
        writer.entry(&Entry { size: 600, ..entry(b"a", Kind::Regular) }).unwrap();
        writer.content(&[1; 300]).unwrap();
        writer.content(&[2; 300]).unwrap();
        writer.content(&[3]).expect_err("too much");
        writer.entry(&entry(b"b", Kind::Fifo)).unwrap();
        assert_eq!(writer.finish().unwrap().len(), 512 + 1024 + 512 + 1024);
    }
}
