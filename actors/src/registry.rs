//! The real registries behind [`RegistryPort`]. Words are translated here and nothing is decided.

use bosun_registry::{Registry, RegistryOptions};
use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bosun_types::{Error, Result};
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::ports::{Fetch, RegistryPort};

/// Registries over http.
pub struct RealRegistry {
    registry: Registry,
}

impl RealRegistry {
    /// Anonymous; installs the process's TLS provider.
    pub fn new() -> Result<Self> {
        bosun_registry::install_crypto_provider();
        Ok(Self { registry: Registry::new(RegistryOptions::default())? })
    }
}

impl RegistryPort for RealRegistry {
    fn resolve<'a>(
        &'a self,
        reference: &'a Reference,
        plain_http: bool,
    ) -> BoxFuture<'a, Result<Descriptor>> {
        Box::pin(async move { Ok(self.registry.resolve(reference, plain_http).await?) })
    }

    fn fetch_bytes<'a>(
        &'a self,
        reference: &'a Reference,
        descriptor: &'a Descriptor,
        plain_http: bool,
    ) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move { Ok(self.registry.fetch_bytes(reference, descriptor, plain_http).await?) })
    }

    fn fetch<'a>(
        &'a self,
        reference: &'a Reference,
        descriptor: &'a Descriptor,
        offset: u64,
        plain_http: bool,
    ) -> BoxFuture<'a, Result<Fetch>> {
        Box::pin(async move {
            let fetch = self.registry.fetch(reference, descriptor, offset, plain_http).await?;
            Ok(Fetch { offset: fetch.offset, stream: fetch.stream.map_err(Error::from).boxed() })
        })
    }
}
