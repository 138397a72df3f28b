//! A file in chunks, cut into records; and the numbering of lines.

use std::io;
use std::os::unix::fs::FileExt as _;

use bosun_types::stdio::OutputStream;

use super::files::LogFile;
use super::on_worker;
use super::record::{Parsed, parse};
use crate::error::{Context as _, Result};

/// Bytes taken by one read.
const CHUNK_BYTES: usize = 64 << 10;
/// Longest record; what is longer was not written by a shim and is skipped.
const RECORD_BYTES_MAX: usize = 64 << 10;

/// Reads one file forward. At its end it can be asked again: the file may have grown.
#[derive(Debug)]
pub struct LineReader {
    file: LogFile,
    offset: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were handed out already.
    used: usize,
    /// In the middle of something too long: everything up to the next newline goes.
    skipping: bool,
}

impl LineReader {
    /// From the file's beginning.
    pub fn new(file: LogFile) -> Self {
        Self { file, offset: 0, buffer: Vec::new(), used: 0, skipping: false }
    }

    /// Which file.
    pub fn file(&self) -> &LogFile {
        &self.file
    }

    /// The next whole record among the bytes read. What does not parse is left out: one damaged line does not hide the
    /// rest of a log.
    pub fn next_record(&mut self) -> Option<Parsed> {
        loop {
            let rest = &self.buffer[self.used..];
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line = &rest[..end];
            let parsed = if self.skipping { None } else { parse(line) };
            self.used += end + 1;
            if parsed.is_none() && !std::mem::take(&mut self.skipping) {
                tracing::debug!(offset = self.offset, "a line of a log is no record");
            }
            if parsed.is_some() {
                return parsed;
            }
        }
    }

    /// Reads on; `false` at the end of the file.
    pub async fn fill(&mut self) -> Result<bool> {
        self.buffer.drain(..self.used);
        self.used = 0;
        if self.buffer.len() > RECORD_BYTES_MAX {
            self.buffer.clear();
            self.skipping = true;
        }
        let (file, offset) = (self.file.file.clone(), self.offset);
        let mut buffer = std::mem::take(&mut self.buffer);
        let (buffer, count) = on_worker(move || {
            let kept = buffer.len();
            buffer.resize(kept + CHUNK_BYTES, 0);
            let count = read_at(&file, &mut buffer[kept..], offset).context(|| "read a log".into())?;
            buffer.truncate(kept + count);
            Ok((buffer, count))
        })
        .await?;
        self.buffer = buffer;
        self.offset += count as u64;
        Ok(count > 0)
    }
}

fn read_at(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Numbers lines in the order in which they begin; a line may be several records, and lines of the two streams may be
/// written in turns.
#[derive(Debug, Default)]
pub struct LineNumbers {
    next: u64,
    open: [Option<u64>; 2],
}

impl LineNumbers {
    /// The number of the line that a record belongs to; `whole`: the line ends with it.
    pub fn number_of(&mut self, stream: OutputStream, whole: bool) -> u64 {
        let open = &mut self.open[match stream {
            OutputStream::Stdout => 0,
            OutputStream::Stderr => 1,
        }];
        let number = open.take().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        if !whole {
            *open = Some(number);
        }
        number
    }

    /// How many have begun.
    pub fn count(&self) -> u64 {
        self.next
    }
}
