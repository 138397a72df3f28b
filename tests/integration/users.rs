//! Containers with users of their own (SPC-11, CTR-13, CTR-15, IO-11): root inside is somebody without rights outside, by idmapped mounts and
//! by a copy of the image's files.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use bosun_client::{Client, RunRequest, Task};
use bosun_storage::compression::Compression;
use bosun_storage::image::writer::{ImageBuilder, LayerBuilder, LayerEntry, LayerEntryKind};
use bosun_tests::client::{IMAGE, import_bytes, log_of, logged, namespace, shell};
use bosun_tests::fixture::{busybox, root_layer};
use bosun_tests::world::{Daemon, World, eventually};
use bosun_types::snapshot::SnapshotKind;
use bosun_types::spec::{ContainerRequest, RootRequest, SpecOptions, SpecRequest};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExecProcess, ExecRequest, ExitCause, TaskRequest};
use bosun_types::user_namespace::{Ownership, UserNamespace};
use bosun_types::{ContainerId, ErrorClass, ExecId, Labels, SnapshotKey};

/// Root inside.
const HOST: u32 = 100_000;
/// cap_net_raw, effective and permitted, revision 2.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Two layers above busybox: files of others, set-uid bits, capabilities, something removed.
fn image(strange_owner: Option<u32>) -> Vec<u8> {
    let file = |path: &str, mode, (uid, gid), bytes: &[u8]| {
        let mut entry = LayerEntry::new(path, LayerEntryKind::File(bytes.to_vec()), mode);
        (entry.uid, entry.gid) = (uid, gid);
        entry
    };
    let program = busybox().expect("busybox");
    let mut capable = file("srv/busybox", 0o755, (0, 0), &program);
    capable.xattrs = vec![("security.capability".to_owned(), NET_RAW.to_vec())];
    let mut layer = LayerBuilder::new()
        .directory("srv", 0o755)
        .entry(&file("srv/web", 0o640, (1000, 2000), b"web"))
        .entry(&file("srv/gone", 0o644, (0, 0), b""))
        .entry(&file("srv/setuid", 0o6755, (0, 2000), b"#!/bin/sh\n"))
        .entry(&capable);
    if let Some(uid) = strange_owner {
        layer = layer.entry(&file("srv/strange", 0o644, (uid, 0), b""));
    }
    let top = LayerBuilder::new().whiteout("srv/gone").build(Compression::Gzip).expect("a layer");
    let process = bosun_storage::image::ImageProcess {
        env: vec!["PATH=/bin".to_owned()],
        ..bosun_storage::image::ImageProcess::default()
    };
    let built = ImageBuilder { process, ..ImageBuilder::new() }
        .layer(root_layer().and_then(|root| Ok(root.build(Compression::Gzip)?)).expect("a layer"))
        .layer(layer.build(Compression::Gzip).expect("a layer"))
        .layer(top)
        .build();
    let mut archive = Vec::new();
    built.write_oci_tar(&mut archive, Some(IMAGE)).expect("an archive");
    archive
}

async fn started() -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import_bytes(&client, image(None)).await.expect("imports");
    (world, daemon, client)
}

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).expect("good")
}

fn options(request: &mut ContainerRequest) -> &mut SpecOptions {
    match &mut request.spec {
        SpecRequest::Build(options) => options,
        SpecRequest::Json(_) | SpecRequest::Checkpoint => unreachable!("shell builds"),
    }
}

fn mapped(name: &str, ownership: Ownership, command: &str) -> ContainerRequest {
    let mut request = shell(name, command);
    let uids = vec![format!("0:{HOST}:65536").parse().expect("good")];
    options(&mut request).user_namespace = Some(UserNamespace { uids, gids: Vec::new(), ownership });
    request
}

async fn run(client: &Client, container: ContainerRequest) -> Task {
    let name = container.id.clone();
    namespace(client).run(RunRequest { container, task: logged() }).await.expect("runs");
    namespace(client).container(name).task()
}

/// Its output to its end, and nothing of it left.
async fn output(client: &Client, container: ContainerRequest) -> String {
    let name = container.id.clone();
    let task = run(client, container).await;
    task.wait().await.expect("ends");
    let text = log_of(client, name.as_str()).await;
    task.delete().await.expect("deletes");
    namespace(client).container(name).delete(true).await.expect("deletes");
    text
}

async fn said(client: &Client, name: &str, word: &str) {
    eventually(word, || async { log_of(client, name).await.contains(word) }).await;
}

fn exec(name: &str, user: Option<&str>, command: &str) -> ExecRequest {
    ExecRequest {
        id: ExecId::new(name).expect("good"),
        process: ExecProcess::Inherit {
            args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
            env: Vec::new(),
            cwd: None,
            user: user.map(str::to_owned),
        },
        stdio: Stdio::default(),
    }
}

/// Where a snapshot's own files are on disk.
async fn on_disk(world: &World, client: &Client, snapshotter: &str, key: &str) -> PathBuf {
    let key = SnapshotKey::new(key).expect("good");
    let record = namespace(client).snapshots(snapshotter).stat(key).await.expect("is there");
    world.places().root.join("snapshots").join(snapshotter).join(record.directory.to_string()).join("fs")
}

fn owner(path: &std::path::Path) -> (u32, u32) {
    let it = std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (it.uid(), it.gid())
}

/// What the container looks at, tries, and leaves.
const LOOK: &str = "id -u; id -g; \
    stat -c '%n %u:%g %a' / /etc/passwd /srv/web /srv/setuid /bin/busybox /dev/null; \
    ls /srv; cat /srv/web; cat /proc/self/uid_map; \
    echo made > /made; chown 7:8 /made; chmod 4711 /made; echo more >> /srv/web; stat -c '%u:%g' /srv/web; \
    echo reopened > /dev/stdout; chown 65536 /made 2>/dev/null || echo not mapped; \
    mkdir /tmp/m && mount -t tmpfs tmpfs /tmp/m 2>/dev/null || echo no mount; echo done; while :; do sleep 0.1; done";

#[tokio::test(flavor = "multi_thread")]
async fn ctr_15_spc_11_files_are_right_inside_and_outside_by_mount_and_by_copy() {
    let (world, _daemon, client) = started().await;
    for (snapshotter, ownership) in [
        ("overlayfs", Ownership::Idmap),
        ("overlayfs", Ownership::Copy),
        ("native", Ownership::Idmap),
        ("native", Ownership::Copy),
    ] {
        let what = format!("{snapshotter} {ownership:?}");
        let mut request = mapped("mapped", ownership, LOOK);
        request.snapshotter = Some(snapshotter.to_owned());
        let task = run(&client, request).await;
        said(&client, "mapped", "done").await;
        let text = log_of(&client, "mapped").await;
        for line in [
            "0\n0\n",
            "/ 0:0 755",
            "/etc/passwd 0:0 644",
            "/srv/web 1000:2000 640",
            "/srv/setuid 0:2000 6755",
            "/bin/busybox 0:0 755",
            "busybox\nsetuid\nweb\n",
            "reopened\n",
            "not mapped\n",
            "no mount\n",
        ] {
            assert!(text.contains(line), "{what}: {line:?} is not in\n{text}");
        }
        assert!(text.contains(&format!("{HOST}")), "{what}: its map\n{text}");
        // Outside: the process, what it made, and the directory on disk.
        let pid = task.info().await.expect("known").pid;
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        assert_eq!(owner(&PathBuf::from(format!("/proc/{pid}"))), (HOST, HOST), "{what}");
        assert_eq!(owner(&root.join("made")), (HOST + 7, HOST + 8), "{what}");
        assert_eq!(owner(&root.join("etc/passwd")), (HOST, HOST), "{what}");
        let disk = on_disk(&world, &client, snapshotter, "mapped").await;
        let shift = if ownership == Ownership::Copy { HOST } else { 0 };
        assert_eq!(owner(&disk.join("made")), (7 + shift, 8 + shift), "{what}");
        assert_eq!(owner(&disk.join("srv/web")), (1000 + shift, 2000 + shift), "{what}");
        assert_eq!(std::fs::metadata(disk.join("made")).expect("there").mode() & 0o7777, 0o4711, "{what}");
        // CVE-2025-47291: in its cgroup like any other.
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("lives");
        assert!(cgroups.contains("/default/mapped"), "{what}: {cgroups}");
        // An exec is one of its users as well, and may open its own output again.
        let command = "test $(id -u) = 1000 && echo x > /tmp/mine && test $(stat -c %u:%g /tmp/mine) = 1000:1000 && exit 21";
        let process = task.exec(exec("inner", Some("web"), command)).await.expect("registers");
        process.start().await.expect("starts");
        assert_eq!(process.wait().await.expect("ends").cause, ExitCause::Code(21), "{what}");
        assert_eq!(owner(&disk.join("tmp/mine")), (1000 + shift, 1000 + shift), "{what}");
        task.kill(9, true).await.expect("kills");
        assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Signal(9));
        task.delete().await.expect("deletes");
        namespace(&client).container(id("mapped")).delete(true).await.expect("deletes");
        world.check(&client).await;
    }
    // The image itself is as it was.
    let plain = output(&client, shell("plain", "stat -c '%u:%g' /srv/web /etc/passwd; cat /srv/web")).await;
    assert_eq!(plain, "1000:2000\n0:0\nweb");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_15_capabilities_of_files_serve_the_mapped_users() {
    let (world, _daemon, client) = started().await;
    for ownership in [Ownership::Idmap, Ownership::Copy] {
        let mut request = mapped("capable", ownership, "/srv/busybox grep CapEff /proc/self/status");
        options(&mut request).user = Some("web".to_owned());
        options(&mut request).may_gain_privileges = true;
        let text = output(&client, request).await;
        assert!(text.contains("0000000000002000"), "{ownership:?}: {text}");
        let mut held = mapped("held", ownership, "/srv/busybox grep CapEff /proc/self/status");
        options(&mut held).user = Some("web".to_owned());
        let text = output(&client, held).await;
        assert!(text.contains("0000000000000000"), "no_new_privileges holds: {text}");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_15_a_copy_is_made_once_for_each_map_and_shared() {
    let (world, _daemon, client) = started().await;
    let copies = || async {
        let all = namespace(&client).default_snapshots().list().await.expect("lists");
        all.into_iter().filter(|it| it.key.as_str().ends_with(&format!("-{HOST}-{HOST}"))).collect::<Vec<_>>()
    };
    // At once: equal copies are made once.
    let (one, two) = tokio::join!(
        output(&client, mapped("one", Ownership::Copy, "stat -c %u /srv/web")),
        output(&client, mapped("two", Ownership::Copy, "stat -c %u /srv/web"))
    );
    assert_eq!((one.as_str(), two.as_str()), ("1000\n", "1000\n"));
    let made = copies().await;
    assert_eq!(made.len(), 3, "one for each layer: {made:?}");
    assert!(made.iter().all(|it| it.kind == SnapshotKind::Committed && it.usage.is_some()));
    assert_eq!(output(&client, mapped("three", Ownership::Copy, "id -u")).await, "0\n");
    assert_eq!(copies().await, made, "taken as they are");
    let mut other =
        mapped("other", Ownership::Copy, "cat /proc/self/uid_map | head -n 1; stat -c %u:%g /srv/web");
    options(&mut other).user_namespace = Some(UserNamespace {
        uids: ["0:200000:1000", "1000:300000:1"].map(|it| it.parse().expect("good")).to_vec(),
        gids: vec!["0:400000:65536".parse().expect("good")],
        ownership: Ownership::Copy,
    });
    let text = output(&client, other).await;
    assert!(text.contains("200000") && text.ends_with("1000:2000\n"), "{text}");
    assert_eq!(copies().await, made);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_13_a_remapped_view_is_read_only_both_ways() {
    let (world, _daemon, client) = started().await;
    for ownership in [Ownership::Idmap, Ownership::Copy] {
        let command =
            "stat -c %u /srv/web /etc/passwd; touch /x || echo refused; touch /srv/web || echo refused";
        let mut request = mapped("view", ownership, command);
        request.root = RootRequest::ImageView { key: Some(SnapshotKey::new("looked-at").expect("good")) };
        namespace(&client).containers().create(request).await.expect("creates");
        let key = SnapshotKey::new("looked-at").expect("good");
        let record = namespace(&client).default_snapshots().stat(key).await.expect("is there");
        assert_eq!(record.kind, SnapshotKind::View, "{ownership:?}");
        let container = namespace(&client).container(id("view"));
        let task = container.create_task(logged()).await.expect("creates");
        task.start().await.expect("starts");
        task.wait().await.expect("ends");
        let text = log_of(&client, "view").await;
        assert!(
            text.starts_with("1000\n0\n") && text.matches("refused").count() == 2,
            "{ownership:?}: {text}"
        );
        task.delete().await.expect("deletes");
        container.delete(true).await.expect("deletes");
    }
    // And without users of its own.
    let mut plain = shell("plain-view", "touch /x || echo refused");
    plain.root = RootRequest::ImageView { key: None };
    assert!(output(&client, plain).await.contains("refused"));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_15_a_copy_that_fails_leaves_nothing_and_says_whose_file_it_was() {
    let world = World::new();
    let _daemon = world.start();
    let client = world.client().await;
    import_bytes(&client, image(Some(70_000))).await.expect("imports");
    let count = || async { namespace(&client).default_snapshots().list().await.expect("lists").len() };
    let before = count().await;
    let refused = namespace(&client).containers().create(mapped("strange", Ownership::Copy, "true")).await;
    let error = refused.expect_err("70000 is not mapped");
    assert_eq!(error.class, ErrorClass::InvalidArgument, "{error}");
    assert!(error.message.contains("strange") && error.message.contains("user 70000"), "{error}");
    // The layer below it was copied whole, and may stay.
    assert_eq!(count().await, before + 1);
    assert!(client.operations().await.expect("lists").is_empty());
    assert!(namespace(&client).containers().list().await.expect("lists").is_empty());
    // By the mount it is nobody's, as for any file system that knows more users.
    let text = output(&client, mapped("strange", Ownership::Idmap, "stat -c %u /srv/strange")).await;
    assert_eq!(text, "65534\n");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn io_11_terminals_pipes_and_output_belong_to_the_mapped_user() {
    let (world, _daemon, client) = started().await;
    for (user, uid) in [("root", 0), ("web", 1000)] {
        let command =
            "test -O /proc/self/fd/1 && echo mine; echo again > /dev/stdout; echo error > /dev/stderr";
        let mut request = mapped("pipes", Ownership::Auto, command);
        options(&mut request).user = Some(user.to_owned());
        let text = output(&client, request).await;
        let whole = ["again\n", "error\n"].iter().all(|line| text.contains(line));
        assert!(whole && !text.contains("denied"), "{user}: {text}");
        let mut request = mapped("terminal", Ownership::Auto, "stat -c %u $(tty); echo ok > $(tty)");
        options(&mut request).user = Some(user.to_owned());
        options(&mut request).terminal = true;
        let stdio = Stdio { terminal: true, ..Stdio::default() };
        let task = TaskRequest { stdio, ..logged() };
        let run = RunRequest { container: request, task };
        namespace(&client).run(run).await.expect("runs").wait().await.expect("ends");
        let text = log_of(&client, "terminal").await;
        assert!(text.contains(&format!("{uid}\r\n")) && text.contains("ok\r\n"), "{user}: {text}");
        let container = namespace(&client).container(id("terminal"));
        container.task().delete().await.expect("deletes");
        container.delete(true).await.expect("deletes");
    }
    world.check(&client).await;
}

/// What an exec must be: its user's, in its container's namespace of users, as bound as init is.
const HELD: &str = "s=/proc/self/status; grep -q 'Seccomp:.*2' $s && grep -q 'NoNewPrivs:.*1' $s && \
    grep -q 'CapBnd:.*a80425fb' $s && grep -q 'CapEff:.*EFFECTIVE' $s && test $(id -u):$(id -G | wc -w) = IDS && \
    test \"$HOME\" = HOME_OF && test $(stat -c %u $(tty)) = $(id -u) && echo x > $(tty) && \
    ! /bin/busybox unshare -U true && \
    test $(/bin/busybox awk '{print $2}' /proc/self/uid_map) = MAP && exit 23";

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_is_held_by_its_containers_users_and_owns_its_terminal() {
    let (world, _daemon, client) = started().await;
    let plain = run(&client, shell("plain", "sleep 1000")).await;
    let own = run(&client, mapped("own", Ownership::Auto, "sleep 1000")).await;
    for (task, name, map) in [(&plain, "plain", "0"), (&own, "own", "100000")] {
        for (user, effective, ids, home) in
            [("root", "00000000a80425fb", "0:1", "/root"), ("web", "0000000000000000", "1000:2", "/tmp")]
        {
            let command = HELD.replace("EFFECTIVE", effective).replace("IDS", ids);
            let command = command.replace("HOME_OF", home).replace("MAP", map);
            let request = exec(&format!("{name}-{user}"), Some(user), &command);
            let stdio = Stdio { terminal: true, ..Stdio::default() };
            let process = task.exec(ExecRequest { stdio, ..request }).await.expect("registers");
            process.start().await.expect("starts");
            assert_eq!(process.wait().await.expect("ends").cause, ExitCause::Code(23), "{name} {user}");
        }
    }
    let stranger = own.exec(exec("stranger", Some("70000"), "true")).await.expect("registers");
    let error = stranger.start().await.expect_err("nobody outside");
    assert!(error.message.contains("70000"), "{error}");
    for (task, name) in [(plain, "plain"), (own, "own")] {
        task.kill(9, true).await.expect("kills");
        task.wait().await.expect("ends");
        task.delete().await.expect("deletes");
        namespace(&client).container(id(name)).delete(true).await.expect("deletes");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spc_11_other_runtimes_the_hosts_network_devices_and_few_ids() {
    let (world, _daemon, client) = started().await;
    let mut other = mapped("other", Ownership::Auto, "id -u; stat -c %u:%g /srv/web; echo x > /dev/stdout");
    other.runtime.name = "runc".to_owned();
    assert_eq!(output(&client, other).await, "0\n1000:2000\nx\n");
    let mut host = mapped("host", Ownership::Auto, "ls -d /sys/class/net/lo; touch /sys/x || echo refused");
    options(&mut host).host_network = true;
    let text = output(&client, host).await;
    assert!(text.contains("/sys/class/net/lo") && text.contains("refused"), "{text}");
    let mut device = mapped("device", Ownership::Auto, "stat -c %t:%T /dev/mine; echo x > /dev/mine");
    options(&mut device).devices = vec!["/dev/full:/dev/mine:rw".to_owned()];
    let text = output(&client, device).await;
    assert!(text.starts_with("1:7\n") && text.contains("No space left"), "{text}");
    let mut few = mapped("few", Ownership::Auto, "id -u; stat -c %u /srv/web; tty");
    options(&mut few).user_namespace =
        Some(UserNamespace { uids: vec!["0:100000:1".parse().expect("good")], ..UserNamespace::default() });
    let text = output(&client, few).await;
    assert!(text.starts_with("0\n65534\n"), "{text}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapped_container_lives_through_the_daemons_death_and_takes_execs() {
    let (world, daemon, client) = started().await;
    let task = run(&client, mapped("lasting", Ownership::Auto, "echo up; sleep 1000")).await;
    said(&client, "lasting", "up").await;
    let pid = task.info().await.expect("known").pid;
    daemon.kill();
    let _daemon = world.start();
    let client = world.client().await;
    world.recovered(&client).await;
    let task = namespace(&client).container(id("lasting")).task();
    assert_eq!(task.info().await.expect("known").pid, pid);
    let process =
        task.exec(exec("later", None, "test $(id -u) = 0 && touch /x && exit 9")).await.expect("registers");
    process.start().await.expect("starts");
    assert_eq!(process.wait().await.expect("ends").cause, ExitCause::Code(9));
    task.kill(9, true).await.expect("kills");
    task.wait().await.expect("ends");
    task.delete().await.expect("deletes");
    namespace(&client).container(id("lasting")).delete(true).await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_with_labels_of_maps_say_so_in_their_mounts() {
    let (world, _daemon, client) = started().await;
    let snapshots = namespace(&client).default_snapshots();
    let key = |text: &str| SnapshotKey::new(text).expect("good");
    let labels = Labels::from([
        ("containerd.io/snapshot/uidmapping".to_owned(), "0:1000:10".to_owned()),
        ("containerd.io/snapshot/gidmapping".to_owned(), "0:2000:10,10:9000:1".to_owned()),
    ]);
    let mounts = snapshots.prepare(key("labelled"), None, labels.clone()).await.expect("prepares");
    let words = mounts[0].options.clone();
    assert!(
        ["uidmap=0:1000:10", "gidmap=0:2000:10", "gidmap=10:9000:1"]
            .iter()
            .all(|it| words.contains(&(*it).to_owned())),
        "{words:?}"
    );
    assert_eq!(snapshots.mounts(key("labelled")).await.expect("tells"), mounts);
    let bad = Labels::from([("containerd.io/snapshot/uidmapping".to_owned(), "0:1".to_owned())]);
    let error = snapshots.view(key("bad"), None, bad).await.expect_err("malformed");
    assert_eq!(error.class, ErrorClass::InvalidArgument);
    snapshots.remove(key("labelled")).await.expect("removes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_run_with_users_of_its_own() {
    let (world, _daemon, client) = started().await;
    let run = |words: &[&str]| {
        let all: Vec<&str> = ["run", "--rm"].iter().chain(words).copied().collect();
        let output = world.bosun(&all).output().expect("runs");
        (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let look = ["sh", "-c", "id -u; head -n 1 /proc/self/uid_map"];
    for flags in [
        vec!["--userns-remap", "100000:65536"],
        vec!["--uidmap", "0:100000:65536"],
        vec!["--uidmap", "0:100000:65536", "--gidmap", "0:7000:65536", "--userns-files", "copy"],
    ] {
        let words: Vec<&str> = flags.iter().chain(&[IMAGE]).chain(&look).copied().collect();
        let (text, errors) = run(&words);
        assert!(text.starts_with("0\n") && text.contains("100000"), "{flags:?}: {text} {errors}");
    }
    let (_, errors) = run(&["--uidmap", "1:2:3", IMAGE, "true"]);
    assert!(errors.contains("0 is not mapped"), "{errors}");
    world.check(&client).await;
}
