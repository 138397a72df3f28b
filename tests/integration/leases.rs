//! Leases and garbage collection through the daemon: by the client library and by the command line.

use bosun_client::{Client, Namespace};
use bosun_tests::client::{IMAGE, import, logged, namespace, shell};
use bosun_tests::world::{World, eventually};
use bosun_types::lease::LeaseResource;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::transfer::ImportRequest;
use bosun_types::{ContainerId, Digest, ErrorClass, ImageName, Labels};
use bytes::Bytes;

async fn put(namespace: &Namespace, text: &'static str) -> bosun_types::Result<Digest> {
    let mut writer = namespace.content().writer(format!("put-{text}"), 0, None).await?;
    writer.write(Bytes::from_static(text.as_bytes())).await?;
    Ok(writer.commit(0, None, Labels::new()).await?.digest)
}

fn good(world: &World, words: &[&str]) -> String {
    let output = world.bosun(words).output().expect("bosun runs");
    assert!(output.status.success(), "bosun {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn collect(client: &Client) {
    client.collect_garbage(false).await.expect("collects");
}

#[tokio::test(flavor = "multi_thread")]
async fn lse_6_a_clients_lease_nests_and_ends_with_its_value() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    let lease = namespace(&client).begin_lease().await.expect("begins");
    let blob = put(lease.namespace(), "mine").await.expect("writes");
    let nested = lease.namespace().begin_lease().await.expect("nests");
    let other = put(nested.namespace(), "nested").await.expect("writes");
    nested.done().await.expect("does nothing");
    collect(&client).await;
    for digest in [blob, other] {
        namespace(&client).content().info(digest).await.expect("it is held");
    }
    let leases = namespace(&client).leases().list().await.expect("lists");
    assert_eq!(leases.len(), 1);
    assert!(leases[0].expires_at().is_some(), "a client that crashes holds nothing for ever");
    drop(lease);
    eventually("a dropped lease to be ended", || async {
        namespace(&client).leases().list().await.is_ok_and(|leases| leases.is_empty())
    })
    .await;
    collect(&client).await;
    assert_eq!(namespace(&client).content().list().await.expect("lists"), []);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lse_5_imports_and_containers_are_held_by_the_lease_they_are_made_under() {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    let lease = namespace(&client).leases().create(None, Labels::new()).await.expect("creates");
    let leased = namespace(&client).with_lease(lease.id.clone());
    import(&client).await;
    leased.containers().create(shell("life", "true")).await.expect("creates");
    let held = namespace(&client).leases().resources(lease.id.clone()).await.expect("lists");
    let root = LeaseResource::parse("snapshots/overlayfs", "life").expect("good");
    assert_eq!(held, [root], "the container's snapshot");
    // The image, then the container's row, go: what is left is held by the lease alone, over a restart of the daemon too.
    namespace(&client).images().delete_sync(ImageName::new(IMAGE).expect("good")).await.expect("deletes");
    namespace(&client)
        .container(ContainerId::new("life").expect("good"))
        .delete(false)
        .await
        .expect("deletes");
    daemon.kill();
    let _daemon = world.start();
    world.recovered(&client).await;
    collect(&client).await;
    let snapshots = namespace(&client).default_snapshots();
    let kept = snapshots.list().await.expect("lists");
    assert_eq!(kept.len(), 2, "the root and the layer below it: {kept:?}");
    world.check(&client).await;
    namespace(&client).leases().delete_sync(lease.id.clone()).await.expect("deletes");
    assert_eq!(snapshots.list().await.expect("lists"), []);
    let error = leased.containers().create(shell("late", "true")).await.expect_err("no image, no lease");
    assert_eq!(error.class, ErrorClass::NotFound);
    let error = put(&leased, "late").await.expect_err("lse_4");
    assert_eq!(
        (error.class, error.message),
        (ErrorClass::NotFound, format!("lease {} does not exist", lease.id))
    );
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_8_what_an_image_kept_goes_by_itself_and_a_running_container_keeps_its_layers() {
    let world = World::collecting();
    let _daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let container = ContainerId::new("runs").expect("good");
    namespace(&client).containers().create(shell("runs", "sleep 1000")).await.expect("creates");
    let task = namespace(&client).container(container.clone()).create_task(logged()).await.expect("creates");
    task.start().await.expect("starts");
    namespace(&client).images().delete(ImageName::new(IMAGE).expect("good")).await.expect("deletes");
    eventually("the image's blobs to go", || async {
        namespace(&client).content().list().await.is_ok_and(|blobs| blobs.is_empty())
    })
    .await;
    let left = namespace(&client).default_snapshots().list().await.expect("lists");
    assert_eq!(left.len(), 2, "the container's own snapshot and its layer: {left:?}");
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("ends");
    task.delete().await.expect("deletes");
    namespace(&client).container(container).delete(true).await.expect("deletes");
    eventually("the layer to go", || async {
        namespace(&client).default_snapshots().list().await.is_ok_and(|left| left.is_empty())
    })
    .await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_leases_and_garbage() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let digest = put(&namespace(&client), "loose").await.expect("writes").to_string();
    assert!(good(&world, &["why", &digest]).contains("nothing keeps it"));
    let lease = good(&world, &["leases", "create", "--expires", "2h", "build-7"]);
    assert_eq!(lease, "build-7");
    good(&world, &["leases", "add", "build-7", "content", &digest]);
    assert!(good(&world, &["leases", "resources", "build-7"]).contains(&digest));
    let why = good(&world, &["why", &digest]);
    assert!(why.contains("lease build-7 (until ") && why.contains(&format!("→ blob {digest}")), "{why}");
    let top = namespace(&client).default_snapshots().list().await.expect("lists")[0].key.clone();
    let why = good(&world, &["why", top.as_str()]);
    assert!(why.contains(&format!("image {IMAGE} → blob sha256:")), "{why}");
    assert!(why.ends_with(&format!("→ snapshot overlayfs/{top}")), "{why}");
    assert!(good(&world, &["gc", "--dry-run"]).starts_with("would remove 0 blobs"));
    good(&world, &["--lease", "build-7", "images", "ls"]);
    good(&world, &["leases", "drop", "build-7", "content", &digest]);
    let would = good(&world, &["gc", "--dry-run"]);
    assert!(would.contains(&digest) && would.contains("would remove 1 blobs (5 B)"), "{would}");
    assert!(good(&world, &["gc"]).starts_with("removed 1 blobs (5 B), 0 snapshots"));
    let gone = world.bosun(&["why", &digest]).output().expect("runs");
    assert_eq!(gone.status.code(), Some(1));
    good(&world, &["images", "rm", "--sync", IMAGE]);
    assert_eq!(namespace(&client).content().list().await.expect("lists"), []);
    assert!(good(&world, &["leases"]).contains("build-7"));
    good(&world, &["leases", "rm", "--sync", "build-7"]);
    assert_eq!(good(&world, &["--json", "leases"]), "[]");
    good(&world, &["namespaces", "rm", "default"]);
}

/// GC-10: the bytes of an import have no rows until it is whole.
#[tokio::test(flavor = "multi_thread")]
async fn gc_10_collections_in_the_middle_of_an_import_take_nothing_of_it() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    let blobs = world.places().root.join("content/blobs/sha256");
    let files = || std::fs::read_dir(&blobs).map_or(0, Iterator::count);
    let mut archive = Vec::new();
    let image = bosun_tests::fixture::layered_image(3, 2_000_000).expect("an image");
    image.write_oci_tar(&mut archive, Some(IMAGE)).expect("an archive");
    let name = ImageName::new(IMAGE).expect("good");
    for is_leased in [false, true] {
        let lease = namespace(&client).leases().create(None, Labels::new()).await.expect("creates");
        let space =
            if is_leased { namespace(&client).with_lease(lease.id.clone()) } else { namespace(&client) };
        let request =
            ImportRequest { unpack: Some(SNAPSHOTTER_DEFAULT.to_owned()), ..ImportRequest::default() };
        let mut import = space.transfers().import(request).await.expect("begins");
        let (most, rest) = archive.split_at(archive.len() * 9 / 10);
        import.write(Bytes::copy_from_slice(most)).await.expect("writes");
        eventually("blobs to be written", || async { files() > 1 }).await;
        let progress = import.transfer().progress().await.expect("is known");
        assert!(progress.bytes > 0, "how far it has read: {progress:?}");
        for _ in 0..2 {
            collect(&client).await;
        }
        assert!(files() > 1, "they have no rows, and are wanted");
        import.write(Bytes::copy_from_slice(rest)).await.expect("writes");
        import.finish().await.expect("ends").wait().await.expect("imports");
        collect(&client).await;
        assert_eq!(good(&world, &["run", "--rm", IMAGE, "echo", "whole"]), "whole");
        namespace(&client).images().delete_sync(name.clone()).await.expect("deletes");
        let kept = namespace(&client).content().list().await.expect("lists");
        assert_eq!(!kept.is_empty(), is_leased, "{kept:?}");
        namespace(&client).leases().delete_sync(lease.id).await.expect("deletes");
        assert_eq!(namespace(&client).content().list().await.expect("lists"), []);
    }
    world.check(&client).await;
}
