//! Why the edge does not start.

use std::path::PathBuf;

use bosun_types::error::{chain, class_of_io};
use bosun_types::{Error, ErrorClass};

/// The edge could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeError {
    /// Somebody serves this socket already.
    #[error("{}: another daemon listens there", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// What stands at the socket's path is no socket; it is left alone.
    #[error("{}: exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit a socket address.
    #[error("{}: a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("{}: {doing}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A serving thread could not be started.
    #[error("cannot start a serving thread")]
    Thread(#[source] std::io::Error),
}

/// `sun_path` less its closing zero, less what the temporary name adds.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 99;

impl From<EdgeError> for Error {
    fn from(error: EdgeError) -> Self {
        let class = match &error {
            EdgeError::InUse { .. } => ErrorClass::AlreadyExists,
            EdgeError::NotASocket { .. } => ErrorClass::FailedPrecondition,
            EdgeError::PathTooLong { .. } => ErrorClass::InvalidArgument,
            EdgeError::Io { source, .. } => class_of_io(source),
            EdgeError::Thread(_) => ErrorClass::ResourceExhausted,
        };
        Self::new(class, chain(&error))
    }
}
