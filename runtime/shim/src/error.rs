//! What goes wrong in the shim, and the one place where it becomes the wire's error.

use std::io;

use bosun_types::error::{chain, class_of_io};
use bosun_types::{Error, ErrorClass};

/// Short form used inside the shim.
pub type Result<T, E = ShimError> = std::result::Result<T, E>;

/// A failure inside the shim.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// A system call failed.
    #[error("{context}")]
    Io {
        /// What was tried, on what.
        context: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The embedded OCI runtime failed.
    #[error("{context}")]
    Embedded {
        /// What was tried.
        context: &'static str,
        /// Why it failed.
        #[source]
        source: libcontainer::error::LibcontainerError,
    },
    /// An external OCI runtime failed; the text is its own (TSK-33).
    #[error("{0}")]
    Runtime(String),
    /// A refusal whose class is known where it arises.
    #[error("{0}")]
    Typed(Error),
}

impl From<ShimError> for Error {
    fn from(error: ShimError) -> Self {
        match error {
            ShimError::Typed(error) => error,
            ShimError::Io { ref source, .. } => Self::new(class_of_io(source), chain(&error)),
            ShimError::Embedded { .. } | ShimError::Runtime(_) => {
                Self::new(ErrorClass::Unknown, chain(&error))
            }
        }
    }
}

impl From<Error> for ShimError {
    fn from(error: Error) -> Self {
        Self::Typed(error)
    }
}

/// Names what was tried when a system call fails.
pub trait Context<T> {
    /// `context` says what was tried, on what.
    fn context(self, context: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| ShimError::Io { context: context(), source })
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(io::Error::from).context(context)
    }
}
