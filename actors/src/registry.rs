//! The real registries behind [`RegistryPort`]. Words are translated here and nothing is decided.

use std::path::PathBuf;
use std::sync::Arc;

use bosun_registry::{Registry, RegistryOptions, Repository};
use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bosun_types::{Digest, Error, Result};
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};

use crate::ports::{Access, BlobSource, Fetch, Pushed, RegistryPort, RepositoryPort};

/// Registries over http.
pub struct RealRegistry {
    registry: Registry,
}

impl RealRegistry {
    /// Installs the process's TLS provider. `hosts_directory` holds per-host settings, `<host>/hosts.toml`.
    pub fn new(hosts_directory: Option<PathBuf>) -> Result<Self> {
        bosun_registry::install_crypto_provider();
        let options = RegistryOptions { hosts_directory, ..RegistryOptions::default() };
        Ok(Self { registry: Registry::new(options)? })
    }
}

impl RegistryPort for RealRegistry {
    fn repository(&self, reference: &Reference, access: &Access) -> Result<Arc<dyn RepositoryPort>> {
        Ok(Arc::new(RealRepository(self.registry.repository(reference, access)?)))
    }
}

struct RealRepository(Repository);

impl RepositoryPort for RealRepository {
    fn resolve(&self) -> BoxFuture<'_, Result<Descriptor>> {
        Box::pin(self.0.resolve().map_err(Error::from))
    }

    fn find<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<Descriptor>> {
        Box::pin(self.0.find(digest).map_err(Error::from))
    }

    fn fetch_document(&self) -> BoxFuture<'_, Result<(String, Vec<u8>)>> {
        Box::pin(self.0.fetch_document().map_err(Error::from))
    }

    fn blob_size<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<u64>> {
        Box::pin(self.0.blob_size(digest).map_err(Error::from))
    }

    fn fetch_bytes<'a>(&'a self, descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(self.0.fetch_bytes(descriptor).map_err(Error::from))
    }

    fn fetch<'a>(&'a self, descriptor: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<Fetch>> {
        Box::pin(async move {
            let fetch = self.0.fetch(descriptor, offset).await?;
            Ok(Fetch { offset: fetch.offset, stream: fetch.stream.map_err(Error::from).boxed() })
        })
    }

    fn fetch_elsewhere<'a>(
        &'a self,
        url: &'a str,
        descriptor: &'a Descriptor,
        offset: u64,
    ) -> BoxFuture<'a, Result<Fetch>> {
        Box::pin(async move {
            let fetch = self.0.fetch_elsewhere(url, descriptor, offset).await?;
            Ok(Fetch { offset: fetch.offset, stream: fetch.stream.map_err(Error::from).boxed() })
        })
    }

    fn push_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        source: BlobSource,
        from: &'a [String],
    ) -> BoxFuture<'a, Result<Pushed>> {
        Box::pin(self.0.push_blob(descriptor, source, from).map_err(Error::from))
    }

    fn has_manifest<'a>(
        &'a self,
        object: &'a str,
        descriptor: &'a Descriptor,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.0.has_manifest(object, descriptor).map_err(Error::from))
    }

    fn push_manifest<'a>(
        &'a self,
        object: &'a str,
        media_type: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Digest>> {
        Box::pin(self.0.push_manifest(object, media_type, bytes).map_err(Error::from))
    }
}
