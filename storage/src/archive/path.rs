//! Names in an archive: cleaned into plain components before anything is resolved.

use std::ffi::CString;
use std::fmt::Write as _;

use super::{ArchiveError, Limits, Result};

/// Longest single component, in bytes: what Linux file systems take.
const COMPONENT_BYTES_MAX: usize = 255;
/// How much of a name appears in messages, in characters.
const SHOWN_CHARS_MAX: usize = 120;

/// A name without `.`, `..`, empty components and slashes at either end. Empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CleanPath {
    bytes: Vec<u8>,
}

impl CleanPath {
    /// Cleans a name. An absolute one counts from the root. One with `..` is refused: no honest archive has it, and what
    /// it means depends on symbolic links that may not be there yet.
    pub(crate) fn new(raw: &[u8], limits: &Limits) -> Result<Self> {
        let refuse = |why: String| Err(ArchiveError::Refused { path: shown(raw), why });
        if raw.len() > limits.path_bytes_max {
            return refuse(format!("longer than {} bytes", limits.path_bytes_max));
        }
        if raw.contains(&0) {
            return refuse("contains a NUL byte".to_owned());
        }
        let mut bytes = Vec::with_capacity(raw.len());
        let mut depth = 0;
        for component in raw.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return refuse("points upwards with '..'".to_owned()),
                _ if component.len() > COMPONENT_BYTES_MAX => {
                    return refuse(format!("has a component longer than {COMPONENT_BYTES_MAX} bytes"));
                }
                _ => {}
            }
            depth += 1;
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(component);
        }
        if depth > limits.depth_max {
            return refuse(format!("deeper than {} directories", limits.depth_max));
        }
        Ok(Self { bytes })
    }

    pub(crate) fn is_root(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The parent (empty for the root) and the last component.
    pub(crate) fn split(&self) -> (&[u8], &[u8]) {
        match self.bytes.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.bytes[..slash], &self.bytes[slash + 1..]),
            None => (&[], &self.bytes),
        }
    }
}

/// A component or path for system calls; `CleanPath` has already refused NUL bytes.
pub(crate) fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

/// A name for messages: shortened, and nothing in it can play tricks on a terminal.
pub(crate) fn shown(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut out: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        let _ = write!(out, "… ({} bytes)", raw.len());
    }
    out
}
