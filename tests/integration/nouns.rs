//! Rows of the feature table on namespaces, containers, images and errors that no other file tells of.

use std::collections::BTreeMap;

use bosun_client::{Client, Labels, RunRequest};
use bosun_storage::compression::Compression;
use bosun_storage::image::writer::{BuiltImage, Dialect, ImageBuilder, LayerBuilder};
use bosun_tests::client::{IMAGE, events, import, import_bytes, log_of, logged, namespace, shell};
use bosun_tests::world::{Daemon, World};
use bosun_types::container::Any;
use bosun_types::event::Event;
use bosun_types::image::ImageRecord;
use bosun_types::lease::LeaseResource;
use bosun_types::platform::Platform;
use bosun_types::snapshot::{SNAPSHOTTER_DEFAULT, SnapshotKind};
use bosun_types::spec::{ContainerRequest, SpecOptions};
use bosun_types::task::ExecRequest;
use bosun_types::{ContainerId, Error, ErrorClass, ImageName, NamespaceName, SnapshotKey, Timestamp};

async fn started() -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    (world, daemon, client)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn class<T>(outcome: bosun_types::Result<T>) -> ErrorClass {
    outcome.err().expect("is refused").class
}

async fn topics(client: &Client, namespace: &str) -> Vec<String> {
    let all = events(client).await.into_iter().filter(|record| record.namespace.as_str() == namespace);
    all.map(|record| record.event.topic().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ns_1_ns_2_ns_3_ns_5_ns_6_ns_7_namespaces_are_made_labelled_and_removed_and_tell_it() {
    let (_world, _daemon, client) = started().await;
    let name = |text: &str| NamespaceName::new(text).expect("good");
    assert_eq!(class(client.namespace(name("web")).record().await), ErrorClass::NotFound, "NS-3, on purpose");
    let made = client.create_namespace(name("web"), labels(&[("a", "1")])).await.expect("makes");
    assert_eq!(class(client.create_namespace(name("web"), Labels::new()).await), ErrorClass::AlreadyExists);
    let told = client.update_namespace(name("web"), labels(&[("b", "2")]), false).await.expect("sets");
    assert_eq!((told.labels, told.created_at), (labels(&[("a", "1"), ("b", "2")]), made.created_at));
    let told = client.update_namespace(name("web"), labels(&[("c", "3")]), true).await.expect("replaces");
    assert_eq!(told.labels, labels(&[("c", "3")]));
    let told = client.update_namespace(name("web"), labels(&[("c", "")]), false).await.expect("clears");
    assert_eq!(told.labels, Labels::new(), "ID-8");
    // NS-2: the first write inside makes it.
    let other = client.namespace(name("other"));
    other.leases().create(None, Labels::new()).await.expect("writes");
    assert_eq!(other.record().await.expect("is there").labels, Labels::new());
    client.delete_namespace(name("web")).await.expect("is empty");
    assert_eq!(class(client.delete_namespace(name("web")).await), ErrorClass::NotFound);
    let of_web = [
        "/namespaces/create",
        "/namespaces/update",
        "/namespaces/update",
        "/namespaces/update",
        "/namespaces/delete",
    ];
    assert_eq!(topics(&client, "web").await, of_web);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_1_ctr_4_ctr_7_ctr_8_ctr_9_id_11_containers_are_updated_by_path_and_tell_it() {
    let (world, _daemon, client) = started().await;
    import(&client).await;
    let note = |text: &str| Any { type_url: "t".to_owned(), value: text.as_bytes().to_vec() };
    let mut request = shell("c", "true");
    request.labels = labels(&[("keep", "1"), ("drop", "1")]);
    request.extensions = BTreeMap::from([("one".to_owned(), note("1")), ("two".to_owned(), note("2"))]);
    let made = namespace(&client).containers().create(request).await.expect("makes");
    let container = namespace(&client).container(made.id.clone());
    // Each path changes its own field; times are the daemon's whatever is sent.
    let mut sent = made.clone();
    sent.labels = labels(&[("drop", ""), ("a.b/c.d", "x")]);
    sent.extensions = BTreeMap::from([("two".to_owned(), note("new"))]);
    (sent.created_at, sent.updated_at) = (Timestamp(1), Timestamp(1));
    let paths = ["labels.drop", "labels.a.b/c.d", "extensions.two"];
    let told = container.update(sent.clone(), &paths).await.expect("updates");
    assert_eq!(told.labels, labels(&[("keep", "1"), ("a.b/c.d", "x")]));
    assert_eq!((&told.extensions["one"], &told.extensions["two"]), (&note("1"), &note("new")));
    assert_eq!(told.created_at, made.created_at);
    assert!(told.updated_at > made.updated_at);
    for path in ["runtime", "runtime.name", "snapshotter", "id", "created_at", "nonsense"] {
        let refusal = container.update(sent.clone(), &[path]).await.expect_err("it never changes");
        assert_eq!(refusal.class, ErrorClass::InvalidArgument, "{path}: {refusal}");
    }
    // No path replaces everything that may change.
    let told = container.update(sent, &[]).await.expect("replaces");
    assert_eq!((told.labels, told.extensions.len()), (labels(&[("a.b/c.d", "x")]), 1));
    let mut strange = container.record().await.expect("is there");
    strange.snapshotter = Some("native".to_owned());
    assert_eq!(class(container.update(strange, &[]).await), ErrorClass::InvalidArgument, "CTR-7: immutable");
    container.delete(true).await.expect("deletes");
    assert_eq!(class(container.record().await), ErrorClass::NotFound);
    assert_eq!(class(container.delete(true).await), ErrorClass::NotFound);
    let told: Vec<Event> = events(&client).await.into_iter().map(|record| record.event).collect();
    let (id, image) = (made.id, made.image);
    assert!(told.iter().any(
        |event| matches!(event, Event::ContainerCreate { id: it, image: of, .. } if *it == id && *of == image)
    ));
    assert!(told.iter().any(|event| matches!(event, Event::ContainerUpdate { id: it, .. } if *it == id)));
    assert!(told.contains(&Event::ContainerDelete { id }));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_2_ctr_11_ctr_12_ctr_14_ctr_17_a_container_stands_on_its_image_and_goes_with_its_snapshot() {
    let (world, _daemon, client) = started().await;
    let image = namespace(&client).image(import(&client).await);
    namespace(&client).containers().create(shell("c", "true")).await.expect("makes");
    let container = namespace(&client).container(ContainerId::new("c").expect("good"));
    let snapshots = namespace(&client).default_snapshots();
    let key = || SnapshotKey::new("c").expect("good");
    let root = snapshots.stat(key()).await.expect("is there");
    let chain = image.inspect(None, SNAPSHOTTER_DEFAULT).await.expect("tells").chain_id.expect("has layers");
    assert_eq!(root.parent.expect("has one").to_string(), chain.to_string());
    assert_eq!(root.kind, SnapshotKind::Active);
    // One task at most; while there is one, also an ended one, the container stays.
    let task = container.create_task(logged()).await.expect("makes");
    assert_eq!(class(container.create_task(logged()).await.map(drop)), ErrorClass::AlreadyExists);
    task.start().await.expect("starts");
    task.wait().await.expect("ends");
    assert_eq!(class(container.delete(true).await), ErrorClass::FailedPrecondition);
    task.delete().await.expect("deletes");
    assert_eq!(class(container.load_task().await.map(drop)), ErrorClass::NotFound);
    // One that is held and never runs goes too.
    let held = container.create_task(logged()).await.expect("makes");
    held.kill_and_delete().await.expect("ends and goes");
    assert_eq!(class(container.load_task().await.map(drop)), ErrorClass::NotFound);
    // Without the word its snapshot stays.
    container.delete(false).await.expect("deletes");
    snapshots.stat(key()).await.expect("stays");
    let mut again = shell("c2", "true");
    again.root = bosun_types::spec::RootRequest::Snapshot(key());
    namespace(&client).containers().create(again).await.expect("takes it");
    let container = namespace(&client).container(ContainerId::new("c2").expect("good"));
    container.delete(true).await.expect("deletes");
    assert_eq!(class(snapshots.stat(key()).await), ErrorClass::NotFound);
    // Of no image.
    let mut bare = shell("bare", "true");
    (bare.image, bare.root) = (None, bosun_types::spec::RootRequest::Directory("/".to_owned()));
    namespace(&client).containers().create(bare).await.expect("makes");
    let container = namespace(&client).container(ContainerId::new("bare").expect("good"));
    let refusal = container.image().await.err().expect("has none");
    assert_eq!(refusal.class, ErrorClass::NotFound, "{refusal}");
    assert!(refusal.message.contains("not created from an image"), "{refusal}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn img_1_img_2_img_4_img_5_img_6_an_image_is_a_name_that_points() {
    let (_world, _daemon, client) = started().await;
    let images = namespace(&client).images();
    let known = images.get(import(&client).await).await.expect("is there");
    let named = |text: &str| ImageRecord { name: ImageName::new(text).expect("good"), ..known.clone() };
    assert_eq!(class(images.create(known.clone()).await), ErrorClass::AlreadyExists);
    // What it points at need not be here.
    let mut far = named("test.local/far:1");
    far.target.digest = bosun_storage::image::digest_of(b"nowhere");
    far.labels = labels(&[("a", "1"), ("b", "1")]);
    images.create(far.clone()).await.expect("points anywhere");
    for spoil in [
        |image: &mut ImageRecord| image.target.size = 0,
        |image: &mut ImageRecord| image.target.media_type.clear(),
        |image: &mut ImageRecord| drop(image.labels.insert("k".to_owned(), "v".repeat(5000))),
    ] {
        let mut bad = named("test.local/bad:1");
        spoil(&mut bad);
        assert_eq!(class(images.create(bad).await), ErrorClass::InvalidArgument, "IMG-2");
    }
    let mut sent = far.clone();
    (sent.labels, sent.target) = (labels(&[("a", "2")]), known.target.clone());
    let told = images.update(sent.clone(), &["labels.a"]).await.expect("updates");
    assert_eq!((told.labels, &told.target), (labels(&[("a", "2"), ("b", "1")]), &far.target));
    let told = images.update(sent.clone(), &["target"]).await.expect("updates");
    assert_eq!((told.labels.len(), &told.target), (2, &known.target));
    assert_eq!(class(images.update(sent.clone(), &["name"]).await), ErrorClass::InvalidArgument);
    let told = images.update(sent, &[]).await.expect("replaces");
    assert_eq!(told.labels, labels(&[("a", "2")]));
    images.delete(far.name.clone()).await.expect("deletes");
    assert_eq!(class(images.delete(far.name.clone()).await), ErrorClass::NotFound);
    let of_it: Vec<Event> = events(&client).await.into_iter().map(|record| record.event).collect();
    assert!(of_it.iter().any(|event| matches!(event, Event::ImageCreate { name, .. } if *name == far.name)));
    assert!(of_it.iter().any(|event| matches!(event, Event::ImageUpdate { name, .. } if *name == far.name)));
    assert!(of_it.contains(&Event::ImageDelete { name: far.name }));
}

fn small(text: &str, platform: &str) -> BuiltImage {
    let layer =
        LayerBuilder::new().file("text", 0o644, text.as_bytes()).build(Compression::Gzip).expect("a layer");
    let platform = Platform::parse(platform).expect("good");
    ImageBuilder { platform, ..ImageBuilder::new() }.layer(layer).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn img_13_img_14_img_15_img_17_what_an_image_says_for_each_of_its_platforms() {
    let (_world, _daemon, client) = started().await;
    let host = Platform::host();
    let other = Platform::parse("linux/s390x").expect("good");
    let built =
        BuiltImage::index(vec![small("one", "linux/s390x"), small("two", &host.to_string())], Dialect::Oci);
    let mut archive = Vec::new();
    built.write_oci_tar(&mut archive, Some("test.local/both:1")).expect("writes");
    let image = namespace(&client).image(import_bytes(&client, archive).await.expect("imports"));
    let here = image.inspect(None, SNAPSHOTTER_DEFAULT).await.expect("tells");
    assert_eq!(here.platforms, [other.clone(), host]);
    assert!(here.is_complete() && here.unpacked, "{here:?}");
    let sizes: u64 = here.required().map(|part| part.size).sum();
    let manifest = here.manifest.as_ref().expect("is here");
    assert_eq!(here.size, here.record.target.size + manifest.size + sizes, "IMG-14");
    assert_eq!(image.size().await.expect("tells"), here.size);
    assert_eq!(here.diff_ids.first(), here.chain_id.as_ref(), "IMG-18: of one layer it is the diff id");
    // The other one was not imported: its manifest is not here, so nobody can say what it needs.
    let there = image.inspect(Some(other), SNAPSHOTTER_DEFAULT).await.expect("tells");
    assert!(!there.is_available() && !there.unpacked);
    assert_eq!(there.missing.len(), 1);
    let unknown =
        image.inspect(Some(Platform::parse("linux/riscv64").expect("good")), SNAPSHOTTER_DEFAULT).await;
    let refusal = unknown.expect_err("there is none");
    assert_eq!(refusal.class, ErrorClass::NotFound);
    assert!(refusal.message.contains("s390x"), "it names those it has: {refusal}");
    assert_eq!(class(image.inspect(None, "nonsense").await), ErrorClass::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn img_16_img_19_img_20_what_is_missing_is_named_and_layers_are_unpacked_when_asked() {
    let (world, _daemon, client) = started().await;
    let image = namespace(&client).image(import(&client).await);
    assert!(!image.is_unpacked("native").await.expect("tells"));
    image.unpack("native").await.expect("unpacks");
    image.unpack("native").await.expect("again is success");
    assert!(image.is_unpacked("native").await.expect("tells"));
    let detail = image.inspect(None, "native").await.expect("tells");
    let chain = detail.chain_id.expect("has layers").to_string();
    // The link that keeps the snapshots, for each snapshotter.
    let config = detail.config.as_ref().expect("is here").digest;
    let told = namespace(&client).content().info(config).await.expect("is here").labels;
    for snapshotter in ["native", SNAPSHOTTER_DEFAULT] {
        assert_eq!(told.get(&format!("containerd.io/gc.ref.snapshot.{snapshotter}")), Some(&chain));
    }
    client.collect_garbage(false).await.expect("collects");
    assert!(image.is_unpacked("native").await.expect("tells"));
    // A layer goes: it is named, and its size is not told any more.
    let layer = detail.layers.last().expect("has one").clone();
    namespace(&client).content().delete(layer.digest).await.expect("deletes");
    let told = image.inspect(None, "native").await.expect("tells");
    assert_eq!((told.is_available(), told.missing), (true, vec![layer]));
    assert_eq!(class(image.size().await), ErrorClass::NotFound);
    // A name in another namespace that points at what only this one has: nothing of it is read there.
    let other = client.namespace("other".parse().expect("good"));
    other.images().create(image.record().await.expect("is here")).await.expect("points anywhere");
    let there = other.image(image.name().clone());
    let told = there.inspect(None, SNAPSHOTTER_DEFAULT).await.expect("tells");
    assert_eq!((told.is_available(), told.config_json, told.missing.len()), (false, None, 1));
    assert_eq!(class(there.config().await), ErrorClass::NotFound);
    assert_eq!(class(there.rootfs().await), ErrorClass::NotFound);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn err_6_leases_waits_and_streams_answer_typed_errors_too() {
    let (_world, _daemon, client) = started().await;
    let nobody = namespace(&client).container(ContainerId::new("nobody").expect("good")).task();
    let lease = "nobody".parse().expect("good");
    let resource =
        LeaseResource::parse("content", &bosun_storage::image::digest_of(b"x").to_string()).expect("good");
    let outcomes: [(&str, Result<(), Error>); 5] = [
        ("wait", nobody.wait().await.map(drop)),
        ("close", nobody.close_stdin().await),
        ("resize", nobody.resize(80, 24).await),
        ("add", namespace(&client).leases().add(lease, resource).await),
        ("resources", namespace(&client).leases().resources("nobody".parse().expect("good")).await.map(drop)),
    ];
    for (call, outcome) in outcomes {
        assert_eq!(outcome.expect_err("nobody is there").class, ErrorClass::NotFound, "{call}");
    }
    assert_eq!(
        class(namespace(&client).images().get(ImageName::new(IMAGE).expect("good")).await),
        ErrorClass::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sys_8_sys_9_sys_10_the_daemon_says_what_it_is_made_of_and_what_it_lacks() {
    let (world, _daemon, client) = started().await;
    let parts = client.parts().await.expect("tells");
    let named: Vec<String> = parts.iter().map(|part| format!("{} {}", part.kind, part.id)).collect();
    assert!(named.is_sorted(), "{named:?}");
    for wanted in [
        "content files",
        "differ walking",
        "runtime bosun",
        "runtime runc",
        "snapshotter btrfs",
        "snapshotter native",
    ] {
        assert!(named.iter().any(|name| name == wanted), "{wanted}: {named:?}");
    }
    let overlay = client.parts_where("type==snapshotter,id==overlayfs").await.expect("tells");
    assert_eq!(overlay.len(), 1);
    let root = std::path::Path::new(&overlay[0].exports["root"]);
    assert!(root.is_dir() && root.starts_with(world.path("")), "{}", root.display());
    assert_eq!(overlay[0].platforms, [Platform::host()]);
    let lacking = parts.iter().find(|part| part.id == "checkpoints").expect("is listed");
    assert_eq!(lacking.failure.is_none(), lacking.exports.contains_key("path"));
    assert_eq!(class(client.parts_where("type==").await), ErrorClass::InvalidArgument);
}

fn good(world: &World, words: &[&str]) -> String {
    let output = world.bosun(words).output().expect("bosun runs");
    assert!(output.status.success(), "bosun {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_8_images_are_checked_labelled_and_unpacked() {
    let (world, _daemon, client) = started().await;
    let image = namespace(&client).image(import(&client).await);
    let told = good(&world, &["images", "check"]);
    assert!(told.contains("complete") && told.contains("linux/") && told.contains("yes"), "{told}");
    assert!(good(&world, &["images", "check", IMAGE, "--snapshotter", "native"]).contains("no"));
    assert_eq!(good(&world, &["images", "unpack", IMAGE, "--snapshotter", "native"]), IMAGE);
    assert!(image.is_unpacked("native").await.expect("tells"));
    assert_eq!(good(&world, &["images", "label", IMAGE, "tier=base", "zone=a"]), "tier=base\nzone=a");
    assert_eq!(good(&world, &["images", "label", IMAGE, "zone="]), "tier=base");
    let layer = image.inspect(None, "native").await.expect("tells").layers[0].digest;
    namespace(&client).content().delete(layer).await.expect("deletes");
    let told = good(&world, &["images", "check", IMAGE]);
    assert!(told.contains("incomplete"), "{told}");
    let json: serde_json::Value =
        serde_json::from_str(&good(&world, &["--json", "images", "check"])).expect("JSON");
    assert_eq!(json[0]["missing"][0]["digest"], layer.to_string());
    let other = world.bosun(&["images", "check", IMAGE, "--platform", "linux/s390x"]).output().expect("runs");
    assert!(!other.status.success());
    assert!(good(&world, &["images", "check", "--platform", "linux/s390x"]).contains("none"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_13_parts_namespaces_and_the_version() {
    let (world, _daemon, _client) = started().await;
    let told = good(&world, &["parts", "--filter", "type==snapshotter"]);
    assert!(told.lines().next().expect("a head").starts_with("TYPE"), "{told}");
    assert!(told.lines().any(|line| line.contains("overlayfs") && line.ends_with("ok")), "{told}");
    let json: serde_json::Value = serde_json::from_str(&good(&world, &["--json", "parts"])).expect("JSON");
    assert!(json.as_array().expect("a list").len() > 10);
    good(&world, &["namespaces", "create", "web", "--label", "tier=test"]);
    assert!(good(&world, &["namespaces", "ls"]).contains("web"));
    good(&world, &["namespaces", "rm", "web"]);
    assert!(good(&world, &["version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[tokio::test(flavor = "multi_thread")]
async fn spc_10_spc_11_the_hosts_files_and_namespaces_by_the_builder() {
    let (world, _daemon, client) = started().await;
    let name = import(&client).await;
    let spec = SpecOptions::default()
        .args(["/bin/sh", "-c", "readlink /proc/self/ns/ipc; cat /etc/hosts; : > /etc/hosts"])
        .host_file("/etc/hosts")
        .host_namespace("ipc");
    let request = ContainerRequest::of_image("c".parse().expect("good"), name).spec(spec);
    let running =
        namespace(&client).run(RunRequest { container: request, task: logged() }).await.expect("runs");
    let task = namespace(&client).container("c".parse().expect("good")).task();
    let exit = running.wait().await.expect("ends");
    let log = log_of(&client, "c").await;
    let ours = std::fs::read_link("/proc/self/ns/ipc").expect("is there");
    let hosts = std::fs::read_to_string("/etc/hosts").expect("is there");
    assert!(log.starts_with(&format!("{}\n{hosts}", ours.display())), "{log}");
    assert_ne!(exit.code(), 0, "it is read-only: {log}");
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evt_2_evt_3_evt_7_topics_have_a_form_and_the_daemon_sets_time_and_place() {
    let (world, _daemon, client) = started().await;
    import(&client).await;
    let published = namespace(&client).events();
    let payload = || Any { type_url: "t".to_owned(), value: b"{}".to_vec() };
    for topic in ["", "/", "x", "//x", "/x/", "/x y", "/a/-b", "/tasks/mine"] {
        let refusal = published.publish(NamespaceName::default_name(), topic.to_owned(), payload()).await;
        assert_eq!(class(refusal), ErrorClass::InvalidArgument, "{topic:?}");
    }
    let before = Timestamp::now();
    published.publish(NamespaceName::default_name(), "/x/y".to_owned(), payload()).await.expect("publishes");
    let record = events(&client).await.pop().expect("is kept");
    assert_eq!((record.namespace, record.event.topic()), (NamespaceName::default_name(), "/x/y"));
    assert!(record.at >= before && record.at <= Timestamp::now());
    // EVT-7: a registered exec is told of.
    namespace(&client)
        .run(RunRequest { container: shell("c", "sleep 1000"), task: logged() })
        .await
        .expect("runs");
    let task = namespace(&client).container("c".parse().expect("good")).task();
    task.exec(ExecRequest::new("e".parse().expect("good"), ["true"])).await.expect("registers");
    assert!(topics(&client, "default").await.contains(&"/tasks/exec-added".to_owned()));
    task.kill_and_delete().await.expect("ends");
    world.check(&client).await;
}
