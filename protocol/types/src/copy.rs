//! Copying files out of containers and into them: what is looked at, what is asked for, what was done.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What kind of file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a FIFO, a socket.
    Other,
}

/// A file in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a regular file.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change of its contents.
    pub modified_at: Timestamp,
    /// Where a symbolic link points to, as it says.
    pub link: Option<String>,
}

/// Something to copy out of a container, as a tar stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOut {
    /// Path in the container, counted from its root.
    pub path: String,
    /// What it is called in the stream. Empty: of a directory only what it holds.
    pub rename: String,
    /// A symbolic link at the end of `path` is followed.
    pub follow: bool,
}

/// A tar stream to put into a directory of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyIn {
    /// The directory, counted from the container's root. It must exist.
    pub directory: String,
    /// Owners as the stream says, inside the container; else everything belongs to its root.
    pub keep_owners: bool,
}

/// What a copy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Copied {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// Left out: sockets on the way out, devices on the way in.
    pub skipped: u64,
}
