//! What is remembered of an ingest beside its bytes: whose it is and what was promised.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use bosun_types::content::IngestStatus;
use bosun_types::{Digest, NamespaceName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::content::{ContentError, Result, io_error};

/// Largest status file that is read, in bytes: a ref and a digest, JSON-escaped.
const STATUS_BYTES_MAX: u64 = 64 << 10;

/// What is remembered of an ingest beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StatusFile {
    pub(super) namespace: NamespaceName,
    pub(super) reference: String,
    pub(super) total: u64,
    pub(super) expected: Option<Digest>,
    pub(super) started_at: Timestamp,
    /// Size of the promised blob, which is in the store: there are no bytes here (CON-19).
    #[serde(default)]
    pub(super) shared: Option<u64>,
}

impl StatusFile {
    /// With how far it is.
    pub(super) fn describe(&self, offset: u64, updated_at: Timestamp) -> IngestStatus {
        IngestStatus {
            reference: self.reference.clone(),
            offset: self.shared.unwrap_or(offset),
            total: self.total,
            expected: self.expected,
            digest: None,
            started_at: self.started_at,
            updated_at,
        }
    }
}

/// Adds what is newly promised to what is recorded; a contradiction is refused (CON-15).
pub(super) fn renew(
    directory: &Path,
    recorded: StatusFile,
    total: u64,
    expected: Option<Digest>,
) -> Result<StatusFile> {
    let refuse = |why: String| ContentError::Refused { reference: recorded.reference.clone(), why };
    if total != 0 && recorded.total != 0 && total != recorded.total {
        return Err(refuse(format!("{total} bytes are promised now, {} were before", recorded.total)));
    }
    if let (Some(now), Some(before)) = (expected, recorded.expected)
        && now != before
    {
        return Err(refuse(format!("digest {now} is promised now, {before} was before")));
    }
    let mut renewed = recorded.clone();
    renewed.total = recorded.total.max(total);
    renewed.expected = recorded.expected.or(expected);
    // Whether it is shared is found out anew each time.
    renewed.shared = None;
    if renewed != recorded {
        write_status(directory, &renewed)?;
    }
    Ok(renewed)
}

/// `None` when the ingest is new, or when a crash left a directory without a readable status.
pub(super) fn read_status(directory: &Path) -> Result<Option<StatusFile>> {
    let path = directory.join("status");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", &path)(error)),
    };
    let mut text = Vec::new();
    file.take(STATUS_BYTES_MAX).read_to_end(&mut text).map_err(io_error("read", &path))?;
    Ok(serde_json::from_slice(&text).ok())
}

/// Whole or not at all, but not synced: a lost status costs a resume, never a wrong blob.
pub(super) fn write_status(directory: &Path, status: &StatusFile) -> Result<()> {
    let path = directory.join("status");
    let fresh = directory.join("status.new");
    let text = serde_json::to_vec(status).map_err(|error| io_error("write", &path)(error.into()))?;
    fs::write(&fresh, text).map_err(io_error("write", &fresh))?;
    fs::rename(&fresh, &path).map_err(io_error("rename", &fresh))
}
