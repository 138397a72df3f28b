//! Where a container's OCI spec comes from: the caller's JSON as it is, or built from the image's config and the caller's options.

use std::io::Read as _;

use bosun_storage::image::{self, ImageConfig, ImageProcess, Parsed};
use bosun_types::container::ContainerRecord;
use bosun_types::content::Descriptor;
use bosun_types::mount::Mount;
use bosun_types::platform::Platform;
use bosun_types::spec::{RootRequest, SpecOptions, SpecRequest};
use bosun_types::{Error, ImageName, NamespaceName, Result};

use crate::core::{Shared, blocking};
use crate::ports::{RootPath, SpecInput};
use crate::{content, images};

/// An index may point at an index; deeper than this is an attack.
const INDEX_DEPTH_MAX: usize = 4;

/// The spec as JSON.
pub(crate) async fn build(
    core: &Shared,
    record: &ContainerRecord,
    spec: &SpecRequest,
    root: &RootRequest,
    process: Option<ImageProcess>,
    mounts: Vec<Mount>,
) -> Result<Vec<u8>> {
    let options = match spec {
        SpecRequest::Json(bytes) => {
            let parsed = serde_json::from_slice::<oci_spec::runtime::Spec>(bytes);
            return match parsed {
                Ok(_) => Ok(bytes.clone()),
                Err(error) => Err(Error::invalid_argument(format!(
                    "container {}: the OCI spec is malformed: {error}",
                    record.id
                ))),
            };
        }
        SpecRequest::Build(options) => SpecOptions {
            // A view cannot be written to, and the spec says so.
            read_only_root: options.read_only_root || matches!(root, RootRequest::ImageView { .. }),
            ..options.as_ref().clone()
        },
        SpecRequest::Checkpoint => {
            return Err(Error::internal(format!(
                "container {}: a checkpoint's spec is not read yet",
                record.id
            )));
        }
    };
    let root = match root {
        RootRequest::Directory(path) => RootPath::Directory(path.clone()),
        RootRequest::Image { .. } | RootRequest::ImageView { .. } | RootRequest::Snapshot(_) => {
            RootPath::Mounts(mounts)
        }
        RootRequest::FromSpec => {
            return Err(Error::invalid_argument(format!(
                "container {}: a root is required unless the spec is given whole",
                record.id
            )));
        }
    };
    core.host
        .build_spec(SpecInput {
            namespace: record.namespace.clone(),
            id: record.id.clone(),
            cgroup_parent: core.cgroup_parent.clone(),
            options,
            process,
            root,
        })
        .await
}

/// The manifest of an image for a platform, from content.
pub(crate) async fn manifest(
    core: &Shared,
    namespace: &NamespaceName,
    target: &Descriptor,
    platform: &Platform,
) -> Result<(Descriptor, image::Manifest)> {
    let mut descriptor = target.clone();
    for _ in 0..INDEX_DEPTH_MAX {
        let bytes = read_blob(core, namespace, &descriptor, image::MANIFEST_BYTES_MAX).await?;
        match image::parse_manifest_or_index(&bytes, &descriptor.media_type)? {
            Parsed::Manifest(manifest) => return Ok((descriptor, manifest)),
            Parsed::Index(index) => descriptor = image::choose(&index, platform)?,
        }
    }
    Err(Error::invalid_argument(format!(
        "image {}: indexes are nested more than {INDEX_DEPTH_MAX} deep",
        target.digest
    )))
}

/// The config of an image for a platform, from content.
pub(crate) async fn image_config(
    core: &Shared,
    namespace: &NamespaceName,
    name: &ImageName,
    platform: &Platform,
) -> Result<ImageConfig> {
    let image = images::get(core, namespace, name)?;
    let config = image_config_at(core, namespace, &image.target, platform).await;
    config.map_err(|error| error.context(format!("image {name}")))
}

/// The same for what a name may not point at any more.
pub(crate) async fn image_config_at(
    core: &Shared,
    namespace: &NamespaceName,
    target: &Descriptor,
    platform: &Platform,
) -> Result<ImageConfig> {
    let (_, manifest) = manifest(core, namespace, target, platform).await?;
    let bytes = read_blob(core, namespace, &manifest.config, image::CONFIG_BYTES_MAX).await?;
    let config = image::parse_config(&bytes)?;
    config.check_layers(&manifest)?;
    image::check_platform(&config, platform)?;
    Ok(config)
}

/// A small blob whole.
pub(crate) async fn read_blob(
    core: &Shared,
    namespace: &NamespaceName,
    descriptor: &Descriptor,
    bytes_max: usize,
) -> Result<Vec<u8>> {
    let record = content::get(core, namespace, &descriptor.digest)?;
    if record.size > bytes_max as u64 {
        return Err(Error::invalid_argument(format!(
            "blob {} is {} bytes, at most {bytes_max} are read whole",
            descriptor.digest, record.size
        )));
    }
    let (store, digest) = (core.content.clone(), descriptor.digest);
    blocking(move || {
        let mut bytes = Vec::new();
        let mut file = store.open_blob(&digest)?.take(bytes_max as u64);
        file.read_to_end(&mut bytes).map_err(|error| Error::data_loss(format!("blob {digest}: {error}")))?;
        // I7: bytes served hash to their digest.
        if image::digest_of(&bytes) != digest {
            return Err(Error::data_loss(format!("blob {digest} is damaged on disk"))
                .with_hint("pull the image again"));
        }
        Ok(bytes)
    })
    .await
}
