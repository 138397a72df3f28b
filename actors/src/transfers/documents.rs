//! An image's documents: the way from the target through indexes to the manifest and its config. Read from content, where a pull has put them.

use bosun_storage::image::{self, ImageConfig, Manifest, Parsed};
use bosun_types::content::Descriptor;
use bosun_types::platform::Platform;
use bosun_types::{Digest, Error, Result};
use futures::future::BoxFuture;

/// An index may point at an index; deeper than this is an attack.
const INDEX_DEPTH_MAX: usize = 4;

/// Everything small of an image.
pub(crate) struct Documents {
    /// Target, further indexes, manifest: each with all its children, whatever the platform (IMG-11).
    pub parents: Vec<(Descriptor, Vec<Digest>)>,
    /// The manifest for the platform.
    pub manifest: Manifest,
    /// Its config.
    pub config: ImageConfig,
    /// Chain ids, lowest first.
    pub chain: Vec<Digest>,
}

/// Gives the bytes of a small blob.
pub(crate) type Source<'a> = &'a (dyn Fn(Descriptor, usize) -> BoxFuture<'a, Result<Vec<u8>>> + Sync);

/// Walks from the target to the config.
pub(crate) async fn collect(
    target: &Descriptor,
    platform: &Platform,
    source: Source<'_>,
) -> Result<Documents> {
    let mut parents = Vec::new();
    let mut descriptor = target.clone();
    for _ in 0..INDEX_DEPTH_MAX {
        let bytes = source(descriptor.clone(), image::MANIFEST_BYTES_MAX).await?;
        let parsed = image::parse_manifest_or_index(&bytes, &descriptor.media_type)?;
        let children = image::children(&parsed).iter().map(|child| child.digest).collect();
        parents.push((descriptor.clone(), children));
        match parsed {
            Parsed::Index(index) => descriptor = image::choose(&index, platform)?,
            Parsed::Manifest(manifest) => {
                let bytes = source(manifest.config.clone(), image::CONFIG_BYTES_MAX).await?;
                let config = image::parse_config(&bytes)?;
                config.check_layers(&manifest)?;
                image::check_platform(&config, platform)?;
                let chain = image::chain_ids(&config.diff_ids);
                return Ok(Documents { parents, manifest, config, chain });
            }
        }
    }
    Err(Error::invalid_argument(format!(
        "image {}: indexes are nested more than {INDEX_DEPTH_MAX} deep",
        target.digest
    )))
}
