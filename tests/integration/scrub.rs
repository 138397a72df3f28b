//! Scrub with the real daemon and a real registry: a flipped byte is found and mended, in a blob and under a running container.

use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bosun_client::Snapshots;
use bosun_tests::client::{logged, namespace, shell};
use bosun_tests::disk::Disk;
use bosun_tests::fixture;
use bosun_tests::registry::Registry;
use bosun_tests::world::World;
use bosun_types::snapshot::{SNAPSHOTTER_DEFAULT, SnapshotKind, SnapshotRecord};
use bosun_types::spec::ContainerRequest;
use bosun_types::transfer::PullRequest;
use bosun_types::{ContainerId, ErrorClass};

/// Flips the first byte of a file and leaves everything else as it is.
fn flip(path: &Path) {
    let before = std::fs::metadata(path).expect("is there");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("changes");
    let file = std::fs::File::options().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).expect("reads");
    file.write_all_at(&[!byte[0]], 0).expect("writes");
    file.set_permissions(before.permissions()).expect("changes");
    file.set_modified(before.modified().expect("has a time")).expect("changes");
    assert_eq!(std::fs::metadata(path).expect("is there").size(), before.size());
}

fn layer_file(world: &World, layer: &SnapshotRecord, name: &str) -> PathBuf {
    let (snapshotter, directory) = (&layer.snapshotter, layer.directory);
    world.places().root.join(format!("snapshots/{snapshotter}/{directory}/fs/{name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_found_and_mended_in_a_blob_and_in_a_layer() {
    found_and_mended(&World::new(), SNAPSHOTTER_DEFAULT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_layers_are_copies() {
    found_and_mended(&World::new(), "native").await;
}

/// A fresh unpack is a subvolume of its own there: nothing can be renamed out of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_layers_are_subvolumes() {
    let world = World::new();
    let _disk = Disk::mount(&world.path("btrfs.img"), &world.places().root.join("snapshots/btrfs"));
    found_and_mended(&world, "btrfs").await;
}

async fn found_and_mended(world: &World, snapshotter: &str) {
    let home = tempfile::tempdir().expect("a folder");
    let registry = Registry::start(home.path());
    let reference = registry.reference("scrub/app:1");
    let image = fixture::layered_image(1, 50_000).expect("an image");
    fixture::push(&image, &reference).await.expect("pushes");
    let _daemon = world.start();
    let client = world.client().await;
    let space = namespace(&client);
    let request = PullRequest::new(reference.clone(), snapshotter);
    space.transfers().pull(request).await.expect("begins").wait().await.expect("pulls");
    let name = reference.image_name().expect("good");
    let snapshots = space.snapshots(snapshotter);
    let snapshotter = Some(snapshotter.to_owned());
    let request = ContainerRequest { image: Some(name), snapshotter, ..shell("runs", "sleep 1000") };
    space.containers().create(request).await.expect("creates");
    let task = space
        .container(ContainerId::new("runs").expect("good"))
        .create_task(logged())
        .await
        .expect("creates");
    task.start().await.expect("starts");
    let clean = world.bosun(&["content", "verify"]).output().expect("runs");
    let told = String::from_utf8_lossy(&clean.stdout).into_owned();
    assert!(clean.status.success() && told.starts_with("6 looked at, 0 damaged"), "{told}");

    let blobs = world.places().root.join("content/blobs/sha256");
    for blob in space.content().list().await.expect("lists") {
        flip(&blobs.join(blob.digest.hex()));
        let finding = space.content().verify(blob.digest, false).await.expect("looks");
        assert!(finding.damage[0].contains("have digest") && !finding.repaired, "{finding:?}");
        let finding = space.content().verify(blob.digest, true).await.expect("repairs");
        assert!(finding.repaired, "{finding:?}");
        assert!(space.content().verify(blob.digest, false).await.expect("looks").damage.is_empty());
    }
    let lost = image.blobs[0].0.digest;
    std::fs::remove_file(blobs.join(lost.hex())).expect("removes");
    assert!(
        space.content().verify(lost, true).await.expect("repairs").repaired,
        "one that is not there at all"
    );

    damaged_and_mended(world, &snapshots).await;
    let active = snapshots.verify("runs".parse().expect("good"), false).await.expect_err("it may change");
    assert_eq!(active.class, ErrorClass::FailedPrecondition);
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("it ran all the time");
    world.check(&client).await;
}

/// One file of a layer, and one that is not of it.
async fn damaged_and_mended(world: &World, snapshots: &Snapshots) {
    let layers = snapshots.list().await.expect("lists");
    let has_data = |layer: &SnapshotRecord| layer_file(world, layer, "data/0").exists();
    let parent_of =
        |layer: &SnapshotRecord| layers.iter().find(|other| Some(&other.key) == layer.parent.as_ref());
    let is_first = |layer: &&SnapshotRecord| has_data(layer) && !parent_of(layer).is_some_and(has_data);
    let mut committed = layers.iter().filter(|layer| layer.kind == SnapshotKind::Committed);
    let layer = committed.find(is_first).expect("the layer of data");
    let file = layer_file(world, layer, "data/0");
    let sound = std::fs::read(&file).expect("reads");
    flip(&file);
    std::fs::write(layer_file(world, layer, "data/alien"), "").expect("writes");
    let finding = snapshots.verify(layer.key.clone(), false).await.expect("looks");
    assert_eq!(finding.damage, ["/data/0 differs", "/data/alien is not of the layer"]);
    let verify = world.bosun(&["content", "verify"]).output().expect("runs");
    assert_eq!(verify.status.code(), Some(1), "damage is a failure");
    let repair = world.bosun(&["content", "repair"]).output().expect("runs");
    let told = String::from_utf8_lossy(&repair.stdout).into_owned();
    assert!(repair.status.success() && told.ends_with("1 damaged, 1 repaired\n"), "{told}");
    assert_eq!(std::fs::read(&file).expect("reads"), sound);
    assert!(snapshots.verify(layer.key.clone(), false).await.expect("looks").damage.is_empty());
}
