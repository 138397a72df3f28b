//! Diff and apply through the daemon (DIF-*): what a container changed, as a layer, and a snapshot filled from it.

use std::collections::BTreeMap;

use bosun_client::Client;
use bosun_storage::compression::Compression;
use bosun_storage::image::writer::LayerBuilder;
use bosun_tests::client::{IMAGE, import, logged, namespace, shell};
use bosun_tests::world::{Daemon, World, eventually};
use bosun_types::content::Descriptor;
use bosun_types::diff::DiffRequest;
use bosun_types::snapshot::{SNAPSHOTTER_DEFAULT, SnapshotKind};
use bosun_types::transfer::{ImportRequest, PartStatus, TransferKind, TransferState};
use bosun_types::{ContainerId, Digest, ErrorClass, Labels, SnapshotKey};
use bytes::Bytes;

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

async fn started() -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    (world, daemon, client)
}

fn key(text: &str) -> SnapshotKey {
    SnapshotKey::new(text).expect("good")
}

fn request(right: &str, media_type: &str) -> DiffRequest {
    let media_type = media_type.to_owned();
    DiffRequest { media_type, ..DiffRequest::of(key(right)) }
}

/// Runs a command in a container of its own, which stays.
async fn changed(client: &Client, name: &str, snapshotter: &str, command: &str) {
    let mut container = shell(name, command);
    container.snapshotter = Some(snapshotter.to_owned());
    let running = bosun_client::RunRequest { container, task: logged() };
    namespace(client).run(running).await.expect("runs");
    let task = namespace(client).container(ContainerId::new(name).expect("good")).task();
    assert_eq!(task.wait().await.expect("ends").code(), 0, "{command}");
    task.delete().await.expect("deletes");
}

async fn bytes_of(client: &Client, digest: Digest) -> Vec<u8> {
    namespace(client).content().read_all(digest, 64 << 20).await.expect("reads")
}

/// Names and contents in a plain tar, by a reader that is not ours.
fn files(tar: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("a tar").map(|entry| {
        let mut entry = entry.expect("an entry");
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut entry, &mut text);
        (String::from_utf8_lossy(&entry.path_bytes()).into_owned(), text)
    });
    entries.collect()
}

/// Puts bytes into content.
async fn stored(client: &Client, media_type: &str, bytes: &[u8]) -> Descriptor {
    let digest = bosun_storage::image::digest_of(bytes);
    let size = bytes.len() as u64;
    let mut writer =
        namespace(client).content().writer(digest.to_string(), size, Some(digest)).await.expect("opens");
    writer.write(Bytes::copy_from_slice(bytes)).await.expect("writes");
    writer.commit(size, Some(digest), Labels::new()).await.expect("commits");
    Descriptor { media_type: media_type.to_owned(), digest, size }
}

const CHANGES: &str = "echo new > /etc/new; rm /etc/group; rm -r /root; mkdir /root; echo 1 > /root/opaque; chmod 600 /etc/passwd";

async fn both_ways(snapshotter: &str) {
    let (world, _daemon, client) = started().await;
    if snapshotter != SNAPSHOTTER_DEFAULT {
        let mut archive = Vec::new();
        let image = bosun_tests::fixture::busybox_image().expect("an image");
        image.write_oci_tar(&mut archive, Some(IMAGE)).expect("an archive");
        let unpack = Some(snapshotter.to_owned());
        let request = ImportRequest { unpack, ..ImportRequest::default() };
        let mut sink = namespace(&client).transfers().import(request).await.expect("begins");
        sink.write(Bytes::from(archive)).await.expect("writes");
        sink.finish().await.expect("ends").wait().await.expect("imports");
    }
    changed(&client, "one", snapshotter, CHANGES).await;
    let snapshots = namespace(&client).snapshots(snapshotter);
    let mut plain = None;
    for (media_type, told) in [(PLAIN, PLAIN), ("", GZIP), (ZSTD, ZSTD)] {
        let labels = Labels::from([("mine".to_owned(), "yes".to_owned())]);
        let made = snapshots
            .diff(DiffRequest { labels, ..request("one", media_type) })
            .await
            .expect("makes a layer");
        assert_eq!(made.layer.media_type, told);
        let record = namespace(&client).content().info(made.layer.digest).await.expect("is recorded");
        assert_eq!(
            (record.size, record.labels.get("mine").map(String::as_str)),
            (made.layer.size, Some("yes"))
        );
        let uncompressed = record.labels.get("containerd.io/uncompressed").cloned();
        assert_eq!(uncompressed, (media_type != PLAIN).then(|| made.diff_id.to_string()), "DIF-4");
        let first = plain.get_or_insert_with(|| made.clone());
        assert_eq!(first.diff_id, made.diff_id, "the same tar, however it is compressed");
        // The way back: above the same parent, the same changes.
        let parent = snapshots.stat(key("one")).await.expect("is there").parent;
        snapshots.prepare(key("two"), parent, Labels::new()).await.expect("prepares");
        let applied = snapshots.apply(key("two"), made.layer.clone()).await.expect("applies");
        let size = bytes_of(&client, first.layer.digest).await.len() as u64;
        assert_eq!(applied, Descriptor { media_type: PLAIN.to_owned(), digest: made.diff_id, size }, "DIF-1");
        let again = snapshots.diff(request("two", PLAIN)).await.expect("makes a layer");
        assert_eq!(again.layer.digest, first.layer.digest, "byte for byte");
        snapshots.remove(key("two")).await.expect("removes");
    }
    let tar = bytes_of(&client, plain.expect("made").layer.digest).await;
    let files = files(&tar);
    assert_eq!(files.get("etc/new").map(String::as_str), Some("new\n"));
    assert_eq!(files.get("root/opaque").map(String::as_str), Some("1\n"));
    assert!(files.contains_key("etc/.wh.group") && files.contains_key("etc/passwd"), "{files:?}");
    assert!(!files.contains_key("bin/busybox"), "only what changed");
    assert!(client.operations().await.expect("lists").is_empty());
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dif_1_dif_3_dif_4_a_containers_changes_become_a_layer_and_the_layer_those_changes() {
    both_ways(SNAPSHOTTER_DEFAULT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dif_3_the_same_without_overlayfs() {
    both_ways("native").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dif_3_any_two_snapshots_are_compared_as_they_are_seen() {
    let (world, _daemon, client) = started().await;
    changed(&client, "left", SNAPSHOTTER_DEFAULT, "echo 1 > /only-left; echo same > /both").await;
    changed(&client, "right", SNAPSHOTTER_DEFAULT, "echo 2 > /only-right; echo other > /both").await;
    let snapshots = namespace(&client).default_snapshots();
    let between = DiffRequest { left: Some(key("left")), ..request("right", PLAIN) };
    let made = snapshots.diff(between).await.expect("makes a layer");
    let files = files(&bytes_of(&client, made.layer.digest).await);
    let names: Vec<&str> = files.keys().map(String::as_str).filter(|name| !name.ends_with('/')).collect();
    assert_eq!(names, [".wh.only-left", "both", "only-right"]);
    // A running container's writable layer too, while it is mounted elsewhere.
    let running =
        bosun_client::RunRequest { container: shell("live", "echo 3 > /live; sleep 600"), task: logged() };
    namespace(&client).run(running).await.expect("runs");
    let task = namespace(&client).container(ContainerId::new("live").expect("good")).task();
    bosun_tests::world::eventually("the change", || async {
        let made = snapshots.diff(DiffRequest { left: Some(key("left")), ..request("live", PLAIN) }).await;
        let tar = bytes_of(&client, made.expect("makes a layer").layer.digest).await;
        files_has(&tar, "live")
    })
    .await;
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("ends");
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

fn files_has(tar: &[u8], name: &str) -> bool {
    files(tar).get(name).is_some_and(|text| text == "3\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn dif_2_dif_3_types_that_are_not_layers_and_snapshots_that_take_none_are_refused() {
    let (world, _daemon, client) = started().await;
    let snapshots = namespace(&client).default_snapshots();
    changed(&client, "one", SNAPSHOTTER_DEFAULT, "touch /x").await;
    let error = snapshots.diff(request("one", "application/x-iso9660")).await.expect_err("no such layer");
    assert_eq!(error.class, ErrorClass::NotImplemented);
    assert_eq!(snapshots.diff(request("none", "")).await.expect_err("none").class, ErrorClass::NotFound);
    let tar = LayerBuilder::new().file("a", 0o644, b"a").build(Compression::Gzip).expect("a layer");
    let layer = stored(&client, "application/x.tar+gzip", &tar.bytes).await;
    snapshots.prepare(key("fresh"), None, Labels::new()).await.expect("prepares");
    let config =
        Descriptor { media_type: "application/vnd.oci.image.config.v1+json".to_owned(), ..layer.clone() };
    assert_eq!(
        snapshots.apply(key("fresh"), config).await.expect_err("no layer").class,
        ErrorClass::NotImplemented
    );
    let longer = Descriptor { size: layer.size + 1, ..layer.clone() };
    assert_eq!(
        snapshots.apply(key("fresh"), longer).await.expect_err("size").class,
        ErrorClass::InvalidArgument
    );
    let used = snapshots.apply(key("one"), layer.clone()).await.expect_err("a container's");
    assert!(used.class == ErrorClass::FailedPrecondition && used.message.contains("one"), "{used}");
    snapshots.apply(key("fresh"), layer.clone()).await.expect("applies");
    let twice = snapshots.apply(key("fresh"), layer.clone()).await.expect_err("has changes");
    assert_eq!(twice.class, ErrorClass::FailedPrecondition);
    snapshots.commit(key("done"), key("fresh"), Labels::new()).await.expect("commits");
    assert_eq!(snapshots.stat(key("done")).await.expect("is there").kind, SnapshotKind::Committed);
    assert_eq!(
        snapshots.apply(key("done"), layer).await.expect_err("committed").class,
        ErrorClass::FailedPrecondition
    );
    world.check(&client).await;
}

/// DIF-6 says that the original leaves a partly filled snapshot: ours leaves what there was.
#[tokio::test(flavor = "multi_thread")]
async fn dif_6_an_apply_that_fails_leaves_nothing() {
    let (world, _daemon, client) = started().await;
    let snapshots = namespace(&client).default_snapshots();
    let bad = LayerBuilder::new().file("a", 0o644, &[1; 100_000]).hard_link("b", "missing");
    let bad = bad.build(Compression::Gzip).expect("a layer");
    let layer = stored(&client, GZIP, &bad.bytes).await;
    snapshots.prepare(key("fresh"), None, Labels::new()).await.expect("prepares");
    let before = snapshots.stat(key("fresh")).await.expect("is there");
    let error = snapshots.apply(key("fresh"), layer).await.expect_err("a bad layer");
    assert_eq!(error.class, ErrorClass::InvalidArgument);
    assert_eq!(snapshots.stat(key("fresh")).await.expect("is there"), before);
    assert_eq!(snapshots.usage(key("fresh")).await.expect("measures").inodes, 1, "still empty");
    assert!(client.operations().await.expect("lists").is_empty());
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dif_3_a_failed_diff_leaves_no_ingest_unless_its_ref_was_given() {
    let (world, _daemon, client) = started().await;
    changed(&client, "one", SNAPSHOTTER_DEFAULT, "echo content > /a; touch /b; touch /.wh.c").await;
    let snapshots = namespace(&client).default_snapshots();
    let error = snapshots.diff(request("one", PLAIN)).await.expect_err("a name that no layer can have");
    assert!(error.class == ErrorClass::FailedPrecondition && error.message.contains(".wh.c"), "{error}");
    assert!(namespace(&client).content().statuses().await.expect("lists").is_empty());
    let given = DiffRequest { reference: Some("mine".to_owned()), ..request("one", PLAIN) };
    snapshots.diff(given).await.expect_err("the same");
    let left = namespace(&client).content().statuses().await.expect("lists");
    assert_eq!(left.iter().map(|status| status.reference.as_str()).collect::<Vec<_>>(), ["mine"]);
    assert!(client.operations().await.expect("lists").is_empty());
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_is_listed_followed_and_cancelled_like_a_transfer() {
    let (world, _daemon, client) = started().await;
    // Takes long to read and no disk.
    changed(&client, "big", SNAPSHOTTER_DEFAULT, "truncate -s 100G /hole").await;
    let before = namespace(&client).content().list().await.expect("lists").len();
    let diff = tokio::spawn({
        let snapshots = namespace(&client).default_snapshots();
        async move { snapshots.diff(request("big", "")).await }
    });
    let transfers = namespace(&client).transfers();
    let listed = || async {
        let all = transfers.list().await.expect("lists");
        all.into_iter().find(|it| it.kind == TransferKind::Diff)
    };
    eventually("the diff to be under way", || async {
        assert!(!diff.is_finished(), "{:?}", transfers.list().await);
        listed().await.is_some_and(|it| it.bytes > 1 << 20)
    })
    .await;
    let found = listed().await.expect("is there");
    assert_eq!((found.subject.as_str(), &found.state), ("overlayfs/big", &TransferState::Running));
    transfers.get(found.id).cancel().await.expect("cancels");
    let error = diff.await.expect("ends").expect_err("was cancelled");
    assert_eq!(error.class, ErrorClass::Cancelled, "{error}");
    assert!(matches!(listed().await.expect("is there").state, TransferState::Failed(_)));
    assert!(namespace(&client).content().statuses().await.expect("lists").is_empty());
    assert_eq!(namespace(&client).content().list().await.expect("lists").len(), before);
    assert!(client.operations().await.expect("lists").is_empty());
    world.check(&client).await;
}

/// Takes a while to unpack: so many files.
fn long_layer() -> bosun_storage::image::writer::Layer {
    let files = (0..60_000).fold(LayerBuilder::new().directory("many", 0o755), |layer, number| {
        layer.file(&format!("many/{number}"), 0o644, b"")
    });
    files.build(Compression::None).expect("a layer")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_is_listed_followed_and_cancelled_like_a_transfer_and_goes_on_without_its_client() {
    let (world, _daemon, client) = started().await;
    let snapshots = namespace(&client).default_snapshots();
    let layer = stored(&client, PLAIN, &long_layer().bytes).await;
    snapshots.prepare(key("fresh"), None, Labels::new()).await.expect("prepares");
    let before = snapshots.stat(key("fresh")).await.expect("is there");
    let apply = |client: &Client| {
        let (snapshots, layer) = (namespace(client).default_snapshots(), layer.clone());
        tokio::spawn(async move { snapshots.apply(key("fresh"), layer).await })
    };
    let transfers = namespace(&client).transfers();
    let under_way = || async {
        let all = transfers.list().await.expect("lists");
        all.into_iter().find(|it| it.kind == TransferKind::Apply && it.state == TransferState::Running)
    };
    let begun = || async { under_way().await.is_some_and(|it| it.parts[0].offset > 0) };
    let first = apply(&client);
    eventually("the apply to be under way", begun).await;
    let found = under_way().await.expect("is there");
    assert_eq!(found.subject, "overlayfs/fresh");
    let part = &found.parts[0];
    assert_eq!((part.digest, part.total, part.status), (layer.digest, layer.size, PartStatus::Unpacking));
    let table = world.bosun(&["transfers", "ls"]).output().expect("runs");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("apply") && table.contains("overlayfs/fresh"), "{table}");
    transfers.get(found.id).cancel().await.expect("cancels");
    let error = first.await.expect("ends").expect_err("was cancelled");
    assert_eq!(error.class, ErrorClass::Cancelled, "{error}");
    assert_eq!(snapshots.stat(key("fresh")).await.expect("is there"), before);
    assert_eq!(snapshots.usage(key("fresh")).await.expect("measures").inodes, 1, "still empty");
    assert!(client.operations().await.expect("lists").is_empty());
    world.check(&client).await;
    // Once more, by a client that leaves in the middle; another one watches.
    let leaving = world.client().await;
    let second = apply(&leaving);
    eventually("the apply to be under way", begun).await;
    let mut seen = transfers.get(under_way().await.expect("is there").id).watch().await.expect("follows");
    second.abort();
    drop(leaving);
    let mut offsets = Vec::new();
    while let Some(now) = seen.next().await {
        let now = now.expect("follows");
        offsets.push(now.parts[0].offset);
        if now.state != TransferState::Running {
            assert_eq!(now.state, TransferState::Done(Vec::new()));
            assert_eq!((now.parts[0].status, now.parts[0].offset), (PartStatus::Done, layer.size));
        }
    }
    assert!(offsets.len() > 2 && offsets.is_sorted(), "{offsets:?}");
    assert_eq!(snapshots.usage(key("fresh")).await.expect("measures").inodes, 60_002);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_by_the_command_line() {
    let (world, _daemon, client) = started().await;
    changed(&client, "one", SNAPSHOTTER_DEFAULT, "echo hello > /greeting").await;
    let run = |words: &[&str]| {
        let output = world.bosun(words).output().expect("bosun runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let text = |words: &[&str]| String::from_utf8(run(words)).expect("text").trim().to_owned();
    let tar = run(&["snapshots", "diff", "one", "--media-type", PLAIN, "-o", "-"]);
    assert_eq!(files(&tar).get("greeting").map(String::as_str), Some("hello\n"));
    let digest = text(&["snapshots", "diff", "one", "--media-type", PLAIN]);
    assert_eq!(digest, bosun_storage::image::digest_of(&tar).to_string());
    assert_eq!(text(&["snapshots", "prepare", "two"]), "two");
    assert_eq!(text(&["snapshots", "apply", "two", &digest]), digest);
    let table = text(&["snapshots"]);
    assert!(table.contains("two") && table.contains("active") && table.contains("committed"), "{table}");
    assert_eq!(text(&["snapshots", "rm", "two"]), "two");
}
