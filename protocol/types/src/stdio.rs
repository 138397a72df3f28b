//! Where a process's standard streams go (IO-*). The daemon passes paths; only the shim touches bytes (IO-2).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Streams of one process. All `None` and no log: `/dev/null` (IO-5). FIFOs and log may both be given: the shim feeds both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
pub struct Stdio {
    /// FIFO the client made; the shim reads it.
    pub stdin: Option<String>,
    /// FIFO or existing file; the shim writes it.
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
    /// The newest file; older ones are `<path>.1`, `<path>.2`, …
    pub path: String,
    /// Rotate above this many bytes.
    pub bytes_max: u64,
    /// Keep this many files, the newest included.
    pub files_max: u32,
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
