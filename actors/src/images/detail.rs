//! What an image's documents say for one platform, and what of it is here (IMG-13 to IMG-17). Looks; changes nothing.

use bosun_storage::image::{self, Index, Manifest, Parsed};
use bosun_types::content::Descriptor;
use bosun_types::image::{ImageDetail, ImageRecord};
use bosun_types::platform::Platform;
use bosun_types::snapshot::SnapshotKind;
use bosun_types::{Digest, Error, ErrorClass, ImageName, NamespaceName, Result, SnapshotKey};

use crate::core::Core;
use crate::{content, snapshots};

/// An index may point at an index; deeper than this is an attack.
const INDEX_DEPTH_MAX: usize = 4;

/// The facts of one image; `snapshotter` is the one that "unpacked" is about. Blocking.
pub(super) fn detail(
    core: &Core,
    namespace: &NamespaceName,
    name: &ImageName,
    platform: &Platform,
    snapshotter: &str,
) -> Result<ImageDetail> {
    core.snapshotter(snapshotter)?;
    let record = super::get(core, namespace, name)?;
    let target = record.target.clone();
    let mut found = Found { core, namespace, detail: nothing_of(record) };
    found.walk(target, platform).map_err(|error| error.context(format!("image {name}")))?;
    let mut detail = found.detail;
    detail.unpacked = match detail.chain_id {
        Some(chain) => is_committed(core, namespace, snapshotter, &chain)?,
        // Without layers there is nothing to unpack; without the config nobody knows.
        None => detail.config_json.is_some(),
    };
    Ok(detail)
}

fn nothing_of(record: ImageRecord) -> ImageDetail {
    ImageDetail {
        record,
        platforms: Vec::new(),
        manifest: None,
        config: None,
        config_json: None,
        diff_ids: Vec::new(),
        chain_id: None,
        layers: Vec::new(),
        size: 0,
        missing: Vec::new(),
        unpacked: false,
    }
}

fn is_committed(core: &Core, namespace: &NamespaceName, snapshotter: &str, chain: &Digest) -> Result<bool> {
    let record = snapshots::get(core, namespace, snapshotter, &SnapshotKey::new(chain.to_string())?);
    Ok(here(record)?.is_some_and(|record| record.kind == SnapshotKind::Committed))
}

/// Absence is an answer.
fn here<T>(looked_up: Result<T>) -> Result<Option<T>> {
    match looked_up {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.class == ErrorClass::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the walk has met so far.
struct Found<'a> {
    core: &'a Core,
    namespace: &'a NamespaceName,
    detail: ImageDetail,
}

impl Found<'_> {
    fn walk(&mut self, target: Descriptor, platform: &Platform) -> Result<()> {
        let mut descriptor = target;
        for _ in 0..INDEX_DEPTH_MAX {
            self.count(&descriptor)?;
            let Some(bytes) = self.document(&descriptor, image::MANIFEST_BYTES_MAX)? else { return Ok(()) };
            match image::parse_manifest_or_index(&bytes, &descriptor.media_type)? {
                Parsed::Index(index) => {
                    self.declared(&index);
                    descriptor = image::choose(&index, platform)?;
                }
                Parsed::Manifest(manifest) => {
                    self.detail.manifest = Some(descriptor);
                    return self.manifest(&manifest, platform);
                }
            }
        }
        Err(Error::invalid_argument(format!("indexes are nested more than {INDEX_DEPTH_MAX} deep")))
    }

    /// IMG-14, and IMG-16's missing ones.
    fn count(&mut self, descriptor: &Descriptor) -> Result<()> {
        self.detail.size = self.detail.size.saturating_add(descriptor.size);
        if here(content::get(self.core, self.namespace, &descriptor.digest))?.is_none() {
            self.detail.missing.push(descriptor.clone());
        }
        Ok(())
    }

    /// IMG-17: each once, in the order of the index.
    fn declared(&mut self, index: &Index) {
        for platform in index.manifests.iter().filter_map(|entry| entry.platform.as_ref()) {
            if !self.detail.platforms.contains(platform) {
                self.detail.platforms.push(platform.clone());
            }
        }
    }

    fn manifest(&mut self, manifest: &Manifest, platform: &Platform) -> Result<()> {
        self.detail.config = Some(manifest.config.clone());
        self.detail.layers.clone_from(&manifest.layers);
        for descriptor in [&manifest.config].into_iter().chain(&manifest.layers) {
            self.count(descriptor)?;
        }
        let Some(json) = self.document(&manifest.config, image::CONFIG_BYTES_MAX)? else { return Ok(()) };
        let config = image::parse_config(&json)?;
        config.check_layers(manifest)?;
        image::check_platform(&config, platform)?;
        if self.detail.platforms.is_empty() {
            self.detail.platforms.push(config.platform.clone());
        }
        self.detail.chain_id = image::chain_ids(&config.diff_ids).pop();
        self.detail.diff_ids = config.diff_ids;
        self.detail.config_json = Some(json);
        Ok(())
    }

    /// A document of this namespace. What only another namespace has is not read: an image's name may point anywhere.
    fn document(&self, descriptor: &Descriptor, bytes_max: usize) -> Result<Option<Vec<u8>>> {
        if self.detail.missing.contains(descriptor) {
            return Ok(None);
        }
        Ok(Some(self.core.content.read_blob(&descriptor.digest, bytes_max)?))
    }
}
