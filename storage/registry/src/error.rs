//! What can go wrong with a registry, by what the user can do about it.

use bosun_types::error::chain;
use bosun_types::{Digest, ErrorClass};

/// Short form.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// A failure of a registry, or of the way to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// 404.
    #[error("{what}: the registry does not have it")]
    NotFound {
        /// Reference or digest.
        what: String,
    },
    /// 401, or 403 without credentials.
    #[error("{what}: the registry wants credentials, or refuses those given")]
    Unauthenticated {
        /// Reference or digest.
        what: String,
    },
    /// 403.
    #[error("{what}: the registry denies access")]
    Denied {
        /// Reference or digest.
        what: String,
    },
    /// Any other answer that is no success.
    #[error("{what}: the registry answered {status}{detail}")]
    Status {
        /// Reference or digest.
        what: String,
        /// HTTP status.
        status: u16,
        /// What it said, shortened; with a leading colon.
        detail: String,
    },
    /// No answer: refused, cut, too slow.
    #[error("{what}: cannot reach the registry")]
    Connection {
        /// Reference or digest.
        what: String,
        /// What the client said.
        #[source]
        source: reqwest::Error,
    },
    /// The peer sends nothing any more.
    #[error("{what}: no bytes for {seconds} s")]
    Stalled {
        /// Reference or digest.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// Bytes come, but too slowly.
    #[error("{what}: not complete after {deadline:?}")]
    TooSlow {
        /// Reference or digest.
        what: String,
        /// How long it may take.
        deadline: std::time::Duration,
    },
    /// Bytes that are not what was promised.
    #[error("{what}: promised {promised}, received {received}")]
    Mismatch {
        /// Reference or digest.
        what: String,
        /// Digest or size.
        promised: String,
        /// Digest or size.
        received: String,
    },
    /// The settings of a host cannot be used.
    #[error("registry settings {}: {why}", file.display())]
    Settings {
        /// File or directory.
        file: std::path::PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The http client cannot be made as the settings want it.
    #[error("registry settings: the certificates cannot be used")]
    Client {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The settings leave no host to ask.
    #[error("{what}: no host is configured for {capability}")]
    Nobody {
        /// Reference.
        what: String,
        /// What was wanted of it.
        capability: String,
    },
    /// What an index points at is not there (REM-21).
    #[error(
        "{what}: manifest list/index references to blobs and/or manifests are missing in your target registry{detail}"
    )]
    MissingChildren {
        /// Reference.
        what: String,
        /// What the registry said, with a leading colon.
        detail: String,
    },
    /// An answer that makes no sense.
    #[error("{what}: the registry's answer is malformed: {why}")]
    Malformed {
        /// Reference or digest.
        what: String,
        /// What is wrong.
        why: String,
    },
}

impl RegistryError {
    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound { .. } => ErrorClass::NotFound,
            Self::Unauthenticated { .. } => ErrorClass::Unauthenticated,
            Self::Denied { .. } => ErrorClass::PermissionDenied,
            Self::Status { status, .. } if *status == 429 || *status >= 500 => ErrorClass::Unavailable,
            Self::Status { .. }
            | Self::Settings { .. }
            | Self::Client { .. }
            | Self::Nobody { .. }
            | Self::MissingChildren { .. } => ErrorClass::FailedPrecondition,
            Self::Connection { .. } | Self::Stalled { .. } | Self::TooSlow { .. } => ErrorClass::Unavailable,
            Self::Mismatch { .. } | Self::Malformed { .. } => ErrorClass::DataLoss,
        }
    }

    /// Whether the same request may go through later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Connection { .. } | Self::Stalled { .. } | Self::TooSlow { .. } => true,
            _ => false,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } => Some(
                "look at the repository's name and tag; some registries say this to those without access",
            ),
            Self::Unauthenticated { .. } => Some(
                "the repository may be private, or not exist; credentials come from ~/.docker/config.json or --user",
            ),
            Self::Denied { .. } => {
                Some("pull access denied, repository does not exist or may require authorization")
            }
            Self::Connection { source, .. } if source.is_connect() => {
                Some("is the registry up? a registry without TLS needs --plain-http")
            }
            Self::Status { status: 429, .. } => Some("the registry limits the rate: try later"),
            _ => None,
        }
    }

    pub(crate) fn digest_mismatch(what: &str, promised: &Digest, received: &Digest) -> Self {
        Self::Mismatch {
            what: what.to_owned(),
            promised: promised.to_string(),
            received: received.to_string(),
        }
    }
}

impl From<RegistryError> for bosun_types::Error {
    fn from(error: RegistryError) -> Self {
        let mapped = Self::new(error.class(), chain(&error));
        match error.hint() {
            Some(hint) => mapped.with_hint(hint),
            None => mapped,
        }
    }
}
