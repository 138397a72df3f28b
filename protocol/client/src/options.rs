//! How to reach the daemon, and how long to wait for it.

use std::path::PathBuf;
use std::time::Duration;

use bosun_types::NamespaceName;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "/run/bosun/bosun.sock";

/// How a [`crate::Client`] connects and how patient its calls are.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The daemon's socket.
    pub address: PathBuf,
    /// How long to wait for a daemon that is not there yet, on the first connection (CLT-1).
    pub connect_deadline: Duration,
    /// How long to wait for one that was there and has gone: what is open goes on when it is back.
    pub reconnect_deadline: Duration,
    /// How long each call may take. Waits and streams have no deadline.
    pub call_deadline: Duration,
    /// What [`Client::default_namespace`](crate::Client::default_namespace) gives (CLT-2).
    pub namespace: NamespaceName,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            address: PathBuf::from(DEFAULT_ADDRESS),
            connect_deadline: Duration::from_secs(60),
            reconnect_deadline: Duration::from_secs(60),
            call_deadline: Duration::from_secs(120),
            namespace: NamespaceName::default_name(),
        }
    }
}

impl ConnectOptions {
    /// Defaults for this address; a leading `unix://` is taken off.
    pub fn address(address: &str) -> Self {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        Self { address: PathBuf::from(path), ..Self::default() }
    }

    /// With this default namespace.
    #[must_use]
    pub fn namespace(self, namespace: NamespaceName) -> Self {
        Self { namespace, ..self }
    }

    /// With this patience for a daemon that is not there yet; 60 s unless told otherwise.
    #[must_use]
    pub fn connect_deadline(self, connect_deadline: Duration) -> Self {
        Self { connect_deadline, ..self }
    }

    /// With this deadline of each call; 120 s unless told otherwise.
    #[must_use]
    pub fn call_deadline(self, call_deadline: Duration) -> Self {
        Self { call_deadline, ..self }
    }
}
