//! Snapshots over RPC (SNP-1 to SNP-9, SNP-17, SNP-19, SNP-23, SNP-24) and by the command line (CLI-11), on every snapshotter.

use bosun_client::{Client, RunRequest, Snapshots};
use bosun_storage::compression::Compression;
use bosun_storage::image::writer::{ImageBuilder, LayerBuilder};
use bosun_tests::client::{IMAGE, events, import, import_bytes, log_of, logged, namespace, shell};
use bosun_tests::disk::Disk;
use bosun_tests::fixture::root_layer;
use bosun_tests::world::{Daemon, World};
use bosun_types::event::Event;
use bosun_types::snapshot::SnapshotKind;
use bosun_types::spec::{ContainerRequest, RootRequest, SpecRequest};
use bosun_types::user_namespace::{Ownership, UserNamespace};
use bosun_types::{ContainerId, ErrorClass, Labels, Result, SnapshotKey};

/// What there is where there is a btrfs.
const ALL: [&str; 3] = ["overlayfs", "native", "btrfs"];

fn key(text: &str) -> SnapshotKey {
    SnapshotKey::new(text).expect("good")
}

fn none() -> Labels {
    Labels::new()
}

fn class<T: std::fmt::Debug>(result: Result<T>) -> ErrorClass {
    result.expect_err("is refused").class
}

/// A world with a btrfs of its own where the btrfs snapshotter looks for one.
async fn started() -> (World, Disk, Daemon, Client) {
    let world = World::new();
    let disk = Disk::mount(&world.path("btrfs.img"), &world.places().root.join("snapshots/btrfs"));
    let daemon = world.start();
    let client = world.client().await;
    (world, disk, daemon, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn snp_4_to_snp_9_every_refusal_is_typed_on_every_snapshotter() {
    let (world, _disk, _daemon, client) = started().await;
    for snapshotter in ALL {
        refusals(&namespace(&client).snapshots(snapshotter)).await;
    }
    // An empty name is the default (`Namespace.snapshots`), where the original refuses it.
    for unknown in ["zfs", "overlay"] {
        let refused = namespace(&client).snapshots(unknown).list().await;
        assert_eq!(class(refused), ErrorClass::InvalidArgument, "SNP-1: {unknown:?}");
    }
    world.check(&client).await;
}

async fn refusals(it: &Snapshots) {
    it.prepare(key("base"), None, none()).await.expect("prepares");
    assert_eq!(class(it.prepare(key("base"), None, none()).await), ErrorClass::AlreadyExists, "SNP-4");
    assert_eq!(
        class(it.view(key("base"), None, none()).await),
        ErrorClass::AlreadyExists,
        "SNP-3: one space"
    );
    assert_eq!(class(it.prepare(key("x"), Some(key("no")), none()).await), ErrorClass::NotFound, "SNP-4");
    // PrepareViewFailing.
    assert_eq!(
        class(it.view(key("x"), Some(key("base")), none()).await),
        ErrorClass::InvalidArgument,
        "SNP-4"
    );
    assert_eq!(class(it.mounts(key("no")).await), ErrorClass::NotFound, "SNP-5");
    assert_eq!(class(it.stat(key("no")).await), ErrorClass::NotFound, "SNP-8");
    assert_eq!(class(it.remove(key("no")).await), ErrorClass::NotFound, "SNP-7");
    assert_eq!(class(it.usage(key("no")).await), ErrorClass::NotFound, "SNP-10");
    assert_eq!(class(it.update_labels(key("no"), none(), true).await), ErrorClass::NotFound, "SNP-9");
    assert_eq!(class(it.commit(key("y"), key("no"), none()).await), ErrorClass::NotFound, "SNP-6");
    it.commit(key("layer"), key("base"), none()).await.expect("commits");
    assert_eq!(class(it.stat(key("base")).await), ErrorClass::NotFound, "SNP-6: the key vanishes");
    assert_eq!(class(it.mounts(key("layer")).await), ErrorClass::FailedPrecondition, "SNP-5");
    assert_eq!(
        class(it.commit(key("y"), key("layer"), none()).await),
        ErrorClass::FailedPrecondition,
        "SNP-6"
    );
    it.view(key("seen"), Some(key("layer")), none()).await.expect("views");
    assert_eq!(
        class(it.commit(key("y"), key("seen"), none()).await),
        ErrorClass::FailedPrecondition,
        "SNP-6"
    );
    it.prepare(key("child"), Some(key("layer")), none()).await.expect("prepares");
    assert_eq!(
        class(it.commit(key("layer"), key("child"), none()).await),
        ErrorClass::AlreadyExists,
        "SNP-6"
    );
    // RemoveIntermediateSnapshot.
    let refused = it.remove(key("layer")).await.expect_err("has children");
    assert_eq!(refused.class, ErrorClass::FailedPrecondition);
    assert!(
        refused.message.contains("cannot remove snapshot") && refused.message.contains("with child"),
        "SNP-7"
    );
    for gone in ["child", "seen", "layer"] {
        it.remove(key(gone)).await.expect(gone);
    }
    assert!(it.list().await.expect("lists").is_empty(), "Remove");
}

#[tokio::test(flavor = "multi_thread")]
async fn snp_6_snp_8_snp_9_snp_10_records_say_what_a_snapshot_is() {
    let (world, _disk, _daemon, client) = started().await;
    for snapshotter in ALL {
        let it = namespace(&client).snapshots(snapshotter);
        let of = |text: &str| Labels::from([("made".to_owned(), text.to_owned())]);
        let mounts = it.prepare(key("a"), None, of("at prepare")).await.expect("prepares");
        assert_eq!(it.mounts(key("a")).await.expect("tells"), mounts, "SNP-5: stable");
        let active = it.stat(key("a")).await.expect("StatActive");
        assert_eq!(
            (active.kind, &active.parent, &active.labels),
            (SnapshotKind::Active, &None, &of("at prepare"))
        );
        assert!(active.usage.is_none() && active.snapshotter == snapshotter);
        let source = &mounts[0].source;
        std::fs::write(format!("{source}/file"), vec![1; 50_000]).expect("bind of the directory itself");
        let measured = it.usage(key("a")).await.expect("measures");
        it.commit(key("b"), key("a"), of("at commit")).await.expect("commits");
        let committed = it.stat(key("b")).await.expect("StatCommitted");
        assert_eq!(committed.labels, of("at commit"), "SNP-6: not inherited");
        assert_eq!((committed.kind, &committed.parent), (SnapshotKind::Committed, &None));
        assert!(committed.created_at > active.created_at, "SNP-6: reset");
        let stored = it.usage(key("b")).await.expect("tells");
        assert!(
            stored.size_bytes >= 50_000 && stored.inodes == measured.inodes,
            "{snapshotter}: {stored:?} {measured:?}"
        );
        // Transitivity: a chain of three, each knowing its own parent only.
        it.prepare(key("c"), Some(key("b")), none()).await.expect("prepares");
        it.commit(key("d"), key("c"), none()).await.expect("commits");
        it.view(key("e"), Some(key("d")), none()).await.expect("views");
        let parents: Vec<Option<SnapshotKey>> =
            it.list().await.expect("lists").into_iter().map(|record| record.parent).collect();
        assert_eq!(parents, [None, Some(key("b")), Some(key("d"))], "{snapshotter}, by key: b d e");
        // Update.
        let changed = it.update_labels(key("b"), of("later"), false).await.expect("updates");
        assert_eq!((changed.labels, changed.created_at), (of("later"), committed.created_at));
        assert!(changed.updated_at > committed.updated_at);
        let cleared =
            it.update_labels(key("b"), Labels::from([("made".to_owned(), String::new())]), false).await;
        assert_eq!(cleared.expect("updates").labels, none());
        for gone in ["e", "d", "b"] {
            it.remove(key(gone)).await.expect(gone);
        }
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snp_23_events_tell_prepare_commit_and_remove_once() {
    let (world, _disk, _daemon, client) = started().await;
    let it = namespace(&client).snapshots("native");
    it.prepare(key("a"), None, none()).await.expect("prepares");
    it.commit(key("b"), key("a"), none()).await.expect("commits");
    it.update_labels(key("b"), Labels::from([("k".to_owned(), "v".to_owned())]), true)
        .await
        .expect("updates");
    it.view(key("v"), Some(key("b")), none()).await.expect("views");
    it.prepare(key("c"), Some(key("b")), none()).await.expect("prepares");
    it.remove(key("c")).await.expect("removes");
    let told: Vec<String> = events(&client)
        .await
        .into_iter()
        .filter_map(|event| match event.event {
            Event::SnapshotPrepare { key, parent, .. } => Some(format!("prepare {key} {parent:?}")),
            Event::SnapshotCommit { key, name, .. } => Some(format!("commit {key} {name}")),
            Event::SnapshotRemove { key, .. } => Some(format!("remove {key}")),
            _ => None,
        })
        .collect();
    let parent = format!("{:?}", Some(key("b")));
    assert_eq!(
        told,
        [
            "prepare a None".to_owned(),
            "commit a b".to_owned(),
            format!("prepare c {parent}"),
            "remove c".to_owned()
        ]
    );
    world.check(&client).await;
}

/// busybox and so many layers above it, each with a file of its own; every tenth removes what the one before it brought.
fn deep_image(layers: usize) -> Vec<u8> {
    let process = bosun_storage::image::ImageProcess {
        env: vec!["PATH=/bin".to_owned()],
        ..bosun_storage::image::ImageProcess::default()
    };
    let root = root_layer().and_then(|root| Ok(root.build(Compression::Gzip)?)).expect("a layer");
    let mut image = ImageBuilder { process, ..ImageBuilder::new() }.layer(root);
    for number in 1..=layers {
        let layer =
            LayerBuilder::new().directory("data", 0o755).file(&format!("data/{number:03}"), 0o644, b"x");
        let layer = if number % 10 == 0 { layer.whiteout(&format!("data/{:03}", number - 1)) } else { layer };
        image = image.layer(layer.build(Compression::None).expect("a layer"));
    }
    let mut archive = Vec::new();
    image.build().write_oci_tar(&mut archive, Some(IMAGE)).expect("an archive");
    archive
}

async fn output(client: &Client, container: ContainerRequest) -> String {
    let id = container.id.clone();
    let running = namespace(client).run(RunRequest { container, task: logged() }).await.expect("runs");
    running.wait().await.expect("ends");
    let text = log_of(client, id.as_str()).await;
    let container = namespace(client).container(id);
    container.task().delete().await.expect("deletes");
    container.delete(true).await.expect("deletes");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn snp_17_containers_run_on_more_than_a_hundred_layers_of_every_snapshotter() {
    let (world, _disk, _daemon, client) = started().await;
    import_bytes(&client, deep_image(105)).await.expect("imports");
    let look = "ls /data | wc -l; ls /data | tail -n 1; echo mine > /data/001 && cat /data/001; id -u nobody";
    for snapshotter in ALL {
        let mut request = shell("deep", look);
        request.snapshotter = Some(snapshotter.to_owned());
        if let SpecRequest::Build(options) = &mut request.spec {
            // A name must be looked up before anything is mounted: the daemon mounts all layers too, detached.
            options.user = Some("root".to_owned());
        }
        assert_eq!(output(&client, request.clone()).await, "95\n105\nmine\n65534\n", "{snapshotter}");
        request.root = RootRequest::ImageView { key: None };
        let text = output(&client, request).await;
        assert!(text.starts_with("95\n105\n") && text.contains("Read-only"), "{snapshotter}: {text}");
    }
    // The words of so many layers are longer than the page that mount(2) takes.
    let it = namespace(&client).default_snapshots();
    let chain = it.list().await.expect("lists");
    let parents: Vec<_> = chain.iter().filter_map(|record| record.parent.clone()).collect();
    let top = chain.iter().find(|record| !parents.contains(&record.key)).expect("a top").key.clone();
    let mounts = it.prepare(key("long"), Some(top), none()).await.expect("prepares");
    assert!(mounts[0].options.iter().map(String::len).sum::<usize>() > 4096, "else this shows nothing");
    it.remove(key("long")).await.expect("removes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snp_17_ctr_15_deep_images_for_users_of_a_containers_own() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    import_bytes(&client, deep_image(105)).await.expect("imports");
    for ownership in [Ownership::Idmap, Ownership::Copy] {
        let mut request =
            shell("deep", "ls /data | wc -l; stat -c %u /data/001; touch /data/new && echo made");
        if let SpecRequest::Build(options) = &mut request.spec {
            let uids = vec!["0:100000:65536".parse().expect("good")];
            options.user_namespace = Some(UserNamespace { uids, gids: Vec::new(), ownership });
        }
        assert_eq!(output(&client, request).await, "95\n0\nmade\n", "{ownership:?}");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snp_19_containers_on_btrfs_from_import_to_the_daemons_death() {
    let (world, _disk, daemon, client) = started().await;
    import(&client).await;
    let on_btrfs = |name: &str, command: &str, ownership: Option<Ownership>| {
        let mut request = shell(name, command);
        request.snapshotter = Some("btrfs".to_owned());
        if let (SpecRequest::Build(options), Some(ownership)) = (&mut request.spec, ownership) {
            let uids = vec!["0:100000:65536".parse().expect("good")];
            options.user_namespace = Some(UserNamespace { uids, gids: Vec::new(), ownership });
        }
        request
    };
    let look = "stat -c %u /bin/busybox; echo kept > /file && cat /file";
    for ownership in [None, Some(Ownership::Idmap), Some(Ownership::Copy)] {
        assert_eq!(output(&client, on_btrfs("one", look, ownership)).await, "0\nkept\n", "{ownership:?}");
    }
    // What a container wrote becomes a layer, and is seen above it.
    let run = RunRequest {
        container: on_btrfs("writer", "echo mine > /written; rm /etc/group", None),
        task: logged(),
    };
    namespace(&client).run(run).await.expect("runs").wait().await.expect("ends");
    let it = namespace(&client).snapshots("btrfs");
    let own = it.usage(key("writer")).await.expect("measures");
    assert!(own.size_bytes < 200_000, "busybox itself is its parent's: {own:?}");
    daemon.kill();
    let _daemon = world.start();
    let client = world.client().await;
    world.recovered(&client).await;
    let it = namespace(&client).snapshots("btrfs");
    let container = namespace(&client).container(ContainerId::new("writer").expect("good"));
    container.task().delete().await.expect("deletes");
    it.commit(key("mine"), key("writer"), none()).await.expect("commits");
    container.delete(false).await.expect("deletes");
    let mounts = it.view(key("look"), Some(key("mine")), none()).await.expect("views");
    let source = std::path::PathBuf::from(&mounts[0].source);
    assert_eq!(std::fs::read_to_string(source.join("written")).expect("is there"), "mine\n");
    assert!(!source.join("etc/group").exists() && source.join("etc/passwd").exists());
    for gone in ["look", "mine"] {
        it.remove(key(gone)).await.expect(gone);
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_11_the_words_of_snapshots() {
    let (world, _disk, _daemon, client) = started().await;
    import(&client).await;
    let words = |words: &[&str]| {
        let output = world.bosun(&[&["snapshots"], words].concat()).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let base = namespace(&client).default_snapshots().list().await.expect("lists")[0].key.to_string();
    assert_eq!(words(&["prepare", "--label", "a=b", "work", &base]), "work\n");
    assert_eq!(words(&["view", "seen", &base]), "seen\n");
    let mounted = words(&["mounts", "/mnt/x", "work"]);
    assert!(
        mounted.starts_with("mount -t overlay overlay /mnt/x -o ") && mounted.contains("upperdir="),
        "{mounted}"
    );
    assert!(
        words(&["prepare", "--target", "/mnt/y", "other", &base])
            .starts_with("mount -t overlay overlay /mnt/y -o ")
    );
    let seen = words(&["mounts", "/mnt/x", "seen"]);
    assert!(seen.starts_with("mount --rbind ") && seen.contains("remount,bind,ro"), "{seen}");
    let info: serde_json::Value = serde_json::from_str(&words(&["info", "work"])).expect("JSON");
    assert_eq!((info["kind"].as_str(), info["labels"]["a"].as_str()), (Some("active"), Some("b")));
    assert_eq!(words(&["label", "work", "a=", "c=d"]), "c=d\n");
    assert_eq!(words(&["commit", "done", "work", "--label", "e=f"]), "done\n");
    assert_eq!(words(&["prepare", "above", "done"]), "above\n");
    let list = words(&["ls"]);
    assert!(list.contains("done") && list.contains("committed") && list.contains("view"), "{list}");
    let tree = words(&["tree"]);
    let lines: Vec<&str> = tree.lines().collect();
    let at = |name: &str| {
        lines
            .iter()
            .position(|line| {
                line.trim_start_matches([' ', '\u{2514}', '\u{251c}', '\u{2500}', '\u{2502}'])
                    .starts_with(name)
            })
            .unwrap_or_else(|| panic!("{name}: {tree}"))
    };
    assert!(at(&base) < at("done") && at("done") + 1 == at("above"), "{tree}");
    let usage = words(&["usage", "--bytes", "done"]);
    assert!(usage.lines().count() == 2 && usage.contains("done"), "{usage}");
    assert!(words(&["usage"]).contains(&base));
    assert_eq!(words(&["rm", "above", "done", "seen", "other"]), "above\ndone\nseen\nother\n");
    assert_eq!(words(&["--snapshotter", "btrfs", "prepare", "sub"]), "sub\n");
    assert_eq!(words(&["--snapshotter", "btrfs", "rm", "sub"]), "sub\n");
    let refused = world.bosun(&["snapshots", "label", "work", "nonsense"]).output().expect("runs");
    assert!(!refused.status.success());
    world.check(&client).await;
}
