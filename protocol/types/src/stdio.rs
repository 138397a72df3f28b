//! Where a process's standard streams go (IO-*). The daemon passes paths; only the shim touches bytes (IO-2).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::log_program::LogProgram;

/// Streams of one process. All `None` and no log: `/dev/null` (IO-5). FIFOs and log may both be given: the shim feeds both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
pub struct Stdio {
    /// FIFO the client made; the shim reads it. [`STDIN_ATTACH`]: what attached clients write.
    pub stdin: Option<String>,
    /// FIFO or existing file; the shim writes it. For a task also the `binary://` URI of a [`LogProgram`], which gets stderr too.
    pub stdout: Option<String>,
    /// FIFO or existing file; must be `None` with a terminal (IO-6).
    pub stderr: Option<String>,
    /// Give the process a pseudo-terminal.
    pub terminal: bool,
    /// Log file that the shim writes and rotates.
    pub log: Option<LogTarget>,
}

/// A log file in the CRI line format: `<RFC 3339 ns> <stdout|stderr> <F|P> <text>`; `P` marks a part of a longer line.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct LogTarget {
    /// The newest file; older ones are `<path>.1`, `<path>.2`, … In a request that wants the daemon's log file: empty, its place.
    pub path: String,
    /// Rotate above this many bytes.
    pub bytes_max: u64,
    /// Keep this many files, the newest included.
    pub files_max: u32,
}

impl Stdio {
    /// The logging program that `stdout` names, if it names one.
    pub fn log_program(&self) -> Result<Option<LogProgram>, Error> {
        self.stdout.as_deref().filter(|uri| LogProgram::is_uri(uri)).map(str::parse).transpose()
    }

    /// InvalidArgument: a path is not absolute, a terminal has two outputs (IO-6), or a logging program is not alone.
    pub fn check(&self) -> Result<(), Error> {
        let program = self.log_program()?;
        if program.is_some() && self.stderr.is_some() {
            return Err(Error::invalid_argument(
                "a logging program gets both streams: stderr must not be given",
            ));
        }
        let stdout = self.stdout.as_ref().filter(|_| program.is_none());
        if self.terminal && self.stderr.is_some() {
            return Err(Error::invalid_argument("a terminal has one output: stderr must not be given"));
        }
        let stdin = self.stdin.as_ref().filter(|stdin| *stdin != STDIN_ATTACH);
        match stdin.into_iter().chain(stdout).chain(&self.stderr).find(|path| !path.starts_with('/')) {
            None => Ok(()),
            Some(path) => Err(Error::invalid_argument(format!("stream path {path:?} is not absolute"))),
        }?;
        match &self.log {
            Some(log) if !log.path.is_empty() && !log.path.starts_with('/') => {
                Err(Error::invalid_argument(format!("log path {:?} is not absolute", log.path)))
            }
            Some(log) if log.files_max == 0 => Err(Error::invalid_argument("a log keeps at least one file")),
            _ => Ok(()),
        }
    }
}

/// As [`Stdio::stdin`]: no FIFO, but a pipe that clients write to by `writeStdin`; it stays open until `closeStdin`. Output is then kept for clients that attach,
/// whether it goes anywhere else or not.
pub const STDIN_ATTACH: &str = "attach:";
/// Most bytes of one write to standard input.
pub const STDIN_WRITE_BYTES_MAX: usize = 64 << 10;

/// What happens to a reader of the live output that falls behind what is kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Output goes on; the reader is told how many bytes it missed.
    #[default]
    DropOldest,
    /// The process waits until the reader has read.
    Block,
    /// What the reader missed it gets from the log file; without a log, or when the log has rotated it away: as `DropOldest`.
    Spill,
}

/// How to attach to a process's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttachRequest {
    /// Where to begin.
    pub from: AttachFrom,
    /// When the reader falls behind.
    pub overflow: Overflow,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum AttachFrom {
    /// With as much of the output before now as is kept, at most this many bytes.
    Replay(u32),
    /// At this byte of all that the process has ever written: what somebody who was attached before has not read. What is no longer kept is told as
    /// [`AttachRecord::Missed`].
    Position(u64),
}

impl Default for AttachFrom {
    /// From now on.
    fn default() -> Self {
        Self::Replay(0)
    }
}

/// A piece of live output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachRecord {
    /// Bytes as the process wrote them.
    Output {
        /// Which stream.
        stream: OutputStream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// So many bytes are gone for this reader.
    Missed(u64),
}

impl AttachRecord {
    /// Bytes of the process's output that it stands for.
    pub fn length(&self) -> u64 {
        match self {
            Self::Output { bytes, .. } => bytes.len() as u64,
            Self::Missed(bytes) => *bytes,
        }
    }
}

impl Default for LogTarget {
    /// At the daemon's place.
    fn default() -> Self {
        Self { path: String::new(), bytes_max: LOG_BYTES_MAX_DEFAULT, files_max: LOG_FILES_MAX_DEFAULT }
    }
}

/// Default size of a log file before rotation.
pub const LOG_BYTES_MAX_DEFAULT: u64 = 16 << 20;
/// Default number of log files kept.
pub const LOG_FILES_MAX_DEFAULT: u32 = 4;

/// One stream of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output, and everything of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One record of a log, as readers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// When the shim read it.
    pub at: crate::Timestamp,
    /// Which stream.
    pub stream: OutputStream,
    /// The bytes; ends with a newline unless the line goes on in the next record.
    pub bytes: Vec<u8>,
}

/// What to read of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// Go on until the process ended and everything was read.
    pub follow: bool,
    /// Start with the last N lines only.
    pub tail_lines: Option<u64>,
    /// Skip what is older.
    pub since: Option<crate::Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_6_streams_are_checked() {
        let path = |path: &str| Some(path.to_owned());
        let good = [
            Stdio::default(),
            Stdio { stdin: path(STDIN_ATTACH), terminal: true, ..Stdio::default() },
            Stdio { stdout: path("binary:///a?b=c"), ..Stdio::default() },
            Stdio { stdin: path("/a"), stdout: path("/b"), stderr: path("/c"), ..Stdio::default() },
        ];
        good.iter().for_each(|stdio| stdio.check().expect("good"));
        let bad = [
            Stdio { stderr: path("/c"), terminal: true, ..Stdio::default() },
            Stdio { stdout: path(STDIN_ATTACH), ..Stdio::default() },
            Stdio { stdin: path("a"), ..Stdio::default() },
            Stdio { stderr: path(""), ..Stdio::default() },
            Stdio { stdout: path("binary:///a"), stderr: path("/b"), ..Stdio::default() },
            Stdio { stdout: path("binary://a"), ..Stdio::default() },
        ];
        bad.iter().for_each(|stdio| assert!(stdio.check().is_err(), "{stdio:?}"));
    }
}
