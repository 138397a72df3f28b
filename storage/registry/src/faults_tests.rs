//! Against a registry that goes wrong as a script says.

use std::sync::Arc;
use std::time::Duration;

use bosun_types::ErrorClass;
use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bytes::Bytes;
use futures::TryStreamExt as _;

use super::*;
use crate::testing::{Fault, FaultyRegistry};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BODY: &[u8] = b"0123456789";

struct World {
    server: FaultyRegistry,
    registry: Registry,
    reference: Reference,
}

impl World {
    async fn new() -> Self {
        Self::with(RegistryOptions::default()).await
    }

    async fn with(options: RegistryOptions) -> Self {
        install_crypto_provider();
        let server = FaultyRegistry::start().await.expect("listens");
        let reference = format!("{}/team/app:1", server.host()).parse().expect("good");
        Self { server, registry: Registry::new(options).expect("a client"), reference }
    }

    async fn fetch(&self, layer: &Descriptor, offset: u64) -> Result<(u64, Vec<u8>)> {
        let fetch = self.registry.fetch(&self.reference, layer, offset, false).await?;
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
    assert_eq!(world.registry.resolve(&world.reference, false).await.expect("resolves"), target);
    world.server.fault("manifests", 100, Fault::Status(503, Some(0)));
    assert_eq!(class(world.registry.resolve(&world.reference, false).await), ErrorClass::Unavailable);
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
        assert_eq!(class(world.registry.resolve(&world.reference, false).await), expected);
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
    assert_eq!(world.registry.fetch_bytes(&world.reference, &target, false).await.expect("again"), BODY);
    world.server.fault("GET", 1, Fault::OtherBytes);
    let error = world.registry.fetch_bytes(&world.reference, &target, false).await.expect_err("others");
    assert_eq!(error.class(), ErrorClass::DataLoss);
    assert!(error.to_string().contains(&target.digest.to_string()), "{error}");
}

/// A byte now and then keeps an idle limit content for ever: the whole has a limit too.
#[tokio::test]
async fn a_slow_loris_holds_a_small_object_for_a_bounded_time() {
    let whole = Duration::from_millis(300);
    let options = RegistryOptions { tries_max: 2, small_deadline: whole, ..RegistryOptions::default() };
    let world = World::with(options).await;
    let target = world.server.add_manifest("1", MANIFEST, vec![b' '; 10_000]);
    world.server.fault("GET", 100, Fault::Drip(Duration::from_millis(20)));
    let fetch = world.registry.fetch_bytes(&world.reference, &target, false);
    let result = tokio::time::timeout(Duration::from_secs(20), fetch).await.expect("ends by itself");
    assert_eq!(class(result), ErrorClass::Unavailable);
}

struct Secret;

impl Credentials for Secret {
    fn of(&self, _: &str) -> Option<Credential> {
        Some(Credential { user: "u".to_owned(), secret: "s".to_owned() })
    }
}

const BASIC: &str = "Basic dTpz";

async fn guarded() -> World {
    let options = RegistryOptions { credentials: Arc::new(Secret), ..RegistryOptions::default() };
    let world = World::with(options).await;
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
    world.server.fault("POST", 9, Fault::Headers(202, vec![away]));
    let push = world.registry.push_blob(&world.reference, &layer, Bytes::from_static(BODY), false);
    assert!(push.await.expect("pushes"));
    assert_eq!(other.seen().len(), 1);
    assert_kept_from(&other);
    // Nor when the other asks for them, as its own.
    other.need(BASIC, "Basic realm=\"there\"");
    let push = world.registry.push_blob(&world.reference, &layer, Bytes::from_static(BODY), false);
    assert_eq!(class(push.await), ErrorClass::Unauthenticated);
    assert_kept_from(&other);
}

#[tokio::test]
async fn rem_19_a_manifest_whose_digest_is_not_confirmed_is_no_success() {
    let world = World::new().await;
    let push = |bytes: &[u8]| world.registry.push_manifest(&world.reference, MANIFEST, bytes.to_vec(), false);
    let other = format!("Docker-Content-Digest: {}", client::digest_of(b"other"));
    world.server.fault("PUT", 1, Fault::Headers(201, vec![other]));
    assert_eq!(class(push(b"{}").await), ErrorClass::DataLoss);
    world.server.fault("PUT", 1, Fault::Headers(201, Vec::new()));
    assert_eq!(class(push(b"{}").await), ErrorClass::DataLoss);
}
