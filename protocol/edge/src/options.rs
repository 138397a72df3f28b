//! Where the edge listens, and its limits. Everything a peer can make the daemon hold has a number here.

use std::path::PathBuf;
use std::time::Duration;

/// How the edge listens.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// The socket.
    pub socket: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// Its owner; `None`: the daemon's.
    pub uid: Option<u32>,
    /// Its group; `None`: the daemon's.
    pub gid: Option<u32>,
    /// Threads that serve connections.
    pub threads: usize,
    /// bosun's version, for clients.
    pub version: String,
    /// Git revision; empty when unknown.
    pub revision: String,
    /// Limits.
    pub limits: EdgeLimits,
}

impl EdgeOptions {
    /// Defaults for this socket: mode 0660, one thread.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            mode: 0o660,
            uid: None,
            gid: None,
            threads: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
            limits: EdgeLimits::default(),
        }
    }
}

/// What one peer, and all of them together, may hold.
#[derive(Debug, Clone)]
pub struct EdgeLimits {
    /// Connections at once. Each costs some 150 KiB of buffers.
    pub connections: usize,
    /// Calls under way on one connection; more are refused as overloaded.
    pub calls_in_flight: usize,
    /// Waits and cursor reads under way on one connection: cheap, but each holds a waiter in an actor.
    pub waits_in_flight: usize,
    /// Capabilities held by one connection.
    pub capabilities: usize,
    /// Bulk bytes of one connection that are read but not yet stored. A peer that keeps to its window stays far below.
    pub bulk_bytes_in_flight: usize,
    /// How long a new connection may take until its first whole message.
    pub handshake: Duration,
    /// How long a message that has begun may stand still.
    pub stall: Duration,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            calls_in_flight: 64,
            waits_in_flight: 4096,
            capabilities: 4096,
            bulk_bytes_in_flight: 16 << 20,
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(30),
        }
    }
}
