//! The domain error: one class, one message, an optional hint. It crosses the wire unchanged (rows ERR-1..6).
//!
//! Crates keep their own `thiserror` enums with sources; each has a `From<…> for Error` that prints the chain once,
//! `"context: cause"` (ERR-5). Here the class is final: nobody maps it twice (ERR-4).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Short form used in every handle and port.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is. The first seven are containerd's (ERR-1); the rest say what its gRPC codes said raw (ERR-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// No class fits; a bug report is welcome.
    Unknown,
    /// The request is malformed whatever the state.
    InvalidArgument,
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists already.
    AlreadyExists,
    /// The request is well formed, but the state forbids it.
    FailedPrecondition,
    /// Try again: overloaded, starting, locked, or a peer is away.
    Unavailable,
    /// This build or backend does not do that.
    NotImplemented,
    /// A read or write beyond the end, or at an offset that is not the current one.
    OutOfRange,
    /// Stored bytes are damaged or fewer than acknowledged.
    DataLoss,
    /// A limit was reached: disk, memory, calls in flight, pids.
    ResourceExhausted,
    /// The caller's deadline passed; the operation may still be running.
    DeadlineExceeded,
    /// The caller, or a contradicting request, cancelled it.
    Cancelled,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// Credentials are right, the right is not held.
    PermissionDenied,
    /// An invariant of bosun broke.
    Internal,
}

impl ErrorClass {
    /// The base text, as containerd's clients know it (ERR-1).
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid argument",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::FailedPrecondition => "failed precondition",
            Self::Unavailable => "unavailable",
            Self::NotImplemented => "not implemented",
            Self::OutOfRange => "out of range",
            Self::DataLoss => "data loss",
            Self::ResourceExhausted => "resource exhausted",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::Cancelled => "cancelled",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission denied",
            Self::Internal => "internal error",
        }
    }
}

impl std::fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// A typed failure: what failed and why (`message`), what to do about it (`hint`).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, thiserror::Error)]
#[error("{message}: {class}")]
pub struct Error {
    /// The class that programs match on.
    pub class: ErrorClass,
    /// Names the thing and the cause; without the class text (ERR-4).
    pub message: String,
    /// What the reader can do, when there is something to do.
    pub hint: Option<String>,
}

impl Error {
    /// An error of `class`; `message` names the thing and the cause.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None }
    }

    /// Adds what the reader can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prefixes `context: ` to the message; the class stays (ERR-5).
    #[must_use]
    pub fn context(mut self, context: impl std::fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $class:ident),* $(,)?) => {
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self { Self::new(ErrorClass::$class, message) })*
        }
    };
}

constructors! {
    /// See [`ErrorClass::InvalidArgument`].
    invalid_argument => InvalidArgument,
    /// See [`ErrorClass::NotFound`].
    not_found => NotFound,
    /// See [`ErrorClass::AlreadyExists`].
    already_exists => AlreadyExists,
    /// See [`ErrorClass::FailedPrecondition`].
    failed_precondition => FailedPrecondition,
    /// See [`ErrorClass::Unavailable`].
    unavailable => Unavailable,
    /// See [`ErrorClass::NotImplemented`].
    not_implemented => NotImplemented,
    /// See [`ErrorClass::OutOfRange`].
    out_of_range => OutOfRange,
    /// See [`ErrorClass::DataLoss`].
    data_loss => DataLoss,
    /// See [`ErrorClass::ResourceExhausted`].
    resource_exhausted => ResourceExhausted,
    /// See [`ErrorClass::DeadlineExceeded`].
    deadline_exceeded => DeadlineExceeded,
    /// See [`ErrorClass::Cancelled`].
    cancelled => Cancelled,
    /// See [`ErrorClass::Unauthenticated`].
    unauthenticated => Unauthenticated,
    /// See [`ErrorClass::PermissionDenied`].
    permission_denied => PermissionDenied,
    /// See [`ErrorClass::Internal`].
    internal => Internal,
}

/// Prints an error and its sources once, as `"context: cause: cause"`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Maps an IO error to the class a user would expect of it: no space is ResourceExhausted, and so on.
pub fn class_of_io(error: &std::io::Error) -> ErrorClass {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::NotFound => ErrorClass::NotFound,
        K::AlreadyExists => ErrorClass::AlreadyExists,
        K::PermissionDenied => ErrorClass::PermissionDenied,
        K::StorageFull | K::QuotaExceeded | K::OutOfMemory => ErrorClass::ResourceExhausted,
        K::TimedOut => ErrorClass::DeadlineExceeded,
        K::ConnectionRefused | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => {
            ErrorClass::Unavailable
        }
        K::InvalidInput => ErrorClass::InvalidArgument,
        K::UnexpectedEof | K::InvalidData => ErrorClass::DataLoss,
        _ => match error.raw_os_error() {
            // EMFILE, ENFILE: a limit; EAGAIN of fork: pids.
            Some(24 | 23 | 11) => ErrorClass::ResourceExhausted,
            _ => ErrorClass::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn err_5_a_class_stays_under_any_depth_of_context() {
        let error = Error::not_found("blob x").with_hint("pull it");
        let deep = (0..20).fold(error, |error, level| error.context(format!("level {level}")));
        assert_eq!(deep.class, ErrorClass::NotFound);
        assert!(
            deep.message.starts_with("level 19: level 18: ") && deep.message.ends_with(": blob x"),
            "{deep}"
        );
        assert_eq!(deep.hint.as_deref(), Some("pull it"));
    }
}
