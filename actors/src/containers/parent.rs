//! What a container is made from: the snapshot that its own stands on, unpacked and held from the collector until that refers to it.

use bosun_storage::image::{self, ImageProcess};
use bosun_types::content::Descriptor;
use bosun_types::gc::Object;
use bosun_types::platform::Platform;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::spec::{ContainerRequest, RootRequest, SpecRequest};
use bosun_types::user_namespace::{IdMaps, Ownership};
use bosun_types::{Digest, Error, ImageName, NamespaceName, Result, SnapshotKey};

use super::from_checkpoint;
use crate::core::Shared;
use crate::gc::barrier::Hold;
use crate::remap::{self, Ground};
use crate::{spec_source, transfers};

/// What a container is made from.
#[derive(Default)]
pub(super) struct Parent {
    /// What to put its snapshot on.
    pub ground: Ground,
    /// How the image wants to be run.
    pub process: Option<ImageProcess>,
    /// Of a checkpoint: the image that it names.
    pub image: Option<ImageName>,
    /// Of a checkpoint: what its container had written.
    pub layer: Option<Descriptor>,
    /// Of a checkpoint: its container's spec.
    pub spec: Option<Vec<u8>>,
    /// Keeps the snapshot from the collector until the container's own refers to it.
    pub _hold: Option<Hold>,
}

/// Unpacks the image first if need be.
pub(super) async fn parent_of(
    core: &Shared,
    namespace: &NamespaceName,
    request: &ContainerRequest,
) -> Result<Parent> {
    if let Some(checkpoint) = &request.checkpoint {
        return from_checkpoint::parent_of(core, namespace, request, checkpoint).await;
    }
    let Some(name) = &request.image else {
        return match request.root {
            RootRequest::Image { .. } | RootRequest::ImageView { .. } => Err(Error::invalid_argument(
                format!("container {}: its root is an image, but none is named", request.id),
            )),
            _ => Ok(Parent::default()),
        };
    };
    let config = spec_source::image_config(core, namespace, name, &Platform::host()).await?;
    let (ground, hold) = match request.root {
        RootRequest::Image { .. } | RootRequest::ImageView { .. } => {
            let snapshotter = request.snapshotter.as_deref().unwrap_or(SNAPSHOTTER_DEFAULT);
            let unpacked = transfers::ensure_unpacked(core, namespace, name, snapshotter);
            let chain = image::chain_ids(&config.diff_ids);
            ground_on(core, namespace, snapshotter, &chain, &request.spec, unpacked).await?
        }
        _ => (Ground::default(), None),
    };
    Ok(Parent { ground, process: Some(config.process), _hold: hold, ..Parent::default() })
}

/// What to put a snapshot on that stands on the layers `chain`: the last, or a copy of it for the users that the spec gives the container, if it
/// gives it any. Held before `unpacked` is awaited, which looks whether they are there.
pub(super) async fn ground_on(
    core: &Shared,
    namespace: &NamespaceName,
    snapshotter: &str,
    chain: &[Digest],
    spec: &SpecRequest,
    unpacked: impl Future<Output = Result<()>>,
) -> Result<(Ground, Option<Hold>)> {
    let users = remap::users_of(spec)?;
    let wanted = wanted_of(chain, snapshotter, users.as_ref())?;
    let wanted = wanted.into_iter().map(|object| (namespace.clone(), object)).collect();
    let hold = core.gc.barrier.hold(wanted).await;
    unpacked.await?;
    let parent = chain.last().map(ToString::to_string).map(SnapshotKey::new).transpose()?;
    let ground = match users {
        Some((maps, wanted)) => remap::ground(core, namespace, snapshotter, parent, (&maps, wanted)).await?,
        None => Ground { parent, labels: bosun_types::Labels::new() },
    };
    Ok((ground, Some(hold)))
}

/// What a container's own snapshot may stand on: the layers, and their copies for users of its own.
fn wanted_of(
    chain: &[Digest],
    snapshotter: &str,
    users: Option<&(IdMaps, Ownership)>,
) -> Result<Vec<Object>> {
    let suffixes = std::iter::once(String::new()).chain(users.map(|(maps, _)| format!("-{}", maps.suffix())));
    let keys = suffixes.flat_map(|suffix| chain.iter().map(move |chain| format!("{chain}{suffix}")));
    let snapshotter = snapshotter.to_owned();
    keys.map(|key| Ok(Object::Snapshot { snapshotter: snapshotter.clone(), key: SnapshotKey::new(key)? }))
        .collect()
}
