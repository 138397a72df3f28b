//! An image's documents: the way from the target through indexes to the manifest and its config. Read from content, where a pull has put them.

use std::collections::{BTreeSet, VecDeque};

use bosun_storage::image::{self, Elsewhere, ImageConfig, Manifest, Parsed};
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

impl Documents {
    /// Every blob of the image, from the target on.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let parents = self.parents.iter().map(|(descriptor, _)| descriptor);
        parents.chain([&self.manifest.config]).chain(&self.manifest.layers)
    }
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

/// Gives the bytes of a document, or `None` when it is not to be looked into.
pub(crate) type Lookup<'a> = &'a (dyn Fn(Descriptor) -> BoxFuture<'a, Result<Option<Vec<u8>>>> + Sync);

/// Most things that an image may name, over all its indexes.
const TREE_MAX: usize = 4096;

/// Everything that a target names.
#[derive(Default)]
pub(crate) struct Tree {
    /// Each once, with its own children; parents before children.
    pub found: Vec<(Descriptor, Vec<Descriptor>)>,
    /// Where what may not be given on is.
    pub elsewhere: Elsewhere,
}

/// Walks from the target down, directly and through others.
pub(crate) async fn tree(target: &Descriptor, lookup: Lookup<'_>) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut seen = BTreeSet::from([target.digest]);
    let mut waiting = VecDeque::from([(target.clone(), 0)]);
    while let Some((descriptor, depth)) = waiting.pop_front() {
        let mut children = Vec::new();
        if image::media_type::is_manifest(&descriptor.media_type)
            || image::media_type::is_index(&descriptor.media_type)
        {
            if depth > INDEX_DEPTH_MAX {
                return Err(Error::invalid_argument(format!(
                    "image {}: indexes are nested more than {INDEX_DEPTH_MAX} deep",
                    target.digest
                )));
            }
            if let Some(bytes) = lookup(descriptor.clone()).await? {
                let parsed = image::parse_manifest_or_index(&bytes, &descriptor.media_type)?;
                children = image::children(&parsed);
                if let Parsed::Manifest(manifest) = parsed {
                    tree.elsewhere.extend(manifest.elsewhere);
                }
            }
        }
        for child in &children {
            if seen.insert(child.digest) {
                waiting.push_back((child.clone(), depth + 1));
            }
        }
        if seen.len() > TREE_MAX {
            return Err(Error::invalid_argument(format!(
                "image {}: it names more than {TREE_MAX} things",
                target.digest
            )));
        }
        tree.found.push((descriptor, children));
    }
    Ok(tree)
}
