//! What can go wrong with the store.

use std::path::PathBuf;

use bosun_types::ErrorClass;
use bosun_types::error::{chain, class_of_io};

/// Short form.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A failure of the database.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the root.
    #[error("root {} is in use by {holder}", root.display())]
    Locked {
        /// The root.
        root: PathBuf,
        /// Who holds it, as it wrote itself.
        holder: String,
    },
    /// Writes are refused; reading goes on.
    #[error("the database is read-only: {why}")]
    ReadOnly {
        /// Why.
        why: String,
    },
    /// A stored value does not decode.
    #[error("a value of table {table} is damaged (key {key}): {why}")]
    Damaged {
        /// Its table.
        table: &'static str,
        /// Its key, escaped.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The database was written by a newer bosun.
    #[error("the database has format {found}, this build reads up to {supported}")]
    TooNew {
        /// Format found.
        found: u32,
        /// Newest format known.
        supported: u32,
    },
    /// The database does not open.
    #[error("database {} cannot be opened: {why}", path.display())]
    Open {
        /// Its folder.
        path: PathBuf,
        /// What it said.
        why: String,
    },
    /// A commit failed; nothing of it is there.
    #[error("the commit failed: {why}")]
    Commit {
        /// Class by cause: no space is ResourceExhausted.
        class: ErrorClass,
        /// What the database said.
        why: String,
    },
    /// A commit failed and it cannot be known yet whether it is there: read again before repeating it.
    #[error("the commit may or may not be there: {why}")]
    InDoubt {
        /// Class by cause.
        class: ErrorClass,
        /// What the database said.
        why: String,
    },
    /// The committer has stopped.
    #[error("the store is closed")]
    Closed,
    /// A file beside the database.
    #[error("{what} {}: {why}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Class by cause.
        class: ErrorClass,
        /// The system's word.
        why: String,
    },
}

impl StoreError {
    /// A failed file operation.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        Self::File { what, path: path.into(), class: class_of_io(error), why: error.to_string() }
    }

    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Locked { .. } => ErrorClass::FailedPrecondition,
            Self::ReadOnly { .. } | Self::Closed => ErrorClass::Unavailable,
            Self::Damaged { .. } => ErrorClass::DataLoss,
            Self::TooNew { .. } => ErrorClass::FailedPrecondition,
            Self::Open { .. } => ErrorClass::DataLoss,
            Self::Commit { class, .. } | Self::InDoubt { class, .. } | Self::File { class, .. } => *class,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Locked { .. } => Some("stop the other bosund, or give this one another --root"),
            Self::ReadOnly { .. } => {
                Some("`bosun daemon status` says why; docs/operations/README.md says what to do")
            }
            Self::TooNew { .. } => Some("use the newer bosund again; nothing was changed"),
            Self::Commit { class: ErrorClass::ResourceExhausted, .. }
            | Self::InDoubt { class: ErrorClass::ResourceExhausted, .. } => {
                Some("free space on the root's file system; nothing acknowledged is lost")
            }
            _ => None,
        }
    }
}

impl From<StoreError> for bosun_types::Error {
    fn from(error: StoreError) -> Self {
        let mapped = Self::new(error.class(), chain(&error));
        match error.hint() {
            Some(hint) => mapped.with_hint(hint),
            None => mapped,
        }
    }
}
