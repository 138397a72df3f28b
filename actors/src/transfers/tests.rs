//! Transfers that fail, and what they must leave alone. The registry is a script; store, blobs and directories are real.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bosun_storage::compression::Compression;
use bosun_storage::content::ContentStore;
use bosun_storage::image::writer::{BuiltImage, ImageBuilder, LayerBuilder};
use bosun_storage::key::Key;
use bosun_storage::snapshotter::{Overlay, Snapshotter};
use bosun_storage::store::Store;
use bosun_types::content::{ContentRecord, Descriptor};
use bosun_types::reference::Reference;
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::transfer::PartStatus;
use bosun_types::{Digest, ErrorClass, SnapshotKey};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::no_host::NoHost;
use super::*;
use crate::daemon::{Daemon, DaemonOptions};
use crate::ports::{Access, BlobSource, Fetch, Pushed, RegistryPort, RepositoryPort};

/// Serves images from memory; blobs that are gated wait until the gate opens.
#[derive(Default)]
pub(crate) struct Script {
    images: Mutex<HashMap<String, BuiltImage>>,
    pub(crate) gated: Mutex<Vec<Digest>>,
    /// Small objects never come.
    mute: AtomicBool,
    pub(crate) gate: Notify,
}

impl Script {
    fn image(&self, reference: &Reference) -> Result<BuiltImage> {
        let images = self.images.lock().unwrap();
        images.get(&reference.to_string()).cloned().ok_or_else(|| Error::not_found(reference.to_string()))
    }

    fn bytes(&self, reference: &Reference, digest: &Digest) -> Result<Vec<u8>> {
        let image = self.image(reference)?;
        image.blob(digest).map(<[u8]>::to_vec).ok_or_else(|| Error::not_found(digest.to_string()))
    }
}

/// A repository of the script, as one reference sees it.
struct Scripted {
    script: Arc<Script>,
    reference: Reference,
}

impl RegistryPort for Arc<Script> {
    fn repository(&self, reference: &Reference, _: &Access) -> Result<Arc<dyn RepositoryPort>> {
        Ok(Arc::new(Scripted { script: Arc::clone(self), reference: reference.clone() }))
    }
}

fn only_read<T>() -> BoxFuture<'static, Result<T>> {
    Box::pin(async { Err(Error::not_implemented("the script is only read")) })
}

impl RepositoryPort for Scripted {
    fn resolve(&self) -> BoxFuture<'_, Result<Descriptor>> {
        Box::pin(async move { Ok(self.script.image(&self.reference)?.target) })
    }

    fn find<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<Descriptor>> {
        Box::pin(async move {
            let size = self.script.bytes(&self.reference, digest)?.len() as u64;
            Ok(Descriptor { media_type: String::new(), digest: *digest, size })
        })
    }

    fn fetch_document(&self) -> BoxFuture<'_, Result<(String, Vec<u8>)>> {
        Box::pin(async move {
            let target = self.script.image(&self.reference)?.target;
            Ok((target.media_type, self.script.bytes(&self.reference, &target.digest)?))
        })
    }

    fn blob_size<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move { Ok(self.script.bytes(&self.reference, digest)?.len() as u64) })
    }

    fn fetch_bytes<'a>(&'a self, descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            if self.script.mute.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            self.script.bytes(&self.reference, &descriptor.digest)
        })
    }

    fn fetch<'a>(&'a self, descriptor: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<Fetch>> {
        Box::pin(async move {
            let gated = self.script.gated.lock().unwrap().contains(&descriptor.digest);
            if gated {
                self.script.gate.notified().await;
            }
            let bytes = self.script.bytes(&self.reference, &descriptor.digest)?;
            let rest = Bytes::copy_from_slice(&bytes[usize::try_from(offset).unwrap()..]);
            Ok(Fetch { offset, stream: futures::stream::iter([Ok(rest)]).boxed() })
        })
    }

    fn fetch_elsewhere<'a>(&'a self, _: &'a str, _: &'a Descriptor, _: u64) -> BoxFuture<'a, Result<Fetch>> {
        only_read()
    }

    fn push_blob<'a>(
        &'a self,
        _: &'a Descriptor,
        _: BlobSource,
        _: &'a [String],
    ) -> BoxFuture<'a, Result<Pushed>> {
        only_read()
    }

    fn has_manifest<'a>(&'a self, _: &'a str, _: &'a Descriptor) -> BoxFuture<'a, Result<bool>> {
        only_read()
    }

    fn push_manifest<'a>(&'a self, _: &'a str, _: &'a str, _: Vec<u8>) -> BoxFuture<'a, Result<Digest>> {
        only_read()
    }
}

pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) script: Arc<Script>,
    pub(crate) store: Store,
    pub(crate) content: ContentStore,
    pub(crate) overlay: Arc<Overlay>,
    _root: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::in_memory();
        let content = ContentStore::open(root.path()).unwrap();
        let overlay = Arc::new(Overlay::open(root.path()).unwrap());
        let script = Arc::new(Script::default());
        let daemon = Daemon::start(DaemonOptions {
            root: root.path().to_owned(),
            state: root.path().join("state"),
            cgroup_parent: "/none".to_owned(),
            criu: "criu".to_owned(),
            revision: String::new(),
            store: store.clone(),
            content: content.clone(),
            snapshotters: vec![Arc::clone(&overlay) as Arc<dyn Snapshotter>],
            host: Arc::new(NoHost),
            registry: Arc::new(Arc::clone(&script)),
            gc: crate::gc::ScheduleOptions { automatic: false, ..crate::gc::ScheduleOptions::default() },
        })
        .await
        .unwrap();
        Self { daemon, script, store, content, overlay, _root: root }
    }

    pub(crate) fn transfers(&self, namespace: &str) -> TransfersHandle {
        self.daemon.namespace(namespace.parse().unwrap()).transfers()
    }

    pub(crate) fn offer(&self, reference: &str, image: &BuiltImage) -> PullRequest {
        let reference: Reference = reference.parse().unwrap();
        self.script.images.lock().unwrap().insert(reference.to_string(), image.clone());
        PullRequest::new(reference, self.overlay.name())
    }

    fn import_request(&self) -> ImportRequest {
        ImportRequest {
            base_name: Some("base/name".to_owned()),
            unpack: Some(self.overlay.name().to_owned()),
            ..ImportRequest::default()
        }
    }

    /// Makes every unfinished write as old as that.
    pub(crate) fn age_ingests(&self, when: std::time::SystemTime) {
        for entry in std::fs::read_dir(self._root.path().join("content/ingest")).unwrap() {
            let data =
                std::fs::File::options().append(true).open(entry.unwrap().path().join("data")).unwrap();
            data.set_modified(when).unwrap();
        }
    }

    /// Whatever a row names is there, and nothing else is.
    pub(crate) fn assert_rows_and_files_agree(&self) {
        let snapshots: Vec<SnapshotRecord> = self.store.scan(&Key::all()).unwrap();
        let mut named: Vec<u64> = snapshots.iter().map(|record| record.directory).collect();
        let mut found = self.overlay.directories().unwrap();
        named.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, named, "directories and the rows that name them");
        for record in &snapshots {
            if let Some(parent) = &record.parent {
                assert!(snapshots.iter().any(|other| other.key == *parent), "{} lost {parent}", record.key);
            }
        }
        for record in self.store.scan::<ContentRecord>(&Key::all()).unwrap() {
            assert!(self.content.has_blob(&record.digest), "row of {} without its blob", record.digest);
        }
    }
}

pub(crate) fn image(texts: &[&str]) -> BuiltImage {
    let layers = texts
        .iter()
        .map(|text| LayerBuilder::new().file(text, 0o644, text.as_bytes()).build(Compression::None).unwrap());
    layers.fold(ImageBuilder::new(), ImageBuilder::layer).build()
}

/// For a machine that nobody here has.
fn foreign(texts: &[&str]) -> BuiltImage {
    let layers = texts
        .iter()
        .map(|text| LayerBuilder::new().file(text, 0o644, text.as_bytes()).build(Compression::None).unwrap());
    let mut builder = layers.fold(ImageBuilder::new(), ImageBuilder::layer);
    builder.platform.architecture = "s390x".to_owned();
    builder.build()
}

/// An OCI layout of several images, side by side.
fn archive_of(images: &[(&str, &BuiltImage)]) -> Vec<u8> {
    let mut tar = LayerBuilder::new().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut manifests = Vec::new();
    let mut seen = Vec::new();
    for (name, image) in images {
        manifests.push(format!(
            r#"{{"mediaType":"{}","digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}"#,
            image.target.media_type, image.target.digest, image.target.size
        ));
        for (descriptor, bytes) in &image.blobs {
            if !seen.contains(&descriptor.digest) {
                seen.push(descriptor.digest);
                tar = tar.file(&format!("blobs/sha256/{}", descriptor.digest.hex()), 0o644, bytes);
            }
        }
    }
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(","));
    tar.file("index.json", 0o644, index.as_bytes()).build(Compression::None).unwrap().bytes
}

pub(crate) async fn until_part(handle: &TransferHandle, digest: Digest, status: PartStatus) {
    let mut progress = handle.watch();
    let seen = |progress: &TransferProgress| {
        assert_eq!(progress.state, TransferState::Running, "it ended early");
        progress.parts.iter().any(|part| part.digest == digest && part.status == status)
    };
    progress.wait_for(seen).await.unwrap();
}

#[tokio::test]
async fn an_import_whose_second_image_fails_keeps_the_first() {
    let world = World::new().await;
    let archive = archive_of(&[("a/one:1", &image(&["one"])), ("a/two:1", &foreign(&["two"]))]);
    let (sender, bytes) = mpsc::channel(1);
    let import = world.transfers("default").import(world.import_request(), bytes).await.unwrap();
    sender.send(Bytes::from(archive)).await.unwrap();
    drop(sender);
    import.wait().await.expect_err("the second is for another machine");
    assert_eq!(world.store.scan::<SnapshotRecord>(&Key::all()).unwrap().len(), 1, "the first is recorded");
    world.assert_rows_and_files_agree();
}

#[tokio::test]
async fn a_failed_import_takes_no_blob_from_a_pull_under_way() {
    let world = World::new().await;
    let (shared, other) = (image(&["shared", "own"]), foreign(&["shared"]));
    let layers: Vec<Digest> = shared.blobs.iter().map(|(descriptor, _)| descriptor.digest).collect();
    let (sender, bytes) = mpsc::channel(1);
    let import = world.transfers("default").import(world.import_request(), bytes).await.unwrap();
    let archive = archive_of(&[("a/two:1", &other)]);
    let (begin, end) = archive.split_at(archive.len() - 1024);
    sender.send(Bytes::copy_from_slice(begin)).await.unwrap();
    while !world.content.has_blob(&layers[0]) {
        tokio::task::yield_now().await;
    }
    // The pull finds the import's blob and waits for its second layer.
    world.script.gated.lock().unwrap().push(layers[1]);
    let pull = world.transfers("default").pull(world.offer("r.test/a/app:1", &shared), None).await.unwrap();
    until_part(&pull, layers[0], PartStatus::Done).await;
    sender.send(Bytes::copy_from_slice(end)).await.unwrap();
    drop(sender);
    import.wait().await.expect_err("it is for another machine");
    world.script.gate.notify_one();
    let _ = pull.wait().await;
    world.assert_rows_and_files_agree();
}

#[tokio::test]
async fn a_blob_deleted_under_a_pull_fails_it() {
    let world = World::new().await;
    let (first, second) = (image(&["shared"]), image(&["shared", "own"]));
    let (shared, own) = (second.blobs[0].0.digest, second.blobs[1].0.digest);
    world
        .transfers("one")
        .pull(world.offer("r.test/a/one:1", &first), None)
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    world.script.gated.lock().unwrap().push(own);
    let pull = world.transfers("two").pull(world.offer("r.test/a/two:1", &second), None).await.unwrap();
    until_part(&pull, shared, PartStatus::Done).await;
    world.daemon.namespace("one".parse().unwrap()).content().delete(&shared).await.unwrap();
    world.script.gate.notify_one();
    let _ = pull.wait().await;
    world.assert_rows_and_files_agree();
}

#[tokio::test]
async fn a_parent_removed_under_a_pull_fails_it() {
    let world = World::new().await;
    let (first, second) = (image(&["shared"]), image(&["shared", "own"]));
    let (shared, own) = (second.blobs[0].0.digest, second.blobs[1].0.digest);
    world
        .transfers("one")
        .pull(world.offer("r.test/a/one:1", &first), None)
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    world.script.gated.lock().unwrap().push(own);
    let pull = world.transfers("one").pull(world.offer("r.test/a/two:1", &second), None).await.unwrap();
    until_part(&pull, shared, PartStatus::Exists).await;
    let key: SnapshotKey = world.store.scan::<SnapshotRecord>(&Key::all()).unwrap()[0].key.clone();
    let snapshots = world.daemon.namespace("one".parse().unwrap()).snapshots(world.overlay.name()).unwrap();
    snapshots.remove(key).await.unwrap();
    world.script.gate.notify_one();
    let _ = pull.wait().await;
    world.assert_rows_and_files_agree();
}

#[tokio::test]
async fn a_commit_that_was_given_up_never_comes_later() {
    let world = World::new().await;
    let app = image(&["one"]);
    let request = world.offer("r.test/a/app:1", &app);
    let transfers = world.transfers("default");
    // Somebody holds the writer for longer than a caller waits.
    let (held, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let core = transfers.core.clone();
    let (said, wait) = (Arc::clone(&held), Arc::clone(&open));
    let holder = tokio::spawn(async move {
        crate::writer::write(
            &core,
            &crate::snapshots::WRITER,
            crate::namespaces::DEADLINE * 4,
            |_| async move {
                said.notify_one();
                wait.notified().await;
                Ok(())
            },
        )
        .await
    });
    held.notified().await;
    let pull = transfers.pull(request, None).await.unwrap();
    until_part(&pull, app.blobs[0].0.digest, PartStatus::Done).await;
    // The commit is asked for now, and its deadline passes.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(crate::namespaces::DEADLINE * 2).await;
    tokio::time::resume();
    let error = pull.wait().await.expect_err("nobody waits that long");
    assert_eq!(error.class, ErrorClass::DeadlineExceeded);
    open.notify_one();
    holder.await.unwrap().unwrap();
    // Behind it in the queue: what the pull left there is done when this is.
    for _ in 0..3 {
        for name in [crate::snapshots::WRITER, crate::content::WRITER, crate::images::WRITER] {
            crate::writer::write(&transfers.core, &name, crate::namespaces::DEADLINE, |_| async { Ok(()) })
                .await
                .unwrap();
        }
    }
    world.assert_rows_and_files_agree();
}

#[tokio::test]
async fn a_mute_registry_does_not_hold_a_cancelled_pull() {
    let world = World::new().await;
    world.script.mute.store(true, Ordering::SeqCst);
    let app = image(&["one"]);
    let pull = world.transfers("default").pull(world.offer("r.test/a/app:1", &app), None).await.unwrap();
    until_part(&pull, app.target.digest, PartStatus::Downloading).await;
    tokio::time::timeout(std::time::Duration::from_secs(10), pull.cancel()).await.expect("at once").unwrap();
    assert!(world.daemon.operations().await.unwrap().is_empty());
    world.assert_rows_and_files_agree();
}
