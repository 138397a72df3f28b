//! The daemon's side of `bosun-shim`: start one ([`ShimLauncher`]), speak to one ([`ShimConnection`]).
//!
//! A shim that hangs costs its own task a deadline and nobody else anything (F18): each request has a deadline, each
//! connection a bounded number of requests and notices, and nothing here holds a lock over a wait.

mod attach;
mod connection;
mod launcher;
mod spawn;

pub use attach::Attachment;
pub use connection::{ShimConnection, ShimSkew, connect, skew};
pub use launcher::{ShimLauncher, ShimLog};
