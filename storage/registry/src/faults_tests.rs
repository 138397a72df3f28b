//! Against a registry that goes wrong as a script says.

use std::sync::Arc;
use std::time::Duration;

use bosun_types::ErrorClass;
use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bosun_types::transfer::Credential;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use super::*;
use crate::testing::{Fault, FaultyRegistry};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BODY: &[u8] = b"0123456789";

struct World {
    server: FaultyRegistry,
    repository: Repository,
}

impl World {
    async fn new() -> Self {
        Self::with(RegistryOptions::default(), Access::default()).await
    }

    async fn with(options: RegistryOptions, access: Access) -> Self {
        install_crypto_provider();
        let server = FaultyRegistry::start().await.expect("listens");
        let reference: Reference = format!("{}/team/app:1", server.host()).parse().expect("good");
        let registry = Registry::new(options).expect("a client");
        Self { repository: registry.repository(&reference, &access).expect("opens"), server }
    }

    async fn fetch(&self, layer: &Descriptor, offset: u64) -> Result<(u64, Vec<u8>)> {
        let fetch = self.repository.fetch(layer, offset).await?;
        let chunks: Vec<Bytes> = fetch.stream.try_collect().await?;
        Ok((fetch.offset, chunks.concat()))
    }

    fn count(&self, part: &str) -> usize {
        self.server.seen().iter().filter(|seen| seen.line.contains(part)).count()
    }
}

fn class<T: std::fmt::Debug>(result: Result<T>) -> ErrorClass {
    result.expect_err("it fails").class()
}

#[tokio::test]
async fn passing_failures_are_repeated_and_lasting_ones_are_not() {
    let world = World::new().await;
    let target = world.server.add_manifest("1", MANIFEST, "{}");
    for fault in [Fault::Status(429, Some(0)), Fault::Status(500, Some(0)), Fault::CutAt(0)] {
        world.server.fault("manifests", 1, fault);
    }
    assert_eq!(world.repository.resolve().await.expect("resolves"), target);
    world.server.fault("manifests", 100, Fault::Status(503, Some(0)));
    assert_eq!(class(world.repository.resolve().await), ErrorClass::Unavailable);
    let before = world.count("manifests");
    let world = World::new().await;
    assert!(before <= 12, "bounded: {before}");
    for (status, expected) in [
        (404, ErrorClass::NotFound),
        (401, ErrorClass::Unauthenticated),
        (403, ErrorClass::PermissionDenied),
        (400, ErrorClass::FailedPrecondition),
    ] {
        let before = world.count("manifests");
        world.server.fault("manifests", 1, Fault::Status(status, None));
        assert_eq!(class(world.repository.resolve().await), expected);
        assert_eq!(world.count("manifests"), before + 1, "{status} is not repeated");
    }
}

#[tokio::test]
async fn rem_9_a_range_that_is_not_honoured_is_noticed() {
    let world = World::new().await;
    let layer = world.server.add_blob(LAYER, BODY);
    assert_eq!(world.fetch(&layer, 4).await.expect("fetches"), (4, BODY[4..].to_vec()));
    world.server.fault("blobs", 1, Fault::IgnoreRange);
    assert_eq!(world.fetch(&layer, 4).await.expect("fetches"), (0, BODY.to_vec()));
    for fault in [Fault::WrongRange, Fault::Status(416, None)] {
        world.server.fault("blobs", 1, fault.clone());
        assert_eq!(world.fetch(&layer, 4).await.expect("from the start"), (0, BODY.to_vec()), "{fault:?}");
    }
}

#[tokio::test]
async fn a_cut_is_unavailable_and_too_much_is_data_loss() {
    let world = World::new().await;
    let layer = world.server.add_blob(LAYER, BODY);
    world.server.fault("blobs", 1, Fault::CutAt(3));
    assert_eq!(class(world.fetch(&layer, 0).await), ErrorClass::Unavailable);
    world.server.fault("blobs", 1, Fault::TooLong);
    assert_eq!(class(world.fetch(&layer, 0).await), ErrorClass::DataLoss);
    let longer = Descriptor { size: 11, ..layer };
    assert_eq!(class(world.fetch(&longer, 0).await), ErrorClass::DataLoss);
}

#[tokio::test]
async fn small_objects_are_fetched_again_when_cut_and_refused_when_others() {
    let world = World::new().await;
    let target = world.server.add_manifest("1", MANIFEST, BODY);
    world.server.fault("GET", 2, Fault::CutAt(3));
    assert_eq!(world.repository.fetch_bytes(&target).await.expect("again"), BODY);
    world.server.fault("GET", 1, Fault::OtherBytes);
    let error = world.repository.fetch_bytes(&target).await.expect_err("others");
    assert_eq!(error.class(), ErrorClass::DataLoss);
    assert!(error.to_string().contains(&target.digest.to_string()), "{error}");
}

/// A byte now and then keeps an idle limit content for ever: the whole has a limit too.
#[tokio::test]
async fn a_slow_loris_holds_a_small_object_for_a_bounded_time() {
    let whole = Duration::from_millis(300);
    let options = RegistryOptions { tries_max: 2, small_deadline: whole, ..RegistryOptions::default() };
    let world = World::with(options, Access::default()).await;
    let target = world.server.add_manifest("1", MANIFEST, vec![b' '; 10_000]);
    world.server.fault("GET", 100, Fault::Drip(Duration::from_millis(20)));
    let fetch = world.repository.fetch_bytes(&target);
    let result = tokio::time::timeout(Duration::from_secs(20), fetch).await.expect("ends by itself");
    assert_eq!(class(result), ErrorClass::Unavailable);
}

const BASIC: &str = "Basic dTpz";

/// What [`BASIC`] says.
fn secret() -> Access {
    let credential = Credential { user: "u".to_owned(), secret: "s".to_owned() };
    Access { plain_http: false, credential: Some(credential) }
}

fn source(bytes: &'static [u8]) -> BlobSource {
    Arc::new(move |offset| {
        let rest = Bytes::from_static(&bytes[usize::try_from(offset).expect("small")..]);
        futures::stream::iter([Ok(rest)]).boxed()
    })
}

async fn guarded() -> World {
    let world = World::with(RegistryOptions::default(), secret()).await;
    world.server.need(BASIC, "Basic realm=\"here\"");
    world
}

fn assert_kept_from(other: &FaultyRegistry) {
    let seen = other.seen();
    assert!(!seen.is_empty(), "it was asked");
    for request in seen {
        assert_eq!(request.headers.get("authorization"), None, "{}", request.line);
    }
}

#[tokio::test]
async fn cve_2020_15157_a_redirect_takes_no_credentials_along() {
    let (world, other) = (guarded().await, FaultyRegistry::start().await.expect("listens"));
    let layer = world.server.add_blob(LAYER, BODY);
    other.add_blob(LAYER, BODY);
    let away = format!("Location: http://{}/v2/x/blobs/{}", other.host(), layer.digest);
    world.server.fault("blobs", 9, Fault::Headers(307, vec![away]));
    assert_eq!(world.fetch(&layer, 4).await.expect("fetches"), (4, BODY[4..].to_vec()));
    assert_kept_from(&other);
    // Nor to one that asks for them.
    other.need(BASIC, "Basic realm=\"there\"");
    assert_eq!(class(world.fetch(&layer, 0).await), ErrorClass::Unauthenticated);
    assert_kept_from(&other);
}

#[tokio::test]
async fn an_upload_that_goes_elsewhere_takes_no_credentials_along() {
    let (world, other) = (guarded().await, FaultyRegistry::start().await.expect("listens"));
    let layer = Descriptor { media_type: LAYER.to_owned(), digest: client::digest_of(BODY), size: 10 };
    let away = format!("Location: http://{}/upload?state=x", other.host());
    other.fault("PUT", 9, Fault::Headers(201, Vec::new()));
    world.server.fault("POST", 9, Fault::Headers(202, vec![away]));
    let push = world.repository.push_blob(&layer, source(BODY), &[]);
    assert_eq!(push.await.expect("pushes"), Pushed::Uploaded);
    assert_eq!(other.seen().len(), 1);
    assert_kept_from(&other);
    // Nor when the other asks for them, as its own.
    other.need(BASIC, "Basic realm=\"there\"");
    let push = world.repository.push_blob(&layer, source(BODY), &[]);
    assert_eq!(class(push.await), ErrorClass::Unauthenticated);
    assert_kept_from(&other);
}

#[tokio::test]
async fn rem_19_a_manifest_whose_digest_is_not_confirmed_is_no_success() {
    let world = World::new().await;
    let push = |bytes: &[u8]| world.repository.push_manifest("1", MANIFEST, bytes.to_vec());
    let other = format!("Docker-Content-Digest: {}", client::digest_of(b"other"));
    world.server.fault("PUT", 1, Fault::Headers(201, vec![other]));
    assert_eq!(class(push(b"{}").await), ErrorClass::DataLoss);
    world.server.fault("PUT", 1, Fault::Headers(201, Vec::new()));
    assert_eq!(class(push(b"{}").await), ErrorClass::DataLoss);
}

fn noise(length: usize) -> (Descriptor, &'static [u8]) {
    let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + at / 251) as u8).collect();
    let digest = client::digest_of(&bytes);
    (Descriptor { media_type: LAYER.to_owned(), digest, size: length as u64 }, Vec::leak(bytes))
}

#[tokio::test]
async fn rem_18_an_upload_that_is_cut_goes_on_where_the_registry_is() {
    let world = World::new().await;
    let (layer, bytes) = noise(40 << 20);
    // In the whole, then in a chunk.
    world.server.fault("PUT", 1, Fault::CutBody(5 << 20));
    world.server.fault("PATCH", 1, Fault::CutBody(3 << 20));
    let push = world.repository.push_blob(&layer, source(bytes), &[]);
    assert_eq!(push.await.expect("pushes"), Pushed::Uploaded);
    assert!(world.server.has_blob(&layer.digest));
    assert_eq!(world.count("POST"), 1, "one upload");
    let ranges: Vec<String> =
        world.server.seen().iter().filter_map(|seen| seen.headers.get("content-range").cloned()).collect();
    assert_eq!(ranges[0], format!("{}-{}", 5 << 20, (21 << 20) - 1));
    assert_eq!(ranges[1], format!("{}-{}", 8 << 20, (24 << 20) - 1));
    assert_eq!(ranges.len(), 3, "{ranges:?}");
}

#[tokio::test]
async fn rem_18_an_upload_that_the_registry_forgot_begins_again() {
    let world = World::new().await;
    let (layer, bytes) = noise(20 << 20);
    world.server.fault("PUT", 1, Fault::CutBody(1 << 20));
    world.server.fault("GET", 1, Fault::Status(404, None));
    let push = world.repository.push_blob(&layer, source(bytes), &[]);
    assert_eq!(push.await.expect("pushes"), Pushed::Uploaded);
    assert_eq!(world.count("POST"), 2);
    assert!(world.server.has_blob(&layer.digest));
}

#[tokio::test]
async fn rem_18_what_is_too_large_for_one_request_goes_in_chunks() {
    let world = World::new().await;
    let (layer, bytes) = noise(20 << 20);
    world.server.fault("PUT", 1, Fault::Status(413, None));
    let push = world.repository.push_blob(&layer, source(bytes), &[]);
    assert_eq!(push.await.expect("pushes"), Pushed::Uploaded);
    assert!(world.server.has_blob(&layer.digest));
    // A registry that never takes any is not asked for ever.
    world.server.fault("P", 1000, Fault::Status(503, Some(0)));
    let (layer, bytes) = noise(100);
    assert_eq!(class(world.repository.push_blob(&layer, source(bytes), &[]).await), ErrorClass::Unavailable);
}

#[tokio::test]
async fn rem_18_a_mount_that_is_not_granted_is_an_upload() {
    let world = World::new().await;
    let (layer, bytes) = noise(1000);
    let push = world.repository.push_blob(&layer, source(bytes), &["other/app".to_owned()]).await;
    assert_eq!(push.expect("pushes"), Pushed::Uploaded);
    let (mounted, _) = noise(2000);
    world.server.fault("mount=", 1, Fault::Headers(201, Vec::new()));
    let push = world.repository.push_blob(&mounted, source(&[]), &["other/app".to_owned()]).await;
    assert_eq!(push.expect("mounts"), Pushed::Mounted);
}

#[tokio::test]
async fn rem_21_an_index_whose_children_are_missing_says_so() {
    let world = World::new().await;
    world.server.fault("PUT", 1, Fault::Status(400, None));
    let push = world.repository.push_manifest("1", "application/vnd.oci.image.index.v1+json", b"{}".to_vec());
    let error = push.await.expect_err("refused");
    assert!(error.to_string().contains("missing in your target registry"), "{error}");
}

#[tokio::test]
async fn rem_8_a_manifest_that_is_only_a_blob_is_found() {
    let world = World::new().await;
    let blob = world.server.add_blob(MANIFEST, "{}");
    assert_eq!(world.repository.fetch_bytes(&blob).await.expect("fetches"), b"{}");
}
