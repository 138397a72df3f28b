//! Image documents: manifests, indexes and configs of docker and OCI, platform choice, chain ids. Bytes in, checked data
//! out; nothing here touches a disk but [`writer`], [`import`] and [`export`].

use bosun_types::content::Descriptor;
use bosun_types::error::chain;
use bosun_types::platform::Platform;
use bosun_types::{Digest, ErrorClass};
use sha2::{Digest as _, Sha256};

pub mod checkpoint;
pub mod closure;
mod document;
pub mod export;
pub mod import;
pub mod media_type;
pub mod schema1;
pub mod writer;

pub use document::{
    Elsewhere, ImageConfig, ImageProcess, Index, IndexEntry, Manifest, Parsed, parse_config,
    parse_manifest_or_index,
};

/// Largest manifest or index, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// Largest image config, in bytes.
pub const CONFIG_BYTES_MAX: usize = 8 << 20;
/// Most layers of an image: what one overlay mount takes beside the container's own.
pub const LAYERS_MAX: usize = 127;

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The document is malformed, contradictory or too large.
    #[error("{what}: {why}")]
    Invalid {
        /// Which document.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A kind of document that is not understood.
    #[error("media type {media_type:?} is not supported")]
    Unsupported {
        /// Its type.
        media_type: String,
    },
    /// Not for this platform.
    #[error("no image for platform {wanted}; there is {available}")]
    NoPlatform {
        /// Platform asked for.
        wanted: Platform,
        /// The platforms there are, in words.
        available: String,
    },
}

impl ImageError {
    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid { .. } => ErrorClass::InvalidArgument,
            Self::Unsupported { .. } => ErrorClass::NotImplemented,
            Self::NoPlatform { .. } => ErrorClass::NotFound,
        }
    }
}

impl From<ImageError> for bosun_types::Error {
    fn from(error: ImageError) -> Self {
        Self::new(error.class(), chain(&error))
    }
}

/// Short form.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// The manifest of an index that serves `platform` best (PLT-4). Of equals the first wins; entries that name no platform
/// are taken only when nothing else fits, since only their config can tell. NotFound names what there is.
pub fn choose(index: &Index, platform: &Platform) -> Result<Descriptor> {
    // Among the files of a checkpoint its image is the only one.
    let documents = index.manifests.iter().any(IndexEntry::is_document);
    let entries = || index.manifests.iter().filter(|entry| !documents || entry.is_document());
    let ranked = entries().filter_map(|entry| {
        let rank = platform.rank(entry.platform.as_ref()?)?;
        Some((rank, &entry.descriptor))
    });
    // `min_by_key` gives the first of equals.
    if let Some((_, best)) = ranked.min_by_key(|(rank, _)| *rank) {
        return Ok(best.clone());
    }
    let anonymous = entries().find(|entry| entry.platform.is_none());
    if let Some(entry) = anonymous {
        return Ok(entry.descriptor.clone());
    }
    let mut available: Vec<String> =
        entries().filter_map(|entry| entry.platform.as_ref()).map(Platform::to_string).collect();
    available.sort_unstable();
    available.dedup();
    Err(no_platform(platform, &available))
}

/// The image's own platform must serve the one asked for, also where no index said so.
pub fn check_platform(config: &ImageConfig, platform: &Platform) -> Result<()> {
    // Configs of old tools leave both fields empty: nothing is known against them.
    if config.platform.os.is_empty() || platform.rank(&config.platform).is_some() {
        return Ok(());
    }
    Err(no_platform(platform, &[config.platform.to_string()]))
}

fn no_platform(wanted: &Platform, available: &[String]) -> ImageError {
    let available = if available.is_empty() { "none".to_owned() } else { available.join(", ") };
    ImageError::NoPlatform { wanted: wanted.clone(), available }
}

/// IMG-18: the first is the first diff id, each next is the digest of `"<previous> <diff id>"`.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => *diff_id,
            Some(previous) => digest_of(format!("{previous} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

/// The digest of some bytes in memory.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// What a document points at, in order (IMG-8): a manifest's config, then its layers; an index's manifests.
pub fn children(parsed: &Parsed) -> Vec<Descriptor> {
    match parsed {
        Parsed::Manifest(manifest) => {
            std::iter::once(&manifest.config).chain(&manifest.layers).cloned().collect()
        }
        Parsed::Index(index) => index.manifests.iter().map(|entry| entry.descriptor.clone()).collect(),
    }
}

#[cfg(test)]
mod tests;
