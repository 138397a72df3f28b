//! Push, objects, platforms, schema 1, transfers that are listed, cancelled and outlive clients and daemons: against real registries.

use bosun_client::{Client, Namespace, Transfer};
use bosun_registry::testing::{Fault, FaultyRegistry};
use bosun_storage::image::media_type;
use bosun_storage::image::writer::{BuiltImage, Dialect, ImageBuilder};
use bosun_tests::client::{IMAGE, import, namespace};
use bosun_tests::fixture;
use bosun_tests::registry::Registry;
use bosun_tests::world::{World, eventually};
use bosun_types::image::ImageRecord;
use bosun_types::platform::Platform;
use bosun_types::reference::Reference;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::transfer::{
    ObjectRequest, PartStatus, Platforms, PullRequest, PushRequest, TransferKind, TransferState,
};
use bosun_types::{Error, ErrorClass, ImageName};
use bytes::Bytes;

pub(crate) fn pull(reference: Reference) -> PullRequest {
    PullRequest::new(reference, SNAPSHOTTER_DEFAULT)
}

pub(crate) fn push(reference: Reference, image: &ImageName) -> PushRequest {
    PushRequest { image: Some(image.clone()), ..PushRequest::new(reference) }
}

async fn done(transfer: bosun_types::Result<Transfer>) -> bosun_types::Result<Vec<ImageRecord>> {
    transfer?.wait().await
}

/// Another namespace: nothing that the first one has is seen there.
fn elsewhere(client: &Client) -> Namespace {
    client.namespace("elsewhere".parse().expect("good"))
}

fn multi() -> BuiltImage {
    let other =
        ImageBuilder { platform: Platform::parse("linux/s390x").expect("good"), ..ImageBuilder::new() };
    let other = other.layer(fixture::data_layer(9, 100_000).expect("a layer")).build();
    BuiltImage::index(vec![other, fixture::busybox_image().expect("an image")], Dialect::Oci)
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_16_what_is_pushed_can_be_pulled_and_a_second_repository_shares_the_blobs() {
    let world = World::new();
    let registry = Registry::start(&world.path("r"));
    let _daemon = world.start();
    let client = world.client().await;
    let name = import(&client).await;
    let transfers = namespace(&client).transfers();
    let target = registry.reference("team/app:1");
    let images = done(transfers.push(push(target.clone(), &name)).await).await.expect("pushes");
    assert_eq!(images[0].name, name);
    // Again: everything is there.
    let again = transfers.push(push(target.clone(), &name)).await.expect("starts");
    again.wait().await.expect("pushes");
    let progress = again.progress().await.expect("known");
    assert_eq!(progress.kind, TransferKind::Push);
    assert!(progress.parts.iter().all(|part| part.status == PartStatus::Exists), "{progress:?}");
    // REM-18: the registry takes the blobs from the repository that has them.
    let shared = transfers.push(push(registry.reference("other/app:1"), &name)).await.expect("starts");
    shared.wait().await.expect("pushes");
    let progress = shared.progress().await.expect("known");
    let blobs: Vec<PartStatus> = progress
        .parts
        .iter()
        .filter(|part| !part.key.starts_with("manifest"))
        .map(|part| part.status)
        .collect();
    assert_eq!(blobs, [PartStatus::Mounted, PartStatus::Mounted]);
    let pulled = done(elsewhere(&client).transfers().pull(pull(target)).await).await.expect("pulls");
    assert_eq!(pulled[0].target.digest, images[0].target.digest);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_20_what_cannot_be_pushed_is_refused_with_what_to_do() {
    let world = World::new();
    let registry = Registry::start(&world.path("r"));
    let _daemon = world.start();
    let client = world.client().await;
    let name = import(&client).await;
    let transfers = namespace(&client).transfers();
    let digest = format!("team/app:1@sha256:{}", "a".repeat(64));
    let by_digest = transfers.push(push(registry.reference(&digest), &name)).await;
    assert_eq!(done(by_digest).await.expect_err("a digest").class, ErrorClass::InvalidArgument);
    let untagged = transfers.push(push(registry.reference("team/app"), &name)).await;
    assert_eq!(done(untagged).await.expect_err("no tag").class, ErrorClass::InvalidArgument);
    let missing = ImageName::new("no.such/image:1").expect("good");
    let missing = transfers.push(push(registry.reference("team/app:1"), &missing)).await;
    assert_eq!(done(missing).await.expect_err("not there").class, ErrorClass::NotFound);
    // Half an index.
    let reference = registry.reference("team/multi:1");
    fixture::push(&multi(), &reference).await.expect("pushes");
    let image = done(transfers.pull(pull(reference)).await).await.expect("pulls")[0].name.clone();
    let half = done(transfers.push(push(registry.reference("other/multi:1"), &image)).await).await;
    let error = half.expect_err("the other half is not here");
    assert_eq!(error.class, ErrorClass::FailedPrecondition);
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("--platform")), "{error:?}");
    let platform = Some(Platform::host());
    let one = PushRequest { platform, ..push(registry.reference("other/one:1"), &image) };
    done(transfers.push(one).await).await.expect("pushes one");
    done(elsewhere(&client).transfers().pull(pull(registry.reference("other/one:1"))).await)
        .await
        .expect("pulls it");
    assert!(client.operations().await.expect("lists").is_empty());
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plt_4_all_platforms_of_an_index_are_pulled_pushed_and_pulled_again() {
    let world = World::new();
    let registry = Registry::start(&world.path("r"));
    let _daemon = world.start();
    let client = world.client().await;
    let reference = registry.reference("team/multi:1");
    let index = multi();
    fixture::push(&index, &reference).await.expect("pushes");
    let transfers = namespace(&client).transfers();
    let all = PullRequest { platforms: Platforms::All, ..pull(reference.clone()) };
    let image = done(transfers.pull(all).await).await.expect("pulls")[0].clone();
    assert_eq!(image.target.digest, index.target.digest);
    let content = namespace(&client).content().list().await.expect("lists");
    assert_eq!(content.len(), index.blobs.len(), "everything that the index names");
    assert_eq!(namespace(&client).default_snapshots().list().await.expect("lists").len(), 1, "ours");
    let copy = registry.reference("other/multi:1");
    done(transfers.push(push(copy.clone(), &image.name)).await).await.expect("pushes the whole");
    // REM-13 with several platforms by name: each is unpacked.
    let platforms = ["linux/s390x", "linux/amd64"].map(|text| Platform::parse(text).expect("good"));
    let both = PullRequest { platforms: Platforms::Only(platforms.to_vec()), ..pull(copy) };
    let other = elsewhere(&client);
    done(other.transfers().pull(both).await).await.expect("pulls both");
    assert_eq!(other.default_snapshots().list().await.expect("lists").len(), 2);
    assert_eq!(other.content().list().await.expect("lists").len(), index.blobs.len());
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_objects_go_and_come() {
    let world = World::new();
    let registry = Registry::start(&world.path("r"));
    let _daemon = world.start();
    let client = world.client().await;
    let name = import(&client).await;
    let transfers = namespace(&client).transfers();
    let target = registry.reference("team/app:1");
    let image = done(transfers.push(push(target.clone(), &name)).await).await.expect("pushes")[0].clone();
    let manifest = ObjectRequest {
        reference: target,
        digest: image.target.digest,
        media_type: image.target.media_type,
        plain_http: false,
    };
    done(transfers.push_object(manifest.clone()).await).await.expect("is there");
    let other = elsewhere(&client);
    done(other.transfers().fetch_object(manifest.clone()).await).await.expect("fetches");
    let stored = other.content().list().await.expect("lists");
    assert_eq!(stored.len(), 1, "the object and nothing that it names");
    assert!(stored[0].labels.contains_key("containerd.io/gc.root"));
    let layer = namespace(&client).content().list().await.expect("lists");
    let layer = layer.iter().max_by_key(|blob| blob.size).expect("a layer").digest;
    let layer = ObjectRequest { digest: layer, media_type: String::new(), ..manifest.clone() };
    done(other.transfers().fetch_object(layer.clone()).await).await.expect("fetches");
    let elsewhere = ObjectRequest { reference: registry.reference("third/app:1"), ..layer };
    done(other.transfers().push_object(elsewhere).await).await.expect("pushes");
    let unknown = ObjectRequest { digest: bosun_types::Digest::from_bytes([7; 32]), ..manifest };
    for error in [
        done(transfers.fetch_object(unknown.clone()).await).await,
        done(transfers.push_object(unknown).await).await,
    ] {
        assert_eq!(error.expect_err("nobody has it").class, ErrorClass::NotFound);
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_listed_followed_and_cancelled_by_others_than_who_began_it() {
    let world = World::new();
    let server = FaultyRegistry::start().await.expect("listens");
    let daemon = world.start();
    let image = fixture::layered_image(1, 200_000).expect("an image");
    offer(&server, &image, "1");
    server.fault("blobs", 100, Fault::Silence(1000));
    let reference: Reference = format!("{}/team/app:1", server.host()).parse().expect("good");
    {
        let client = world.client().await;
        namespace(&client).transfers().pull(pull(reference.clone())).await.expect("starts");
        // And leaves.
    }
    let client = world.client().await;
    let listed = namespace(&client).transfers().list().await.expect("lists");
    assert_eq!((listed.len(), listed[0].kind), (1, TransferKind::Pull));
    assert_eq!((&listed[0].subject, &listed[0].state), (&reference.to_string(), &TransferState::Running));
    let id = listed[0].id.to_string();
    let table = world.bosun(&["transfers", "ls"]).output().expect("runs");
    assert!(String::from_utf8_lossy(&table.stdout).contains(&reference.to_string()));
    let follower = namespace(&client).transfers().get(listed[0].id);
    let cancelled = world.bosun(&["transfers", "cancel", &id]).output().expect("runs");
    assert!(cancelled.status.success(), "{cancelled:?}");
    assert_eq!(follower.wait().await.expect_err("cancelled").class, ErrorClass::Cancelled);
    let again = world.bosun(&["transfers", "cancel", &id]).output().expect("runs");
    assert!(!again.status.success(), "it is over");
    let followed = world.bosun(&["transfers", "follow", &id]).output().expect("runs");
    assert!(String::from_utf8_lossy(&followed.stderr).contains("cancelled"), "{followed:?}");
    assert!(client.operations().await.expect("lists").is_empty());
    // What was fetched stays for the next try; a start of the daemon sweeps what nobody came for.
    daemon.kill();
    let _daemon = world.start();
    let client = world.client().await;
    world.recovered(&client).await;
    world.check(&client).await;
}

/// Puts a built image into a scripted registry.
pub(crate) fn offer(server: &FaultyRegistry, image: &BuiltImage, tag: &str) {
    for (descriptor, bytes) in &image.blobs {
        let media_type = &descriptor.media_type;
        if media_type::is_manifest(media_type) || media_type::is_index(media_type) {
            server.add_manifest(tag, media_type, bytes.clone());
        } else {
            server.add_blob(media_type, Bytes::from(bytes.clone()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_limits_the_rate_is_waited_for_and_one_that_always_does_is_told() {
    let world = World::new();
    let server = FaultyRegistry::start().await.expect("listens");
    let _daemon = world.start();
    let client = world.client().await;
    let image = fixture::layered_image(1, 100_000).expect("an image");
    offer(&server, &image, "1");
    let reference: Reference = format!("{}/team/app:1", server.host()).parse().expect("good");
    let transfers = namespace(&client).transfers();
    // A document, a layer, the layer again, and what looks like a restart of the registry.
    for (part, fault) in [
        ("/manifests/", Fault::Status(429, Some(1))),
        ("/blobs/", Fault::Status(429, Some(1))),
        ("/blobs/", Fault::Status(503, None)),
        ("/blobs/", Fault::CutAt(5000)),
    ] {
        server.fault(part, 1, fault);
    }
    let begin = std::time::Instant::now();
    done(transfers.pull(pull(reference.clone())).await).await.expect("pulls in the end");
    assert!(begin.elapsed() >= std::time::Duration::from_secs(1), "Retry-After is kept to");
    namespace(&client).images().delete_sync(reference.image_name().expect("good")).await.expect("deletes");
    server.fault("/manifests/", usize::MAX, Fault::Status(429, Some(0)));
    let error = done(transfers.pull(pull(reference)).await).await.expect_err("for ever");
    assert_eq!(error.class, ErrorClass::Unavailable, "{error}");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("limits the rate")), "{error:?}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_15_schema_1_is_refused_or_converted_and_runs() {
    let world = World::new();
    let server = FaultyRegistry::start().await.expect("listens");
    let _daemon = world.start();
    let client = world.client().await;
    let image = fixture::busybox_image().expect("an image");
    let (layer, bytes) = image
        .blobs
        .iter()
        .find(|(descriptor, _)| media_type::is_layer(&descriptor.media_type))
        .expect("a layer");
    server.add_blob(media_type::DOCKER_LAYER_GZIP, Bytes::from(bytes.clone()));
    let top = serde_json::json!({"id":"b","parent":"a","os":"linux","architecture":"amd64",
        "config":{"Cmd":["/bin/sh"],"Env":["PATH=/bin"]},"throwaway":true});
    let document = serde_json::json!({
        "schemaVersion": 1, "name": "team/old", "tag": "1", "architecture": "amd64",
        "fsLayers": [{"blobSum": layer.digest.to_string()}, {"blobSum": layer.digest.to_string()}],
        "history": [{"v1Compatibility": top.to_string()}, {"v1Compatibility": r#"{"id":"a"}"#}],
    });
    let kind = "application/vnd.docker.distribution.manifest.v1+json";
    server.add_manifest("1", kind, document.to_string());
    let reference: Reference = format!("{}/team/old:1", server.host()).parse().expect("good");
    let transfers = namespace(&client).transfers();
    let error = done(transfers.pull(pull(reference.clone())).await).await.expect_err("not asked for");
    assert_eq!(error.class, ErrorClass::NotImplemented);
    assert!(error.hint.is_some_and(|hint| hint.contains("--convert-schema1")));
    let request = PullRequest { convert_schema1: true, ..pull(reference) };
    let image = done(transfers.pull(request).await).await.expect("converts")[0].clone();
    assert_eq!(image.target.media_type, media_type::OCI_MANIFEST);
    let run = world.bosun(&["run", "--rm", image.name.as_str(), "echo", "old", "but", "runs"]).output();
    let run = run.expect("runs");
    assert_eq!(String::from_utf8_lossy(&run.stdout), "old but runs\n", "{run:?}");
    world.check(&client).await;
}

/// F1, for real: the daemon dies while bytes flow, and the transfers go on from where they were without anyone asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_goes_on_with_its_pulls_and_pushes() {
    let world = World::new();
    let server = FaultyRegistry::start().await.expect("listens");
    let daemon = world.start();
    let client = world.client().await;
    let name = import(&client).await;
    let image = fixture::layered_image(2, 3_000_000).expect("an image");
    offer(&server, &image, "1");
    // The way of the first tries is slow: they are under way when the daemon dies.
    server.fault("GET /v2/team/app/blobs", 100, Fault::Silence(1_000_000));
    server.fault("PUT", 100, Fault::Mute);
    let reference: Reference = format!("{}/team/app:1", server.host()).parse().expect("good");
    let target: Reference = format!("{}/team/pushed:1", server.host()).parse().expect("good");
    let transfers = namespace(&client).transfers();
    let pulling = transfers.pull(pull(reference.clone())).await.expect("starts");
    transfers.push(push(target, &name)).await.expect("starts");
    eventually("bytes to flow", || async {
        let progress = pulling.progress().await.expect("known");
        let moved = progress.parts.iter().any(|part| part.total > 2_000_000 && part.offset > 500_000);
        moved && server.seen().iter().any(|seen| seen.line.starts_with("PUT"))
    })
    .await;
    daemon.kill();
    server.heal();
    let _daemon = world.start();
    let client = world.client().await;
    eventually("both to be done", || async { client.operations().await.is_ok_and(|open| open.is_empty()) })
        .await;
    let name = reference.image_name().expect("good");
    namespace(&client).images().get(name).await.expect("pulled");
    let seen = server.seen();
    let resumed = seen.iter().any(|seen| seen.headers.contains_key("range"));
    assert!(resumed, "what was there was fetched again: {seen:#?}");
    assert!(server.has_tag("1"), "pushed");
    world.recovered(&client).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_14_push_by_the_command_line_shows_its_parts() {
    let world = World::new();
    let registry = Registry::start(&world.path("r"));
    let _daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let target = registry.reference("team/app:1").to_string();
    let pushed = world.bosun(&["push", &target, IMAGE]).output().expect("runs");
    let shown = String::from_utf8_lossy(&pushed.stderr);
    assert!(pushed.status.success(), "{shown}");
    assert!(shown.contains("layer-") && shown.contains("uploading") && shown.contains("/s)"), "{shown}");
    let quiet = world.bosun(&["push", "--quiet", &target, IMAGE]).output().expect("runs");
    let quiet = (String::from_utf8_lossy(&quiet.stdout).into_owned(), quiet.stderr);
    assert!(quiet.0.starts_with("sha256:") && quiet.1.is_empty(), "{quiet:?}");
    let error: Error = {
        let missing = world.bosun(&["push", &target, "no.such/image:1"]).output().expect("runs");
        assert!(!missing.status.success());
        Error::not_found(String::from_utf8_lossy(&missing.stderr))
    };
    assert!(error.message.contains("hint:"), "{error}");
}
