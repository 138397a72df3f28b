//! Image archives, out and in again: by RPC, by the command line, and read by a peer (IEX-*).

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use bosun_client::Client;
use bosun_storage::compression::Compression;
use bosun_storage::image::digest_of;
use bosun_storage::image::writer::{BuiltImage, Dialect, ImageBuilder, LayerBuilder};
use bosun_tests::client::{IMAGE, import, import_bytes, namespace};
use bosun_tests::fixture;
use bosun_tests::world::{Daemon, World, eventually};
use bosun_types::platform::Platform;
use bosun_types::transfer::{ExportRequest, ImportRequest, Platforms, TransferKind, TransferState};
use bosun_types::{Digest, ErrorClass, ImageName};
use bytes::Bytes;

async fn started() -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    (world, daemon, client)
}

/// What `bosun` prints; it must succeed.
fn bosun(world: &World, words: &[&str]) -> Vec<u8> {
    let output = world.bosun(words).output().expect("bosun runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn path(world: &World, name: &str) -> String {
    world.path(name).to_string_lossy().into_owned()
}

fn image(text: &str, platform: &str) -> BuiltImage {
    let layer =
        LayerBuilder::new().file("text", 0o644, text.as_bytes()).build(Compression::Gzip).expect("a layer");
    let platform = Platform::parse(platform).expect("good");
    ImageBuilder { platform, ..ImageBuilder::new() }.layer(layer).build()
}

async fn blobs(client: &Client) -> BTreeSet<Digest> {
    namespace(client).content().list().await.expect("lists").iter().map(|blob| blob.digest).collect()
}

async fn names(client: &Client) -> Vec<String> {
    namespace(client)
        .images()
        .list()
        .await
        .expect("lists")
        .iter()
        .map(|image| image.name.to_string())
        .collect()
}

/// Imports an archive with a request of its own; the images it made.
async fn load(client: &Client, archive: &[u8], request: ImportRequest) -> bosun_types::Result<Vec<String>> {
    let mut import = namespace(client).transfers().import(request).await?;
    for chunk in archive.chunks(256 << 10) {
        if import.write(Bytes::copy_from_slice(chunk)).await.is_err() {
            break;
        }
    }
    let images = import.finish().await?.wait().await?;
    Ok(images.iter().map(|image| image.name.to_string()).collect())
}

/// Everything of an export, and its end.
async fn export(client: &Client, request: ExportRequest) -> bosun_types::Result<Vec<u8>> {
    let mut export = namespace(client).transfers().export(request).await?;
    let mut archive = Vec::new();
    while let Some(chunk) = export.next().await? {
        archive.extend_from_slice(&chunk);
    }
    export.transfer().wait().await?;
    Ok(archive)
}

fn request(names: &[&str], platforms: Platforms) -> ExportRequest {
    let images = names.iter().map(|name| ImageName::new(*name).expect("good")).collect();
    ExportRequest { images, platforms, docker: false, skip_non_distributable: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn iex_1_iex_6_an_image_goes_by_every_way_into_another_daemon_and_runs_there() {
    let (world, _daemon, client) = started().await;
    import(&client).await;
    let (oci, docker, layout) =
        (path(&world, "oci.tar"), path(&world, "docker.tar"), path(&world, "layout/"));
    bosun(&world, &["save", "-o", &oci, IMAGE]);
    bosun(&world, &["images", "export", "--format", "docker", "-o", &docker, IMAGE]);
    bosun(&world, &["save", "-o", &layout, IMAGE]);
    assert!(!Path::new(&format!("{oci}.unfinished")).exists());
    let piped = bosun(&world, &["save", IMAGE]);
    assert!(piped == std::fs::read(&oci).expect("reads"), "the same archive each time");
    let compressed = path(&world, "oci.tar.gz");
    assert!(
        Command::new("sh")
            .args(["-c", &format!("gzip < {oci} > {compressed}")])
            .status()
            .expect("runs")
            .success()
    );
    for way in [&oci, &docker, &layout, &compressed, "-"] {
        let (other, _daemon, there) = started().await;
        let mut load = other.bosun(&["load", way]);
        let mut child = load.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bosun runs");
        if way == "-" {
            child.stdin.as_mut().expect("an input").write_all(&piped).expect("writes");
        }
        let output = child.wait_with_output().expect("ends");
        assert!(output.status.success(), "{way}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(names(&there).await, [IMAGE], "{way}");
        assert_eq!(blobs(&there).await, blobs(&client).await, "{way}");
        let said = bosun(&other, &["run", "--rm", IMAGE, "echo", "hello"]);
        assert_eq!(said, b"hello\n", "{way}");
        other.check(&there).await;
    }
    world.check(&client).await;
}

/// The peer is containers/image, by skopeo.
#[tokio::test(flavor = "multi_thread")]
async fn iex_1_iex_6_a_peer_reads_what_is_exported_and_what_it_writes_comes_in() {
    let (world, _daemon, client) = started().await;
    import(&client).await;
    let (oci, docker) = (path(&world, "oci.tar"), path(&world, "docker.tar"));
    bosun(&world, &["save", "-o", &oci, IMAGE]);
    bosun(&world, &["save", "--format", "docker", "-o", &docker, IMAGE]);
    let skopeo = |words: &[&str]| {
        let mut command = Command::new("skopeo");
        let output = command.args(["--insecure-policy", "--tmpdir"]).arg(world.path("")).args(words).output();
        let output = output.expect("skopeo is installed: cargo xtask test does it");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let layers =
        namespace(&client).images().get(ImageName::new(IMAGE).expect("good")).await.expect("is there");
    let inspected = skopeo(&["inspect", &format!("oci-archive:{oci}:latest")]);
    assert!(inspected.contains(&layers.target.digest.to_string()), "{inspected}");
    let (again, from_docker) = (path(&world, "again.tar"), path(&world, "from-docker.tar"));
    skopeo(&[
        "copy",
        &format!("oci-archive:{oci}:latest"),
        &format!("docker-archive:{again}:peer.local/a:1"),
    ]);
    skopeo(&[
        "copy",
        &format!("docker-archive:{docker}:{IMAGE}"),
        &format!("oci-archive:{from_docker}:peer.local/b:2"),
    ]);
    for (archive, name) in [(again, "peer.local/a:1"), (from_docker, "peer.local/b:2")] {
        bosun(&world, &["load", &archive]);
        assert_eq!(bosun(&world, &["run", "--rm", name, "echo", name]), format!("{name}\n").as_bytes());
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn iex_1_iex_4_one_platform_or_all_of_them_out_and_in() {
    let (world, _daemon, client) = started().await;
    let foreign = if Platform::host().architecture == "amd64" { "linux/arm64" } else { "linux/amd64" };
    let host = Platform::host().to_string();
    let index = BuiltImage::index(vec![image("host", &host), image("foreign", foreign)], Dialect::Oci);
    let mut archive = Vec::new();
    index.write_oci_tar(&mut archive, Some("r.local/multi:1")).expect("an archive");
    let unpack = Some(bosun_types::snapshot::SNAPSHOTTER_DEFAULT.to_owned());
    // In: the host's alone, unless all are asked for.
    load(&client, &archive, ImportRequest { unpack: unpack.clone(), ..ImportRequest::default() })
        .await
        .expect("imports");
    assert_eq!(blobs(&client).await.len(), 4, "index, manifest, config, layer");
    world.check(&client).await;
    let all = ImportRequest { unpack, all_platforms: true, ..ImportRequest::default() };
    load(&client, &archive, all).await.expect("imports");
    assert_eq!(blobs(&client).await, index.blobs.iter().map(|(blob, _)| blob.digest).collect());
    world.check(&client).await;
    // Out.
    let name = ["r.local/multi:1"];
    let whole = export(&client, request(&name, Platforms::All)).await.expect("exports");
    let one = export(&client, request(&name, Platforms::Host)).await.expect("exports");
    let other = Platforms::Only(vec![Platform::parse(foreign).expect("good")]);
    let only = export(&client, request(&name, other)).await.expect("exports");
    for (archive, count) in [(&whole, 7), (&one, 4), (&only, 4)] {
        let (there_world, _daemon, there) = started().await;
        let all = ImportRequest { all_platforms: true, ..ImportRequest::default() };
        assert_eq!(load(&there, archive, all).await.expect("imports"), name);
        assert_eq!(blobs(&there).await.len(), count);
        there_world.check(&there).await;
    }
    let none = Platforms::Only(vec![Platform::parse("windows/amd64").expect("good")]);
    assert_eq!(export(&client, request(&name, none)).await.expect_err("none").class, ErrorClass::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn iex_3_several_images_their_names_and_their_digests() {
    let (world, _daemon, client) = started().await;
    let names_of = ["r.local/a:1", "r.local/a:latest", "r.local:5000/team/b:2"];
    for (text, name) in [("a", names_of[0]), ("a", names_of[1]), ("b", names_of[2])] {
        let mut archive = Vec::new();
        image(text, &Platform::host().to_string())
            .write_oci_tar(&mut archive, Some(name))
            .expect("an archive");
        import_bytes(&client, archive).await.expect("imports");
    }
    let archive = export(&client, request(&names_of, Platforms::Host)).await.expect("exports");
    let (other, _daemon, there) = started().await;
    assert_eq!(load(&there, &archive, ImportRequest::default()).await.expect("imports"), names_of);
    let digests = ImportRequest { digests: true, ..ImportRequest::default() };
    let loaded = load(&there, &archive, digests).await.expect("imports");
    assert_eq!(loaded.len(), 5, "{loaded:?}");
    assert!(loaded.iter().any(|name| name.starts_with("r.local:5000/team/b@sha256:")), "{loaded:?}");
    assert!(loaded.iter().any(|name| name.starts_with("r.local/a@sha256:")), "{loaded:?}");
    other.check(&there).await;
    // Without a name of its own an image takes the base name.
    let mut anonymous = Vec::new();
    image("c", &Platform::host().to_string()).write_oci_tar(&mut anonymous, None).expect("an archive");
    let file = path(&other, "anonymous.tar");
    std::fs::write(&file, &anonymous).expect("writes");
    let refused = other.bosun(&["load", &file]).output().expect("runs");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("base name"), "{refused:?}");
    bosun(&other, &["load", "--base-name", "r.local/c", &file]);
    assert!(names(&there).await.iter().any(|name| name.starts_with("r.local/c@sha256:")));
    world.check(&client).await;
}

/// CKP-3: an index over a checkpoint's files, the image's manifest and the container's own layer.
fn checkpoint() -> (BuiltImage, usize) {
    let mut built = image("app", &Platform::host().to_string());
    let platform = Platform::host();
    let mut entries = Vec::new();
    for (media_type, bytes) in [
        ("application/vnd.containerd.container.criu.checkpoint.criu.tar", &b"criu's own files"[..]),
        ("application/vnd.containerd.container.checkpoint.config.v1+proto", b"the spec"),
        ("application/vnd.oci.image.layer.v1.tar+gzip", b"the writable layer"),
    ] {
        let descriptor = bosun_types::content::Descriptor {
            media_type: media_type.to_owned(),
            digest: digest_of(bytes),
            size: bytes.len() as u64,
        };
        let mut entry = serde_json::to_value(&descriptor).expect("JSON");
        entry["platform"] = serde_json::json!({ "os": platform.os, "architecture": platform.architecture });
        entries.push(entry);
        built.blobs.push((descriptor, bytes.to_vec()));
    }
    entries.insert(2, serde_json::to_value(&built.target).expect("JSON"));
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": entries, "annotations": { "image.name": "r.local/app:1" } });
    let bytes = serde_json::to_vec(&index).expect("JSON");
    built.target = bosun_types::content::Descriptor {
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        digest: digest_of(&bytes),
        size: bytes.len() as u64,
    };
    built.blobs.push((built.target.clone(), bytes));
    let count = built.blobs.len();
    (built, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn ckp_3_a_checkpoint_goes_out_and_comes_in_with_all_its_files() {
    let (world, _daemon, client) = started().await;
    let (built, count) = checkpoint();
    let mut archive = Vec::new();
    built.write_oci_tar(&mut archive, Some("r.local/checkpoint:1")).expect("an archive");
    load(&client, &archive, ImportRequest::default()).await.expect("imports");
    assert_eq!(blobs(&client).await.len(), count);
    let name = ["r.local/checkpoint:1"];
    let exported = export(&client, request(&name, Platforms::Host)).await.expect("exports");
    let (other, _daemon, there) = started().await;
    load(&there, &exported, ImportRequest::default()).await.expect("imports");
    assert_eq!(blobs(&there).await, blobs(&client).await);
    let index = namespace(&there).content().info(built.target.digest).await.expect("is recorded");
    assert_eq!(index.labels.keys().filter(|key| key.starts_with("containerd.io/gc.ref.content.")).count(), 4);
    other.check(&there).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn iex_1_a_damaged_blob_fails_the_export_and_no_file_is_left() {
    let (world, _daemon, client) = started().await;
    import(&client).await;
    let layer = namespace(&client).content().list().await.expect("lists");
    let layer = layer.iter().max_by_key(|blob| blob.size).expect("a layer");
    let blob = world.places().root.join("content/blobs/sha256").join(layer.digest.hex());
    let mut bytes = std::fs::read(&blob).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blob, &bytes).expect("writes");
    let file = path(&world, "out.tar");
    let output = world.bosun(&["save", "-o", &file, IMAGE]).output().expect("runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains(&layer.digest.to_string()), "{told}");
    assert!(!Path::new(&file).exists() && !Path::new(&format!("{file}.unfinished")).exists());
    let error = export(&client, request(&[IMAGE], Platforms::Host)).await.expect_err("damaged");
    assert_eq!(error.class, ErrorClass::DataLoss);
    assert_eq!(
        export(&client, request(&["r.local/none:1"], Platforms::Host)).await.expect_err("none").class,
        ErrorClass::NotFound
    );
}

/// A reader that leaves, or that reads nothing: the export holds no more than its few chunks, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_nobody_reads_waits_in_bounded_memory_and_ends_with_its_reader() {
    let (world, daemon, client) = started().await;
    let mut archive = Vec::new();
    let built = fixture::layered_image(3, 12 << 20).expect("an image");
    built.write_oci_tar(&mut archive, Some("r.local/large:1")).expect("an archive");
    load(&client, &archive, ImportRequest::default()).await.expect("imports");
    drop(archive);
    let before = memory_of(&daemon);
    let mut reading = namespace(&client)
        .transfers()
        .export(request(&["r.local/large:1"], Platforms::Host))
        .await
        .expect("begins");
    reading.next().await.expect("reads").expect("a chunk");
    let state = |progress: &bosun_types::transfer::TransferProgress| progress.state.clone();
    let exports = || async {
        let all = namespace(&client).transfers().list().await.expect("lists");
        all.into_iter().filter(|progress| progress.kind == TransferKind::Export).collect::<Vec<_>>()
    };
    assert_eq!(exports().await.iter().map(state).collect::<Vec<_>>(), [TransferState::Running]);
    let grown = memory_of(&daemon).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for an archive of 36 MiB that nobody reads");
    drop(reading);
    eventually("the export to end with its reader", || async {
        matches!(exports().await.iter().map(state).collect::<Vec<_>>().as_slice(), [TransferState::Failed(_)])
    })
    .await;
    // The daemon serves on, and the archive can be had whole.
    let whole = export(&client, request(&["r.local/large:1"], Platforms::Host)).await.expect("exports");
    assert!(whole.len() > 36 << 20);
    world.check(&client).await;
}

/// Resident bytes.
fn memory_of(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("told");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}
