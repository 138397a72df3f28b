//! Garbage collection against everything at once: pulls, containers, leases, deletions, and `kill -9`, with a collector that never rests. What is
//! referred to or leased is never missing; what nobody wants goes in the end. `BOSUN_SEED` and `BOSUN_CHAOS_SECONDS` as in [`super::kill`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bosun_client::{Client, Namespace};
use bosun_tests::client::{expected, shell};
use bosun_tests::fixture;
use bosun_tests::invariants::violations;
use bosun_tests::registry::Registry;
use bosun_tests::world::{World, eventually};
use bosun_types::content::Descriptor;
use bosun_types::image::ImageRecord;
use bosun_types::reference::Reference;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::spec::ContainerRequest;
use bosun_types::transfer::PullRequest;
use bosun_types::{
    ContainerId, Digest, Error, ErrorClass, ImageName, Labels, NamespaceName, Result, Timestamp,
};
use bytes::Bytes;

use super::kill::{Random, seed, setting};

const PULLERS: usize = 3;
const BLOB_BYTES_MAX: usize = 4 << 20;
const NAMESPACES: [&str; 2] = ["default", "other"];

fn space(client: &Client, worker: usize) -> Namespace {
    client.namespace(NamespaceName::new(NAMESPACES[worker % 2]).expect("good"))
}

/// What a killed daemon's clients are told. Anything else means that something that was wanted is gone.
fn expect_there<T>(what: &str, result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if is_daemons_absence(&error) => None,
        Err(error) => panic!("{what}: {error}"),
    }
}

fn is_daemons_absence(error: &Error) -> bool {
    // A transfer that ended in the moment of the kill is one that the next daemon has not heard of.
    let ended = error.class == ErrorClass::NotFound && error.message.starts_with("transfer ");
    let away = matches!(error.class, ErrorClass::Unavailable | ErrorClass::DeadlineExceeded);
    ended || (away && !error.message.contains("was deleted in the middle"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gc_10_nothing_wanted_is_taken_and_nothing_unwanted_stays() {
    let mut random = Random(seed());
    let home = tempfile::tempdir().expect("a folder");
    let registry = Registry::start(home.path());
    let mut references = Vec::new();
    for puller in 0..PULLERS {
        // They share layers: what one lets go of another may just be finding.
        let reference = registry.reference(&format!("chaos/app:{puller}"));
        let image = fixture::layered_image(puller + 1, 50_000).expect("an image");
        fixture::push(&image, &reference).await.expect("pushes");
        references.push(reference);
    }
    let world = World::collecting();
    let config = world.path("config.toml");
    std::fs::write(&config, "[gc]\ndeletion_threshold = 1\npause_threshold = 0.5\n").expect("writes");
    let config = config.to_string_lossy().into_owned();
    let words = ["--config", config.as_str()];
    let mut daemon = world.start_with_words(&words);
    let client = world.client().await;
    let stop = Arc::new(AtomicBool::new(false));
    let pullers: Vec<_> = references
        .into_iter()
        .enumerate()
        .map(|(worker, reference)| tokio::spawn(puller(client.clone(), Arc::clone(&stop), worker, reference)))
        .collect();
    let leasers: Vec<_> =
        (0..2).map(|worker| tokio::spawn(leaser(client.clone(), Arc::clone(&stop), worker))).collect();
    let begin = Instant::now();
    let mut kills = 0;
    while begin.elapsed() < Duration::from_secs(setting("BOSUN_CHAOS_SECONDS", 10)) {
        tokio::time::sleep(Duration::from_millis(300 + random.next(1500))).await;
        daemon.kill();
        daemon = world.start_with_words(&words);
        kills += 1;
    }
    stop.store(true, Ordering::SeqCst);
    let mut seen = (0, 0);
    for worker in pullers {
        seen.0 += worker.await.expect("a puller");
    }
    for worker in leasers {
        seen.1 += worker.await.expect("a leaser");
    }
    println!("{kills} kills, {} images and {} leased blobs were looked at", seen.0, seen.1);
    assert!(seen.0 > 0 && seen.1 > 0, "nothing was looked at");
    let client = world.client().await;
    world.recovered(&client).await;
    nothing_is_left(&world, &client).await;
    drop(daemon);
}

async fn nothing_is_left(world: &World, client: &Client) {
    eventually("transfers that a kill cut off to end", || async {
        client.operations().await.is_ok_and(|operations| operations.is_empty())
    })
    .await;
    for name in NAMESPACES {
        let namespace = client.namespace(NamespaceName::new(name).expect("good"));
        for container in namespace.containers().list().await.expect("lists") {
            namespace.container(container.id).delete(true).await.expect("deletes");
        }
        for image in namespace.images().list().await.expect("lists") {
            namespace.images().delete(image.name).await.expect("deletes");
        }
        for lease in namespace.leases().list().await.expect("lists") {
            namespace.leases().delete(lease.id).await.expect("deletes");
        }
    }
    client.collect_garbage(false).await.expect("collects");
    for name in NAMESPACES {
        let namespace = client.namespace(NamespaceName::new(name).expect("good"));
        assert_eq!(namespace.content().list().await.expect("lists"), [], "{name}");
        assert_eq!(namespace.default_snapshots().list().await.expect("lists"), [], "{name}");
    }
    // What a transfer held until just now goes with the next collection.
    eventually("the files of what nobody wants to be gone", || async {
        client.collect_garbage(false).await.expect("collects");
        violations(world.places(), &expected(client).await).is_empty()
    })
    .await;
    world.check(client).await;
}

/// Pulls, looks, makes a container of it, lets go of both; how many times it looked.
async fn puller(client: Client, stop: Arc<AtomicBool>, worker: usize, reference: Reference) -> usize {
    let namespace = space(&client, worker);
    let name = reference.image_name().expect("good");
    let mut looked = 0;
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let request = PullRequest::new(reference.clone(), SNAPSHOTTER_DEFAULT);
        let Some(transfer) = expect_there("a pull begins", namespace.transfers().pull(request).await) else {
            continue;
        };
        let Some(images) = expect_there("a pull", transfer.wait().await) else { continue };
        if look(&namespace, &images[0]).await.is_some() {
            looked += 1;
        }
        let id = format!("c{worker}-{round}");
        let request = ContainerRequest { image: Some(name.clone()), ..shell(&id, "true") };
        expect_there("a container of an image that is there", namespace.containers().create(request).await);
        let container = namespace.container(ContainerId::new(id).expect("good"));
        // Whatever the answers are, it is removed in the end.
        let _ = namespace.images().delete(name.clone()).await;
        let _ = container.delete(true).await;
    }
    looked
}

/// Everything of an image is there and can be read.
async fn look(namespace: &Namespace, image: &ImageRecord) -> Option<()> {
    let content = namespace.content();
    let digest = image.target.digest;
    let manifest = expect_there("a manifest", content.read_all(digest, BLOB_BYTES_MAX).await)?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let layers = manifest["layers"].as_array().expect("layers").iter();
    for blob in layers.chain([&manifest["config"]]) {
        let digest: Digest = blob["digest"].as_str().expect("a digest").parse().expect("good");
        expect_there("a blob of an image", content.read_all(digest, BLOB_BYTES_MAX).await)?;
    }
    Some(())
}

/// Puts a blob under a lease, names it, lets go of the lease, then of the name; how many times it looked.
async fn leaser(client: Client, stop: Arc<AtomicBool>, worker: usize) -> usize {
    let namespace = space(&client, worker);
    let mut looked = 0;
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        looked += lease_once(&namespace, &format!("leased {worker} {round}")).await.unwrap_or(0);
    }
    looked
}

async fn lease_once(namespace: &Namespace, text: &str) -> Option<usize> {
    let lease = expect_there("a lease", namespace.leases().create(None, Labels::new()).await)?;
    let leased = namespace.with_lease(lease.id.clone());
    let writer = leased.content().writer(text.to_owned(), 0, None).await;
    let mut writer = expect_there("an ingest", writer)?;
    expect_there("bytes", writer.write(Bytes::copy_from_slice(text.as_bytes())).await)?;
    let blob = expect_there("a blob", writer.commit(0, None, Labels::new()).await)?;
    let read = async || {
        expect_there("a leased blob", namespace.content().read_all(blob.digest, BLOB_BYTES_MAX).await)
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    read().await?;
    let name = ImageName::new(text).expect("good");
    let record = ImageRecord {
        namespace: namespace.name().clone(),
        name: name.clone(),
        target: Descriptor { media_type: "text/plain".to_owned(), digest: blob.digest, size: blob.size },
        labels: Labels::new(),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    };
    expect_there("a name", namespace.images().create(record).await)?;
    expect_there("the end of a lease", namespace.leases().delete(lease.id).await)?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    read().await?;
    let _ = namespace.images().delete(name).await;
    Some(2)
}
