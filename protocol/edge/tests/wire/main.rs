//! The edge over real sockets, with real clients, foreign ones, and peers that speak no protocol at all.

mod access;
mod calls;
mod content;
mod hostile;
mod keys;
mod pipelining;
mod records;
mod support;
