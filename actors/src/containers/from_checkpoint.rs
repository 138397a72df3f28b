//! A container made from a checkpoint (CKP-8, CKP-9): the image that the checkpointed container was made from, what that container had written,
//! and its spec.

use bosun_storage::image::checkpoint::config_from_bytes;
use bosun_storage::image::{self, CONFIG_BYTES_MAX};
use bosun_types::content::Descriptor;
use bosun_types::platform::Platform;
use bosun_types::snapshot::{SNAPSHOTTER_DEFAULT, SnapshotRecord};
use bosun_types::spec::{ContainerRequest, RootRequest, SpecRequest};
use bosun_types::{Error, ImageName, NamespaceName, Result, SnapshotKey};

use super::parent::{Parent, ground_on};
use crate::core::{Shared, blocking};
use crate::remap::Ground;
use crate::{checkpoints, diff, snapshots, spec_source, transfers};

/// What it is made from; unpacks the image first if need be.
pub(super) async fn parent_of(
    core: &Shared,
    namespace: &NamespaceName,
    request: &ContainerRequest,
    name: &ImageName,
) -> Result<Parent> {
    let checkpoint = checkpoints::read(core, namespace, name).await?;
    let bytes = spec_source::read_blob(core, namespace, &checkpoint.config, CONFIG_BYTES_MAX).await?;
    let spec = config_from_bytes(&bytes)?.value;
    let Some((image, target)) = checkpoint.image else {
        return Ok(Parent { spec: Some(spec), ..Parent::default() });
    };
    let host = Platform::host();
    let config = spec_source::image_config_at(core, namespace, &target, &host).await;
    let config = config.map_err(|error| error.context(format!("checkpoint {name}, image {image}")))?;
    let (mut ground, mut layer, mut hold) = (Ground::default(), None, None);
    if matches!(request.root, RootRequest::Image { .. }) {
        let snapshotter = request.snapshotter.as_deref().unwrap_or(SNAPSHOTTER_DEFAULT);
        // By what it was, not by its name: that may point elsewhere by now.
        let unpacked = transfers::ensure_target_unpacked(core, namespace, &target, snapshotter);
        let (chain, whole) = (image::chain_ids(&config.diff_ids), SpecRequest::Json(spec.clone()));
        (ground, hold) = ground_on(core, namespace, snapshotter, &chain, &whole, unpacked).await?;
        layer = checkpoint.layer;
    }
    Ok(Parent {
        ground,
        process: Some(config.process),
        image: Some(image),
        layer,
        spec: Some(spec),
        _hold: hold,
    })
}

/// The request as for any other container. CKP-8: a snapshot that is there is taken as it is.
pub(super) fn settled(
    core: &Shared,
    namespace: &NamespaceName,
    mut request: ContainerRequest,
    parent: &mut Parent,
) -> Result<ContainerRequest> {
    if request.checkpoint.is_some()
        && let RootRequest::Image { key } = &request.root
    {
        let key = key.clone().map_or_else(|| SnapshotKey::new(request.id.as_str()), Ok)?;
        let snapshotter = request.snapshotter.as_deref().unwrap_or(SNAPSHOTTER_DEFAULT);
        if snapshots::get(core, namespace, snapshotter, &key).is_ok() {
            request.root = RootRequest::Snapshot(key);
            parent.layer = None;
        }
    }
    if request.checkpoint.is_some()
        && matches!(request.root, RootRequest::Image { .. })
        && parent.image.is_none()
    {
        if !parent.spec.as_deref().is_some_and(has_own_root) {
            return Err(Error::invalid_argument("the checkpoint is of a container without an image")
                .with_hint("give a root: a snapshot or a directory"));
        }
        request.root = RootRequest::FromSpec;
    }
    if request.spec == SpecRequest::Checkpoint {
        let spec = parent.spec.take().ok_or_else(|| {
            Error::invalid_argument(format!(
                "container {}: no checkpoint is named to take the spec from",
                request.id
            ))
        })?;
        let cgroup = bosun_runtime::spec::cgroup_path(&core.cgroup_parent, namespace, &request.id);
        request.spec = SpecRequest::Json(in_cgroup(&spec, cgroup)?);
    }
    request.image = parent.image.take().or(request.image);
    Ok(request)
}

/// Whether the root is a directory of the host.
fn has_own_root(spec: &[u8]) -> bool {
    let spec: serde_json::Value = serde_json::from_slice(spec).unwrap_or_default();
    spec.pointer("/root/path").and_then(|path| path.as_str()).is_some_and(|path| path.starts_with('/'))
}

/// The spec names its container's cgroup, which may still be in use.
fn in_cgroup(spec: &[u8], cgroup: String) -> Result<Vec<u8>> {
    let malformed =
        |why: String| Error::invalid_argument(format!("the checkpoint's spec is malformed: {why}"));
    let mut spec: serde_json::Value =
        serde_json::from_slice(spec).map_err(|error| malformed(error.to_string()))?;
    let linux = spec.get_mut("linux").and_then(serde_json::Value::as_object_mut);
    linux
        .ok_or_else(|| malformed("it is not for Linux".to_owned()))?
        .insert("cgroupsPath".into(), cgroup.into());
    serde_json::to_vec(&spec).map_err(|error| malformed(error.to_string()))
}

/// Puts what the checkpointed container had written into the new snapshot, durably: recovery could not make it again.
pub(super) async fn apply(core: &Shared, snapshot: &SnapshotRecord, layer: &Descriptor) -> Result<()> {
    let snapshotter = core.snapshotter(&snapshot.snapshotter)?;
    let directory = snapshot.directory;
    let parents = snapshots::parents_of(core, snapshot)?;
    let (core, layer) = (core.clone(), layer.clone());
    let to_its_end = tokio_util::sync::CancellationToken::new();
    blocking(move || {
        diff::unpack(&core, &snapshotter, directory, &parents, &layer, &|_| (), &to_its_end).map(drop)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ckp_8_the_spec_is_put_into_the_new_container_s_cgroup() {
        let spec = br#"{"ociVersion":"1.0.2","linux":{"cgroupsPath":"/bosun/default/old","resources":{}}}"#;
        let moved = in_cgroup(spec, "/bosun/default/new".into()).unwrap();
        let moved: serde_json::Value = serde_json::from_slice(&moved).unwrap();
        assert_eq!(moved["linux"]["cgroupsPath"], "/bosun/default/new");
        assert_eq!(moved["ociVersion"], "1.0.2");
        assert!(in_cgroup(b"{}", String::new()).is_err() && in_cgroup(b"x", String::new()).is_err());
    }
}
