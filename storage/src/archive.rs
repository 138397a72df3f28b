//! Layer archives: a tar stream onto a directory, with nothing in the stream able to reach outside of it.
//!
//! - Every name is resolved below the target's descriptor by `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`, never as
//!   a string; metadata goes through descriptors (CVE-2018-20990, CVE-2021-32760, CVE-2025-47290, CVE-2026-33056).
//! - One authority for the size of an entry: PAX if given, else the header (CVE-2025-62518).
//! - Every count, length and depth of the stream has a limit ([`Limits`]).
//! - Nothing is synced per file: the caller syncs the snapshot once, before the row that names it commits.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::compression::CompressionLimits;

mod error;
pub(crate) mod metadata;
pub(crate) mod path;
mod pax;
pub(crate) mod reader;
pub(crate) mod root;
mod sparse;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
mod unpack;
pub(crate) mod whiteout;
pub(crate) mod writer;
pub(crate) mod xattr;

pub use error::ArchiveError;

/// Size of the buffer in front of an unbuffered stream, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// Short form.
pub type Result<T, E = ArchiveError> = std::result::Result<T, E>;

/// What a `.wh.` entry becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// The form overlayfs reads: character device 0:0, `trusted.overlay.opaque`. For a layer's own directory.
    Overlay,
    /// The named file, or the directory's other contents, are removed. For a directory that holds the parents' files too.
    Remove,
    /// Nothing: it is a file like any other. For what is no layer.
    Ordinary,
}

/// Bounds on what one archive may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in one archive.
    pub entries_max: u64,
    /// Length of a path or link target, in bytes.
    pub path_bytes_max: usize,
    /// Components of a path.
    pub depth_max: usize,
    /// Length of the value of one extended attribute, in bytes.
    pub xattr_bytes_max: usize,
    /// Length of one extended header (PAX or GNU long name), in bytes.
    pub header_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries_max: 10_000_000,
            path_bytes_max: 4096,
            depth_max: 256,
            xattr_bytes_max: 64 << 10,
            header_bytes_max: 1 << 20,
        }
    }
}

/// How to unpack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackOptions {
    /// What becomes of whiteouts.
    pub whiteouts: Whiteouts,
    /// Make device nodes; else they are skipped and counted.
    pub devices: bool,
    /// Give files the owners that the archive names; else they belong to the caller.
    pub owners: bool,
    /// A directory in the way of something else, or something else in the way of a directory, is refused, not replaced.
    pub keep_kinds: bool,
    /// Roots of the parent layers, nearest first, that lend owner and mode to directories the archive only implies.
    pub parents: Vec<PathBuf>,
    /// Bounds.
    pub limits: Limits,
    /// Bounds on the decompression that comes before, where it does.
    pub compression: CompressionLimits,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            whiteouts: Whiteouts::Overlay,
            devices: true,
            owners: true,
            keep_kinds: false,
            parents: Vec::new(),
            limits: Limits::default(),
            compression: CompressionLimits::default(),
        }
    }
}

/// What an unpack did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnpackReport {
    /// Entries in the archive, whiteouts included.
    pub entries: u64,
    /// Bytes of file contents that the archive held.
    pub bytes: u64,
    /// Whiteouts and opaque marks.
    pub whiteouts: u64,
    /// Device nodes left out.
    pub devices_skipped: u64,
    /// Extended attributes left out: not supported by the file system, or not an archive's business.
    pub xattrs_skipped: u64,
    /// Directories that the archive only implied and no given parent had.
    pub implicit_directories: u64,
}

/// Unpacks a plain tar stream into `target`, reading it to its end. On failure the target is partly filled (DIF-6): the
/// caller removes it.
pub fn unpack(reader: impl Read, target: &Path, options: &UnpackOptions) -> Result<UnpackReport> {
    unpack_buffered(BufReader::with_capacity(BUFFER_BYTES, reader), target, options)
}

/// The same for a stream that has a buffer of its own: file contents are written straight out of it.
pub fn unpack_buffered(reader: impl BufRead, target: &Path, options: &UnpackOptions) -> Result<UnpackReport> {
    let unpacker = unpack::Unpacker::new(target, options)?;
    unpacker.run(&mut reader::TarReader::new(reader, options.limits))
}

/// The same into a root that is open, for what is no layer: `change` has a say in each entry that is not the root itself.
pub(crate) fn unpack_into(
    root: root::Root,
    reader: impl BufRead,
    options: &UnpackOptions,
    change: impl FnMut(&mut reader::Entry),
) -> Result<UnpackReport> {
    let mut reader = reader::TarReader::new(reader, options.limits);
    unpack::Unpacker::below(root, options).run_changed(&mut reader, change)
}
