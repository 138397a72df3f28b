//! Pulling from a real docker-registry on loopback.

use bosun_client::RunRequest;
use bosun_storage::image::writer::{BuiltImage, Dialect, ImageBuilder};
use bosun_tests::client::{events, log_of, logged, namespace, shell};
use bosun_tests::fixture;
use bosun_tests::registry::Registry;
use bosun_tests::world::World;
use bosun_types::event::Event;
use bosun_types::platform::Platform;
use bosun_types::reference::Reference;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::task::ExitCause;
use bosun_types::transfer::{PartStatus, Platforms, PullRequest};
use bosun_types::{ContainerId, ErrorClass};

fn pull(reference: Reference) -> PullRequest {
    PullRequest::new(reference, SNAPSHOTTER_DEFAULT)
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_13_pull_by_tag_and_digest_and_again_finds_everything_here() {
    let world = World::new();
    let registry = Registry::start(&world.path(""));
    let _daemon = world.start();
    let client = world.client().await;
    let image = fixture::layered_image(3, 200_000).expect("an image");
    let reference = registry.reference("team/app:1");
    fixture::push(&image, &reference).await.expect("pushes");
    let transfers = namespace(&client).transfers();
    let images = transfers.pull(pull(reference.clone())).await.expect("starts").wait().await.expect("pulls");
    assert_eq!(images[0].target, image.target);
    let by_digest = registry.reference(&format!("team/app@{}", image.target.digest));
    let transfer = transfers.pull(pull(by_digest)).await.expect("starts");
    transfer.wait().await.expect("pulls");
    let progress = transfer.progress().await.expect("known");
    assert!(progress.parts.iter().all(|part| part.status == PartStatus::Exists), "{progress:?}");
    assert_eq!(namespace(&client).default_snapshots().list().await.expect("lists").len(), 4);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plt_4_an_index_gives_the_wanted_platform_and_names_those_it_has() {
    let world = World::new();
    let registry = Registry::start(&world.path(""));
    let _daemon = world.start();
    let client = world.client().await;
    let other =
        ImageBuilder { platform: Platform::parse("linux/s390x").expect("good"), ..ImageBuilder::new() };
    let other = other.layer(fixture::data_layer(9, 1000).expect("a layer")).build();
    let ours = fixture::busybox_image().expect("an image");
    let index = BuiltImage::index(vec![other, ours], Dialect::Oci);
    let reference = registry.reference("team/multi:1");
    fixture::push(&index, &reference).await.expect("pushes");
    let transfers = namespace(&client).transfers();
    transfers.pull(pull(reference.clone())).await.expect("starts").wait().await.expect("pulls");
    let platforms = Platforms::Only(vec![Platform::parse("linux/riscv64").expect("good")]);
    let wrong = PullRequest { platforms, ..pull(reference) };
    let error = transfers.pull(wrong).await.expect("starts").wait().await.expect_err("not there");
    assert_eq!(error.class, ErrorClass::NotFound);
    assert!(error.message.contains("s390x"), "{error}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_pulls_are_one() {
    let world = World::new();
    let registry = Registry::start(&world.path(""));
    let _daemon = world.start();
    let client = world.client().await;
    let reference = registry.reference("team/busy:1");
    fixture::push(&fixture::layered_image(4, 2_000_000).expect("an image"), &reference)
        .await
        .expect("pushes");
    let pulls = (0..10).map(|_| {
        let (client, request) = (client.clone(), pull(reference.clone()));
        tokio::spawn(async move {
            namespace(&client).transfers().pull(request).await.expect("starts").wait().await.expect("pulls")
        })
    });
    futures::future::try_join_all(pulls).await.expect("joins");
    let committed = events(&client)
        .await
        .iter()
        .filter(|event| matches!(event.event, Event::SnapshotCommit { .. }))
        .count();
    assert_eq!(committed, 5, "one unpack a layer");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_what_was_promised_leave_nothing_and_the_daemon_serves_on() {
    let world = World::new();
    let registry = Registry::start(&world.path(""));
    let _daemon = world.start();
    let client = world.client().await;
    let image = fixture::layered_image(2, 300_000).expect("an image");
    let reference = registry.reference("team/bad:1");
    fixture::push(&image, &reference).await.expect("pushes");
    let (layer, _) = image
        .blobs
        .iter()
        .find(|(descriptor, _)| descriptor.media_type.contains("layer") && descriptor.size > 100_000)
        .expect("a layer");
    let path = registry.blob(&layer.digest.hex());
    let mut bytes = std::fs::read(&path).expect("is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&path, &bytes).expect("writes");
    let transfers = namespace(&client).transfers();
    let error =
        transfers.pull(pull(reference.clone())).await.expect("starts").wait().await.expect_err("damaged");
    assert!(
        matches!(
            error.class,
            ErrorClass::DataLoss | ErrorClass::FailedPrecondition | ErrorClass::InvalidArgument
        ),
        "{error}"
    );
    assert!(namespace(&client).images().list().await.expect("lists").is_empty());
    assert!(namespace(&client).default_snapshots().list().await.expect("lists").is_empty());
    let missing = registry.reference("no/such:1");
    let error = transfers.pull(pull(missing)).await.expect("starts").wait().await.expect_err("not there");
    assert_eq!(error.class, ErrorClass::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn snp_18_an_image_is_unpacked_in_turn_where_layers_need_each_other_and_runs_there() {
    let world = World::new();
    let registry = Registry::start(&world.path(""));
    let _daemon = world.start();
    let client = world.client().await;
    let image = fixture::layered_image(3, 200_000).expect("an image");
    let reference = registry.reference("team/app:1");
    fixture::push(&image, &reference).await.expect("pushes");
    let transfers = namespace(&client).transfers();
    let request = PullRequest { unpack: Some("native".to_owned()), ..pull(reference.clone()) };
    let images = transfers.pull(request.clone()).await.expect("starts").wait().await.expect("pulls");
    let rows = namespace(&client).snapshots("native").list().await.expect("lists");
    assert_eq!(rows.len(), 4);
    assert_eq!(rows.iter().filter(|row| row.parent.is_none()).count(), 1, "a chain");
    world.check(&client).await;
    let transfer = transfers.pull(request).await.expect("starts");
    transfer.wait().await.expect("pulls again");
    let progress = transfer.progress().await.expect("known");
    assert!(progress.parts.iter().all(|part| part.status == PartStatus::Exists), "{progress:?}");
    // The other snapshotter takes the same blobs.
    transfers.pull(pull(reference)).await.expect("starts").wait().await.expect("pulls");

    let name = images[0].name.clone();
    for snapshotter in ["native", "overlayfs"] {
        let mut container = shell(snapshotter, "ls / && echo written > /file && cat /file && exit 9");
        container.image = Some(name.clone());
        container.snapshotter = Some(snapshotter.to_owned());
        let run = RunRequest { container, task: logged() };
        let running = namespace(&client).run(run).await.expect("runs");
        assert_eq!(running.wait().await.expect("ends").cause, ExitCause::Code(9));
        assert!(log_of(&client, snapshotter).await.ends_with("written\n"));
    }
    assert_eq!(log_of(&client, "native").await, log_of(&client, "overlayfs").await, "the same files");
    world.check(&client).await;
    for id in ["native", "overlayfs"] {
        let container = namespace(&client).container(ContainerId::new(id).expect("good"));
        container.task().delete().await.expect("deletes");
        container.delete(true).await.expect("deletes");
    }
    world.check(&client).await;
}
