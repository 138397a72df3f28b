//! The distribution protocol (OCI distribution-spec 1.1), client side: resolve, fetch, push (rows REM-*).
//!
//! What is deliberately absent: files, digest-addressed storage, unpacking. Bytes come out as streams; who stores them is another's business.

mod auth;
mod client;
mod error;
mod hosts;
mod places;
mod pull;
mod push;
mod retry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use client::{Access, Registry, RegistryOptions, Repository};
pub use error::{RegistryError, Result};
pub use pull::Fetch;
pub use push::{BlobSource, Pushed};

/// Installs the TLS provider of this process, once; again: nothing.
pub fn install_crypto_provider() {
    // Err means that one is installed already: that is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod cve_tests;
#[cfg(test)]
mod elsewhere_tests;
#[cfg(test)]
mod faults_tests;
#[cfg(test)]
mod tests;
