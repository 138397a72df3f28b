//! The collector over a real tree: real directories and files, rows in memory, a registry that can be held up.

use std::sync::Arc;
use std::time::Duration;

use bosun_storage::batch::Batch;
use bosun_storage::key::Key;
use bosun_storage::snapshotter::Snapshotter as _;
use bosun_types::content::{ContentRecord, Descriptor};
use bosun_types::gc::{LABEL_ROOT, Object};
use bosun_types::image::{ImageRecord, LABEL_GC_REF_CONTENT};
use bosun_types::lease::{LABEL_EXPIRE, LABEL_FLAT, LeaseResource};
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::transfer::PartStatus;
use bosun_types::{
    Digest, ErrorClass, ImageName, Labels, LeaseId, NamespaceName, Result, SnapshotKey, Timestamp,
};
use bytes::Bytes;

use crate::namespaces::NamespaceHandle;
use crate::transfers::tests::{World, image, until_part};

fn label(key: &str, value: impl ToString) -> Labels {
    Labels::from([(key.to_owned(), value.to_string())])
}

fn default(world: &World) -> NamespaceHandle {
    world.daemon.namespace(NamespaceName::default_name())
}

fn lease_id(text: &str) -> LeaseId {
    LeaseId::new(text).expect("good")
}

/// A blob of these bytes, under whatever lease the handle has.
async fn put(namespace: &NamespaceHandle, text: &str, labels: Labels) -> Result<Digest> {
    let writer = namespace.content().writer(format!("put-{text}"), 0, None).await?;
    writer.write(0, Bytes::copy_from_slice(text.as_bytes())).await?;
    Ok(writer.commit(0, None, labels).await?.digest)
}

async fn name_it(namespace: &NamespaceHandle, name: &str, digest: Digest) -> Result<ImageRecord> {
    let record = ImageRecord {
        namespace: namespace.name().clone(),
        name: ImageName::new(name)?,
        target: Descriptor { media_type: "text/plain".to_owned(), digest, size: 1 },
        labels: Labels::new(),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    };
    namespace.images().create(record).await
}

fn rows(world: &World) -> (usize, usize) {
    let blobs = world.store.scan::<ContentRecord>(&Key::all()).expect("reads").len();
    (blobs, world.store.scan::<SnapshotRecord>(&Key::all()).expect("reads").len())
}

fn files(world: &World) -> (usize, usize) {
    let directories = world.overlay.directories().expect("reads").len();
    (world.content.list_blobs().expect("reads").len(), directories)
}

#[tokio::test]
async fn gc_1_what_an_image_alone_kept_goes_with_it_rows_and_files() {
    let world = World::new().await;
    let request = world.offer("r.test/a/app:1", &image(&["one", "two"]));
    let name = request.reference.image_name().expect("good");
    world.transfers("default").pull(request, None).await.expect("begins").wait().await.expect("pulls");
    assert_eq!((rows(&world), files(&world)), ((4, 2), (4, 2)));
    let kept = world.daemon.collect_garbage().await.expect("collects");
    assert_eq!((kept.blobs, kept.snapshots, kept.examined), (0, 0, 6));
    default(&world).images().delete(&name).await.expect("deletes");
    let would = world.daemon.find_garbage().await.expect("plans");
    assert_eq!((would.blobs, would.snapshots), (4, 2));
    assert_eq!(rows(&world), (4, 2), "a dry run removes nothing");
    let gone = world.daemon.collect_garbage().await.expect("collects");
    assert_eq!(gone, would);
    assert_eq!((rows(&world), files(&world)), ((0, 0), (0, 0)));
    assert!(world.daemon.operations().await.expect("lists").is_empty());
    world.daemon.delete_namespace(NamespaceName::default_name()).await.expect("ns-6: it is empty");
}

#[tokio::test]
async fn gc_9_a_synchronous_removal_answers_when_the_content_is_gone() {
    let world = World::new().await;
    let request = world.offer("r.test/a/app:1", &image(&["one"]));
    let name = request.reference.image_name().expect("good");
    world.transfers("default").pull(request, None).await.expect("begins").wait().await.expect("pulls");
    default(&world).images().delete(&name).await.expect("deletes");
    default(&world).images().collect().await.expect("collects");
    assert_eq!((rows(&world), files(&world)), ((0, 0), (0, 0)));
}

#[tokio::test]
async fn gc_10_what_a_pull_has_found_or_made_is_not_taken_from_it() {
    let world = World::new().await;
    let (first, second) = (image(&["shared"]), image(&["shared", "own"]));
    let (shared, own) = (second.blobs[0].0.digest, second.blobs[1].0.digest);
    let request = world.offer("r.test/a/one:1", &first);
    let name = request.reference.image_name().expect("good");
    world.transfers("default").pull(request, None).await.expect("begins").wait().await.expect("pulls");
    world.script.gated.lock().expect("fine").push(own);
    let pull =
        world.transfers("default").pull(world.offer("r.test/a/two:1", &second), None).await.expect("begins");
    until_part(&pull, shared, PartStatus::Exists).await;
    // Nothing refers to the shared layer now but the pull that has found it.
    default(&world).images().delete(&name).await.expect("deletes");
    default(&world).images().collect().await.expect("collects");
    assert!(default(&world).content().info(&shared).await.is_ok());
    assert!(default(&world).content().info(&first.target.digest).await.is_err());
    world.script.gate.notify_one();
    pull.wait().await.expect("nothing was taken");
    world.assert_rows_and_files_agree();
    world.daemon.collect_garbage().await.expect("collects");
    assert_eq!(rows(&world), (4, 2));
}

#[tokio::test]
async fn gc_5_a_file_goes_with_its_last_namespace() {
    let world = World::new().await;
    let other = world.daemon.namespace(NamespaceName::new("other").expect("good"));
    let digest = put(&default(&world), "shared", label(LABEL_ROOT, "x")).await.expect("writes");
    put(&other, "shared", Labels::new()).await.expect("writes");
    world.daemon.collect_garbage().await.expect("collects");
    assert_eq!(other.content().info(&digest).await.expect_err("gone").class, ErrorClass::NotFound);
    assert!(world.content.has_blob(&digest), "the first namespace has it");
    default(&world).content().update_labels(&digest, Labels::new(), Vec::new()).await.expect("updates");
    world.daemon.collect_garbage().await.expect("collects");
    assert!(!world.content.has_blob(&digest));
}

#[tokio::test]
async fn lse_5_what_is_made_or_found_under_a_lease_is_held_until_it_ends() {
    let world = World::new().await;
    let namespace = default(&world);
    let missing =
        put(&namespace.with_lease(lease_id("none")), "x", Labels::new()).await.expect_err("there is none");
    assert_eq!(
        (missing.class, missing.message.as_str()),
        (ErrorClass::NotFound, "lease none does not exist")
    );
    let lease = namespace.leases().create(None, Labels::new()).await.expect("creates");
    let leased = namespace.with_lease(lease.id.clone());
    let made = put(&leased, "made", Labels::new()).await.expect("writes");
    let loose = put(&namespace, "found", Labels::new()).await.expect("writes");
    let found = leased.content().writer("again".to_owned(), 0, Some(loose)).await.err().expect("is there");
    assert_eq!(found.class, ErrorClass::AlreadyExists);
    put(&namespace, "nobody's", Labels::new()).await.expect("writes");
    let key = |text: &str| SnapshotKey::new(text).expect("good");
    let snapshots = leased.snapshots("overlayfs").expect("there is");
    snapshots.prepare(key("active"), None, Labels::new()).await.expect("prepares");
    snapshots.commit(key("base"), key("active"), Labels::new()).await.expect("commits");
    snapshots.view(key("look"), Some(key("base")), Labels::new()).await.expect("views");
    snapshots.prepare(key("dropped"), None, Labels::new()).await.expect("prepares");
    snapshots.remove(key("dropped")).await.expect("removes");
    let resources = namespace.leases().resources(&lease.id).await.expect("lists");
    let words: Vec<String> =
        resources.iter().map(|resource| format!("{} {}", resource.kind(), resource.id())).collect();
    let mut wanted = vec![format!("content {made}"), format!("content {loose}")];
    wanted.sort();
    wanted.extend(["snapshots/overlayfs base".to_owned(), "snapshots/overlayfs look".to_owned()]);
    assert_eq!(words, wanted);
    world.daemon.collect_garbage().await.expect("collects");
    assert_eq!((rows(&world), files(&world)), ((2, 2), (2, 2)));
    namespace.leases().delete(lease.id.clone()).await.expect("deletes");
    namespace.leases().collect().await.expect("collects");
    assert_eq!((rows(&world), files(&world)), ((0, 0), (0, 0)));
    namespace.leases().delete(lease.id).await.expect("lse_2: its absence is success");
    let late = put(&leased, "late", Labels::new()).await.expect_err("lse_4: the lease is gone");
    assert_eq!(late.class, ErrorClass::NotFound);
}

#[tokio::test]
async fn lse_5_a_pull_under_a_lease_is_held_by_it_made_or_found() {
    let world = World::new().await;
    let namespace = default(&world);
    let request = world.offer("r.test/a/app:1", &image(&["one"]));
    let name = request.reference.image_name().expect("good");
    world
        .transfers("default")
        .pull(request.clone(), None)
        .await
        .expect("begins")
        .wait()
        .await
        .expect("pulls");
    let lease = namespace.leases().create(None, Labels::new()).await.expect("creates");
    let leased = namespace.with_lease(lease.id.clone());
    leased.transfers().pull(request.clone(), None).await.expect("begins").wait().await.expect("pulls");
    assert_eq!(namespace.leases().resources(&lease.id).await.expect("lists").len(), 4);
    namespace.images().delete(&name).await.expect("deletes");
    world.daemon.collect_garbage().await.expect("collects");
    assert_eq!(rows(&world), (3, 1));
    namespace.leases().delete(lease.id).await.expect("deletes");
    world.daemon.collect_garbage().await.expect("collects");
    assert_eq!(rows(&world), (0, 0));
    let error = leased.transfers().pull(request, None).await.err().expect("lse_4");
    assert_eq!(error.class, ErrorClass::NotFound);
}

#[tokio::test]
async fn lse_7_leases_expire_resources_come_and_go_flat_ones_keep_no_more() {
    let world = World::new().await;
    let namespace = default(&world);
    let leases = namespace.leases();
    let child = put(&namespace, "child", Labels::new()).await.expect("writes");
    let parent = put(&namespace, "parent", label(LABEL_GC_REF_CONTENT, child)).await.expect("writes");
    let resource = |digest: Digest| LeaseResource::Object(Object::Blob(digest));
    leases.create(Some(lease_id("whole")), Labels::new()).await.expect("creates");
    let twice = leases.create(Some(lease_id("whole")), Labels::new()).await.expect_err("taken");
    assert_eq!(twice.class, ErrorClass::AlreadyExists);
    leases.add(lease_id("whole"), resource(parent)).await.expect("adds");
    let nothing = leases.add(lease_id("whole"), resource(Digest::from_bytes([9; 32]))).await;
    assert_eq!(nothing.expect_err("is not there").class, ErrorClass::NotFound);
    world.daemon.collect_garbage().await.expect("collects");
    assert_eq!(rows(&world).0, 2);
    leases.create(Some(lease_id("flat")), label(LABEL_FLAT, "1")).await.expect("creates");
    leases.add(lease_id("flat"), resource(parent)).await.expect("adds");
    leases.remove(lease_id("whole"), resource(parent)).await.expect("removes");
    world.daemon.collect_garbage().await.expect("collects");
    assert_eq!(rows(&world).0, 1, "the child went");
    // One that has ended already when it is made: what it holds is nobody's.
    let past = label(LABEL_EXPIRE, "2020-01-01T00:00:00Z");
    leases.create(Some(lease_id("past")), past).await.expect("creates");
    assert_eq!(
        leases.add(lease_id("past"), resource(parent)).await.expect_err("ended").class,
        ErrorClass::NotFound
    );
    leases.delete(lease_id("flat")).await.expect("deletes");
    let gone = world.daemon.collect_garbage().await.expect("collects");
    assert_eq!((gone.leases, gone.blobs), (1, 1));
    assert_eq!(leases.list().await.expect("lists").len(), 1, "the whole one is left");
}

#[tokio::test]
async fn con_22_a_stale_ingest_is_forgotten_unless_a_lease_holds_it() {
    let world = World::new().await;
    let namespace = default(&world);
    let lease = namespace.leases().create(None, Labels::new()).await.expect("creates");
    let leased = namespace.with_lease(lease.id.clone());
    for (handle, reference) in [(&namespace, "loose"), (&leased, "leased"), (&namespace, "open")] {
        let writer = handle.content().writer(reference.to_owned(), 0, None).await.expect("opens");
        writer.write(0, Bytes::from_static(b"half")).await.expect("writes");
        if reference == "open" {
            let long_ago = std::time::SystemTime::now() - Duration::from_secs(48 * 3600);
            world.age_ingests(long_ago);
            let gone = world.daemon.collect_garbage().await.expect("collects");
            assert_eq!(gone.ingests, 1);
            drop(writer);
        }
    }
    let left: Vec<String> = namespace
        .content()
        .statuses()
        .await
        .expect("lists")
        .into_iter()
        .map(|ingest| ingest.reference)
        .collect();
    assert_eq!(left, ["leased", "open"], "one is held by a lease, one has a writer");
    namespace.leases().delete(lease.id).await.expect("deletes");
    assert_eq!(world.daemon.collect_garbage().await.expect("collects").ingests, 2);
}

#[tokio::test]
async fn gc_2_what_an_open_operation_makes_is_kept() {
    let world = World::new().await;
    let snapshots = default(&world).snapshots("overlayfs").expect("there is");
    let key = SnapshotKey::new("c").expect("good");
    snapshots.prepare(key.clone(), None, Labels::new()).await.expect("prepares");
    let core = world.transfers("default").core();
    let intent = bosun_types::operation::Intent::CreateContainer {
        container: "c".parse().expect("good"),
        snapshotter: "overlayfs".to_owned(),
        key: key.clone(),
        directory: 1,
    };
    let operation = crate::operation::record(&core, &NamespaceName::default_name(), intent);
    let mut batch = Batch::new();
    batch.open_operation(&operation);
    core.commit(batch).await.expect("commits");
    world.daemon.collect_garbage().await.expect("collects");
    snapshots.stat(&key).await.expect("it is being made");
    let object = Object::Snapshot { snapshotter: "overlayfs".to_owned(), key: key.clone() };
    let why = default(&world).why(object.clone()).await.expect("is there");
    assert_eq!(why[0].root.kind, "operation");
    let mut batch = Batch::new();
    batch.close_operation(operation.id);
    core.commit(batch).await.expect("commits");
    assert!(default(&world).why(object.clone()).await.expect("is there").is_empty());
    world.daemon.collect_garbage().await.expect("collects");
    let error = default(&world).why(object).await.expect_err("gone");
    assert_eq!(error.class, ErrorClass::NotFound);
}

/// Clients that put blobs under leases, name them, let go of the lease and look, while the collector runs all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gc_4_nothing_that_is_referred_to_or_leased_is_ever_missing() {
    const ROUNDS: usize = 25;
    let world = Arc::new(World::new().await);
    let collecting = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            loop {
                world.daemon.collect_garbage().await.expect("collects");
            }
        })
    };
    let clients: Vec<_> =
        (0..4).map(|client| tokio::spawn(client_of(Arc::clone(&world), client, ROUNDS))).collect();
    for client in clients {
        client.await.expect("ends well");
    }
    collecting.abort();
    let _ = collecting.await;
    world.daemon.collect_garbage().await.expect("collects");
    assert_eq!((rows(&world), files(&world)), ((0, 0), (0, 0)), "what nobody wants goes in the end");
}

async fn client_of(world: Arc<World>, client: usize, rounds: usize) {
    let namespace = default(&world);
    for round in 0..rounds {
        let name = format!("{client}-{round}");
        let lease = namespace.leases().create(None, Labels::new()).await.expect("creates");
        let leased = namespace.with_lease(lease.id.clone());
        // All clients have this one in common, so that one finds what another lets go of.
        let common = format!("common {round}");
        let child = match put(&leased, &common, Labels::new()).await {
            Ok(digest) => digest,
            Err(error) => {
                assert!(
                    matches!(error.class, ErrorClass::AlreadyExists | ErrorClass::Unavailable),
                    "{error}"
                );
                namespace.leases().delete(lease.id).await.expect("deletes");
                continue;
            }
        };
        let parent = put(&leased, &name, label(LABEL_GC_REF_CONTENT, child)).await.expect("writes");
        name_it(&namespace, &name, parent).await.expect("names");
        namespace.leases().delete(lease.id).await.expect("deletes");
        for digest in [parent, child] {
            tokio::task::yield_now().await;
            namespace.content().info(&digest).await.expect("it is referred to");
            assert!(world.content.has_blob(&digest), "its file is there");
        }
        namespace.images().delete(&ImageName::new(&*name).expect("good")).await.expect("deletes");
    }
}
