//! A container's changes as an image: a layer, a config, a manifest, a name.
//!
//! Made of calls that are whole each for itself, under a lease: the layer is an operation of the daemon's, the documents are blobs, and only the
//! last call makes an image of them. Whoever dies before it leaves blobs that go when the lease ends or expires.

mod config;

use std::io::Cursor;

use bosun_types::content::Descriptor;
use bosun_types::diff::{DiffRequest, LayerDiff};
use bosun_types::image::{ImageRecord, LABEL_GC_REF_CONTENT, LABEL_GC_REF_SNAPSHOT};
use bosun_types::platform::Platform;
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::{
    ContainerId, Digest, Error, ErrorClass, ImageName, Labels, Result, SnapshotKey, Timestamp,
};
use serde_json::{Value, json};

use crate::content::Content;
use crate::namespace::Namespace;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Largest manifest or config, in bytes.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// What an image is made of beside a container's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest {
    /// Its name.
    pub image: ImageName,
    /// A name that is taken points here from then on; else that is an error.
    pub replace: bool,
    /// Who made it; empty: nobody says.
    pub author: String,
    /// What was done; empty: nobody says.
    pub message: String,
    /// Changes of the config, as in a Dockerfile: `CMD ["/bin/serve"]`, `ENV A=b`, ...
    pub changes: Vec<String>,
    /// It is frozen while its files are read, and goes on afterwards whatever becomes of us and of the daemon.
    pub pause: bool,
}

/// The image that the container was made from.
struct Base {
    manifest: Value,
    media_type: String,
    config: Value,
}

impl Namespace {
    /// Stores what a container wrote to its root file system as an image: its own image with a layer on top. Memory, volumes and what a mount
    /// hides are not in it. It may run meanwhile; a file that is written at that moment may be half old and half new, unless `pause` is asked for.
    ///
    /// # Errors
    /// AlreadyExists: the image's name is taken. FailedPrecondition: the container has no snapshot, or its image's name points elsewhere now.
    pub async fn commit(&self, container: ContainerId, request: CommitRequest) -> Result<ImageRecord> {
        config::check(&request.changes)?;
        let taken = match self.images().get(request.image.clone()).await {
            Ok(_) if !request.replace => return Err(name_taken(&request.image)),
            Ok(_) => true,
            Err(error) if error.class == ErrorClass::NotFound => false,
            Err(error) => return Err(error),
        };
        let lease = self.begin_lease().await?;
        let made = lease.namespace().commit_held(&container, &request, taken).await;
        // Its expiry does the same later.
        let _ = lease.done().await;
        made
    }

    async fn commit_held(
        &self,
        id: &ContainerId,
        request: &CommitRequest,
        taken: bool,
    ) -> Result<ImageRecord> {
        let record = self.container(id.clone()).record().await?;
        let (Some(snapshotter), Some(key), Some(image)) =
            (record.snapshotter, record.snapshot_key, record.image)
        else {
            let message =
                format!("container {id} is not made from an image: there is nothing to add a layer to");
            return Err(
                Error::failed_precondition(message).with_hint("`bosun images import` takes a directory")
            );
        };
        let snapshot = self.snapshots(&snapshotter).stat(key.clone()).await?;
        let base = self.base(&image, &snapshot).await?;
        let layer = self.layer_of(&snapshotter, key, &base, request.pause.then(|| id.clone())).await?;
        let target = self.documents(id, request, base, &layer).await?;
        let now = Timestamp::now();
        let made = ImageRecord {
            namespace: self.name().clone(),
            name: request.image.clone(),
            target,
            labels: Labels::new(),
            created_at: now,
            updated_at: now,
        };
        match taken {
            true => self.images().update(made, &["target"]).await,
            false => self.images().create(made).await,
        }
    }

    /// Of what the image's name points at, the image that the snapshot stands on.
    async fn base(&self, image: &ImageName, snapshot: &SnapshotRecord) -> Result<Base> {
        let content = self.content();
        let target = self.images().get(image.clone()).await?.target;
        let document = read_json(&content, target.digest).await?;
        let mut candidates = match document["manifests"].as_array() {
            None => vec![(target.media_type, Some(document))],
            Some(manifests) => {
                let mut found = Vec::new();
                let host = Platform::host();
                let (ours, others): (Vec<&Value>, Vec<&Value>) = manifests
                    .iter()
                    .partition(|it| it["platform"]["architecture"] == host.architecture.as_str());
                for manifest in ours.into_iter().chain(others) {
                    let Some(digest) = digest_of(manifest) else { continue };
                    let media_type = manifest["mediaType"].as_str().unwrap_or_default().to_owned();
                    // Of other platforms there may be nothing here.
                    found.push((media_type, read_json(&content, digest).await.ok()));
                }
                found
            }
        };
        let label = format!("{LABEL_GC_REF_SNAPSHOT}.{}", snapshot.snapshotter);
        for (media_type, manifest) in candidates.drain(..) {
            let Some(manifest) = manifest else { continue };
            let Some(config) = digest_of(&manifest["config"]) else { continue };
            let Ok(info) = content.info(config).await else { continue };
            if info.labels.get(&label).map(String::as_str)
                == snapshot.parent.as_ref().map(SnapshotKey::as_str)
            {
                return Ok(Base { manifest, media_type, config: read_json(&content, config).await? });
            }
        }
        Err(Error::failed_precondition(format!(
            "image {image} is not what snapshot {} stands on: the name points elsewhere by now, or its files were copied for other users",
            snapshot.key
        ))
        .with_hint("pull the image that the container was made from again, or store the layer alone with `bosun snapshots diff`"))
    }

    async fn layer_of(
        &self,
        snapshotter: &str,
        key: SnapshotKey,
        base: &Base,
        freeze: Option<ContainerId>,
    ) -> Result<LayerDiff> {
        let is_docker = base.media_type == DOCKER_MANIFEST;
        let media_type = if is_docker { DOCKER_LAYER } else { OCI_LAYER }.to_owned();
        let request = DiffRequest { media_type, freeze, ..DiffRequest::of(key) };
        self.snapshots(snapshotter).diff(request).await
    }

    /// Config and manifest; gives the manifest.
    async fn documents(
        &self,
        id: &ContainerId,
        request: &CommitRequest,
        base: Base,
        layer: &LayerDiff,
    ) -> Result<Descriptor> {
        let Base { mut manifest, media_type, mut config } = base;
        let malformed = |what: &str| Error::failed_precondition(format!("the image's {what} is malformed"));
        config::apply(&mut config, &request.changes)?;
        config::add_layer(&mut config, &layer.diff_id, request, Timestamp::now())
            .ok_or_else(|| malformed("config"))?;
        let bytes = serde_json::to_vec(&config).map_err(|error| Error::internal(error.to_string()))?;
        let described = self.store(&format!("commit-config-{id}"), &bytes, Labels::new()).await?;
        manifest["config"]["digest"] = json!(described.digest);
        manifest["config"]["size"] = json!(described.size);
        let layers = manifest["layers"].as_array_mut().ok_or_else(|| malformed("manifest"))?;
        layers.push(json!(layer.layer));
        let parts: Option<Vec<Digest>> = layers.iter().map(digest_of).collect();
        let parts = parts.ok_or_else(|| malformed("manifest"))?;
        let labels = std::iter::once(described.digest).chain(parts).enumerate();
        let labels = labels.map(|(at, part)| (format!("{LABEL_GC_REF_CONTENT}.{at}"), part.to_string()));
        let labels = labels.collect();
        let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::internal(error.to_string()))?;
        let described = self.store(&format!("commit-manifest-{id}"), &bytes, labels).await?;
        Ok(Descriptor { media_type, ..described })
    }

    /// A small blob; its media type is the caller's to say.
    async fn store(&self, reference: &str, bytes: &[u8], labels: Labels) -> Result<Descriptor> {
        let mut writer = self.content().open_writer(reference.to_owned(), 0, None).await?;
        if writer.offset() > 0 {
            // Of a client that died.
            writer.restart().await?;
        }
        writer.copy_from(&mut Cursor::new(bytes)).await?;
        let record = writer.commit(bytes.len() as u64, None, labels).await?;
        Ok(Descriptor { media_type: String::new(), digest: record.digest, size: record.size })
    }
}

fn name_taken(image: &ImageName) -> Error {
    Error::already_exists(format!("image {image}"))
        .with_hint("give another name, or --force to let it point here")
}

fn digest_of(descriptor: &Value) -> Option<Digest> {
    descriptor["digest"].as_str()?.parse().ok()
}

async fn read_json(content: &Content, digest: Digest) -> Result<Value> {
    let bytes = content.read_all(digest, DOCUMENT_BYTES_MAX).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::failed_precondition(format!("blob {digest} is no JSON: {error}")))
}
