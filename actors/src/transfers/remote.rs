//! Where bytes come from when they are not here: the registry, and for layers that may not be given on, the addresses in their manifest.

use std::sync::{Arc, Mutex, PoisonError};

use bosun_storage::image::Elsewhere;
use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bosun_types::{ErrorClass, Result};

use crate::ports::{Fetch, RepositoryPort};

/// One repository, and what was learned of other places.
#[derive(Clone)]
pub(crate) struct Remote {
    pub reference: Reference,
    pub repository: Arc<dyn RepositoryPort>,
    elsewhere: Arc<Mutex<Elsewhere>>,
}

impl Remote {
    pub fn new(reference: Reference, repository: Arc<dyn RepositoryPort>) -> Self {
        Self { reference, repository, elsewhere: Arc::default() }
    }

    /// Remembers what a manifest says.
    pub fn learn(&self, elsewhere: Elsewhere) {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).extend(elsewhere);
    }

    /// A blob from `offset` on: from the first address of its own that gives it, else from the registry (REM-8).
    pub async fn fetch(&self, layer: &Descriptor, offset: u64) -> Result<Fetch> {
        let known = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).get(&layer.digest).cloned();
        let mut refused = None;
        for url in known.unwrap_or_default() {
            match self.repository.fetch_elsewhere(&url, layer, offset).await {
                Ok(fetch) => return Ok(fetch),
                Err(error) => {
                    tracing::info!(digest = %layer.digest, url, %error, "a layer is not where its manifest says");
                    refused = Some(error);
                }
            }
        }
        match self.repository.fetch(layer, offset).await {
            // The registry never had it: what its address said tells more.
            Err(error) if error.class == ErrorClass::NotFound => Err(refused.unwrap_or(error)),
            answer => answer,
        }
    }
}
