//! The distribution protocol (OCI distribution-spec 1.1), client side: resolve, fetch, push (rows REM-*).
//!
//! What is deliberately absent: files, digest-addressed storage, unpacking. Bytes come out as streams; who stores them is another's business.

mod auth;
mod client;
mod error;
mod push;
mod retry;

pub use auth::{Credential, Credentials, NoCredentials};
pub use client::{Fetch, Registry, RegistryOptions};
pub use error::{RegistryError, Result};

/// Installs the TLS provider of this process, once; again: nothing.
pub fn install_crypto_provider() {
    // Err means that one is installed already: that is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests;
