//! The log file: CRI line format, rotated by size (IO-12, IO-13).
//!
//! A line without its newline is written at once, marked `P`, so that nothing sits in memory when the shim dies and a
//! follower sees a prompt. Rotation happens between whole lines only.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bosun_types::Timestamp;
use bosun_types::stdio::{LogTarget, OutputStream};

use crate::error::{Context as _, Result};

/// Longest text of one record; longer lines become several, all but the last marked `P`.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub struct LogFile {
    target: LogTarget,
    /// By way of its open directory: that may be moved, and the files of the next rotation belong beside those of the last.
    path: String,
    /// What [`Self::path`] leads through.
    _directory: Option<File>,
    file: Option<File>,
    bytes: u64,
    /// Whether the last record of stdout, of stderr is a part.
    partial: [bool; 2],
}

impl LogFile {
    /// Opens the file for appending, and makes it and its directory when they are not there.
    pub fn open(target: &LogTarget) -> Result<Self> {
        let whole = Path::new(&target.path);
        let parent = whole.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut directory = None;
        if let Some(parent) = parent {
            fs::create_dir_all(parent).context(|| format!("make {}", parent.display()))?;
            directory = Some(File::open(parent).context(|| format!("open {}", parent.display()))?);
        }
        let path = match (&directory, whole.file_name().and_then(|name| name.to_str())) {
            (Some(directory), Some(name)) => format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()),
            _ => target.path.clone(),
        };
        let file = open_append(&path).context(|| format!("open log {}", target.path))?;
        let bytes = file.metadata().context(|| format!("open log {}", target.path))?.len();
        let target = target.clone();
        Ok(Self { target, path, _directory: directory, file: Some(file), bytes, partial: [false; 2] })
    }

    /// Writes bytes that were read at `at` as records. A failing disk loses records, never stops the container.
    pub fn append(&mut self, stream: OutputStream, at: Timestamp, bytes: &[u8]) {
        let stamp = at.to_string();
        let mut records = Vec::with_capacity(bytes.len() + 64);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = match line.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (line, false),
            };
            let mut parts = text.chunks(TEXT_BYTES_MAX).peekable();
            if parts.peek().is_none() {
                record(&mut records, &stamp, stream, b"", whole);
            }
            while let Some(part) = parts.next() {
                record(&mut records, &stamp, stream, part, whole && parts.peek().is_none());
            }
            self.partial[index(stream)] = !whole;
            if whole && self.is_full(records.len()) {
                self.write(&records);
                records.clear();
                self.rotate();
            }
        }
        if !records.is_empty() {
            self.write(&records);
        }
    }

    /// The stream has ended; nothing is held back, so there is nothing to do but forget its open line.
    pub fn end(&mut self, stream: OutputStream) {
        self.partial[index(stream)] = false;
    }

    fn is_full(&self, more: usize) -> bool {
        let limit = self.target.bytes_max;
        limit > 0 && self.bytes + more as u64 >= limit && self.partial == [false; 2]
    }

    fn write(&mut self, records: &[u8]) {
        if self.file.is_none() {
            self.file = open_append(&self.path).ok();
        }
        if let Some(file) = &mut self.file
            && file.write_all(records).is_ok()
        {
            self.bytes += records.len() as u64;
        }
    }

    /// `path` becomes `path.1`, `path.1` becomes `path.2`, …; what is beyond the limit goes.
    fn rotate(&mut self) {
        let path = &self.path;
        let kept = self.target.files_max.max(1);
        let old = |number: u32| if number == 0 { path.clone() } else { format!("{path}.{number}") };
        let _ = fs::remove_file(old(kept - 1));
        for number in (0..kept - 1).rev() {
            let _ = fs::rename(old(number), old(number + 1));
        }
        self.file = open_append(path).ok();
        self.bytes = 0;
    }
}

fn index(stream: OutputStream) -> usize {
    match stream {
        OutputStream::Stdout => 0,
        OutputStream::Stderr => 1,
    }
}

fn record(to: &mut Vec<u8>, stamp: &str, stream: OutputStream, text: &[u8], whole: bool) {
    let name = match stream {
        OutputStream::Stdout => " stdout ",
        OutputStream::Stderr => " stderr ",
    };
    to.extend_from_slice(stamp.as_bytes());
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(if whole { b"F " } else { b"P " });
    to.extend_from_slice(text);
    to.push(b'\n');
}

fn open_append(path: &str) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(bytes_max: u64, files_max: u32) -> (tempfile::TempDir, LogFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/c.log").to_str().unwrap().to_owned();
        let file = LogFile::open(&LogTarget { path, bytes_max, files_max }).unwrap();
        (directory, file)
    }

    fn lines(file: &LogFile) -> Vec<String> {
        let text = fs::read_to_string(&file.target.path).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn io_13_whole_lines_and_parts_are_marked() {
        let (_directory, mut file) = log(0, 1);
        file.append(OutputStream::Stdout, Timestamp::now(), b"one\n\ntwo");
        file.append(OutputStream::Stderr, Timestamp::now(), b"err\n");
        file.append(OutputStream::Stdout, Timestamp::now(), b"\n");
        assert_eq!(lines(&file), ["stdout F one", "stdout F ", "stdout P two", "stderr F err", "stdout F "]);
    }

    #[test]
    fn io_13_a_line_that_is_too_long_becomes_parts() {
        let (_directory, mut file) = log(0, 1);
        file.append(
            OutputStream::Stdout,
            Timestamp::now(),
            &[vec![b'x'; TEXT_BYTES_MAX + 1], b"\n".to_vec()].concat(),
        );
        let lines = lines(&file);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("stdout P x") && lines[1] == "stdout F x");
    }

    #[test]
    fn io_13_a_log_whose_directory_was_moved_rotates_where_it_is() {
        let (directory, mut file) = log(20, 2);
        std::fs::rename(directory.path().join("sub"), directory.path().join("moved")).unwrap();
        for _ in 0..2 {
            file.append(OutputStream::Stdout, Timestamp::now(), b"more than twenty bytes\n");
        }
        let moved = directory.path().join("moved");
        assert!(moved.join("c.log").exists() && moved.join("c.log.1").exists());
        assert!(!directory.path().join("sub").exists());
    }

    #[test]
    fn io_13_files_rotate_between_whole_lines_and_no_more_are_kept_than_asked() {
        let (_directory, mut file) = log(100, 3);
        for number in 0..20 {
            file.append(OutputStream::Stdout, Timestamp::now(), format!("line {number:02} part").as_bytes());
            file.append(OutputStream::Stdout, Timestamp::now(), b" rest\n");
        }
        let path = file.target.path.clone();
        assert!(fs::exists(format!("{path}.1")).unwrap() && fs::exists(format!("{path}.2")).unwrap());
        assert!(!fs::exists(format!("{path}.3")).unwrap());
        let old = fs::read_to_string(format!("{path}.1")).unwrap();
        assert!(old.ends_with("stdout F  rest\n"));
        assert!(old.len() < 300);
    }
}
