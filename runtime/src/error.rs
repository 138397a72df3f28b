//! The crate's error: what was tried on which thing, and what the kernel or the shim said.

use std::io;

use bosun_types::{Error, ErrorClass, error};

/// Short form used in this crate.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A system call failed.
    #[error("{context}")]
    Io {
        /// What was tried, with the name of the thing.
        context: String,
        /// Why not.
        source: io::Error,
    },
    /// Typed already, here or by the shim.
    #[error("{0}")]
    Typed(Error),
    /// A test asked for it.
    #[error(transparent)]
    Injected(#[from] bosun_faults::Injected),
}

impl RuntimeError {
    /// Its class.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Io { source, .. } => error::class_of_io(source),
            Self::Typed(error) => error.class,
            Self::Injected(_) => ErrorClass::Unknown,
        }
    }
}

impl From<Error> for RuntimeError {
    fn from(error: Error) -> Self {
        Self::Typed(error)
    }
}

impl From<RuntimeError> for Error {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Typed(error) => error,
            other => Self::new(other.class(), error::chain(&other)),
        }
    }
}

/// Says what was tried when it failed.
pub(crate) trait Context<T> {
    /// Adds what was tried; called only on failure.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| RuntimeError::Io { context: what(), source: error.into() })
    }
}
