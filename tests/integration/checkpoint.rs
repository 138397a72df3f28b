//! Checkpoint and restore (CKP-*), with a real CRIU: a counter in a shell's loop goes on where it was.

use std::os::unix::fs::PermissionsExt as _;

use bosun_client::{Client, RunRequest, Task};
use bosun_tests::client::{IMAGE, events, import, log_of, logged, namespace, shell};
use bosun_tests::criu::criu;
use bosun_tests::world::{Daemon, World, eventually};
use bosun_types::checkpoint::{CheckpointRequest, MEDIA_CRIU, TaskCheckpoint};
use bosun_types::content::Descriptor;
use bosun_types::event::Event;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::spec::{ContainerRequest, RootRequest, SpecRequest};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExecProcess, ExecRequest, ExitCause, ProcessStatus, TaskRequest};
use bosun_types::{ContainerId, ErrorClass, ExecId, ImageName};

const COUNTER: &str = "echo kept > /etc/mark; rm /etc/group; i=0; while true; do i=$((i+1)); echo $i; echo $i > /count; sleep 0.05; done";

/// A world whose daemon has a CRIU; `None`: there is none here.
async fn started() -> Option<(World, Daemon, Client)> {
    let mut world = World::new();
    world.use_criu(&criu()?);
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    Some((world, daemon, client))
}

fn image(name: &str) -> ImageName {
    ImageName::new(format!("test.local/{name}:1")).expect("good")
}

fn named(name: &str) -> CheckpointRequest {
    CheckpointRequest { image: Some(image(name)), ..CheckpointRequest::default() }
}

fn id(name: &str) -> ContainerId {
    ContainerId::new(name).expect("good")
}

async fn run(client: &Client, name: &str, snapshotter: &str) -> Task {
    let container = ContainerRequest { snapshotter: Some(snapshotter.to_owned()), ..shell(name, COUNTER) };
    namespace(client).run(RunRequest { container, task: logged() }).await.expect("runs");
    counts_past(client, name, 3).await;
    namespace(client).container(id(name)).task()
}

/// Everything that it has counted.
async fn counted(client: &Client, name: &str) -> Vec<u32> {
    log_of(client, name).await.lines().filter_map(|line| line.parse().ok()).collect()
}

async fn last(client: &Client, name: &str) -> u32 {
    counted(client, name).await.last().copied().unwrap_or(0)
}

async fn counts_past(client: &Client, name: &str, number: u32) {
    eventually("the counter to go on", || async { last(client, name).await > number }).await;
}

fn from_checkpoint(name: &str, from: &ImageName) -> ContainerRequest {
    ContainerRequest {
        image: None,
        spec: SpecRequest::Checkpoint,
        root: RootRequest::Image { key: None },
        checkpoint: Some(from.clone()),
        ..shell(name, "")
    }
}

fn restored(from: &ImageName) -> TaskRequest {
    TaskRequest { checkpoint: Some(TaskCheckpoint::Image(from.clone())), ..logged() }
}

async fn restore(client: &Client, name: &str, from: &ImageName, snapshotter: &str) -> Task {
    let container =
        ContainerRequest { snapshotter: Some(snapshotter.to_owned()), ..from_checkpoint(name, from) };
    namespace(client).containers().create(container).await.expect("makes the container");
    let task =
        namespace(client).container(id(name)).create_task(restored(from)).await.expect("makes the task");
    task.start().await.expect("restores");
    task
}

/// The first number of a restored counter, after which none is missing.
async fn goes_on(client: &Client, name: &str) -> u32 {
    let first = counted(client, name).await.first().copied();
    eventually("its first number", || async { !counted(client, name).await.is_empty() }).await;
    let first = first.unwrap_or(counted(client, name).await[0]);
    counts_past(client, name, first + 5).await;
    let all = counted(client, name).await;
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
    all[0]
}

async fn end(client: &Client, name: &str) {
    let container = namespace(client).container(id(name));
    let task = container.task();
    let _ = task.kill(9, false).await;
    assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Signal(9));
    task.delete().await.expect("is deleted");
    container.delete(true).await.expect("is deleted");
}

fn said(world: &World, words: &[&str]) -> String {
    let output = world.bosun(words).output().expect("bosun runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn json(client: &Client, descriptor: &Descriptor) -> serde_json::Value {
    let bytes = namespace(client).content().read_all(descriptor.digest, 1 << 20).await.expect("reads");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn ckp_1_a_container_is_stored_and_goes_on_and_so_does_its_copy() {
    let Some((world, _daemon, client)) = started().await else { return };
    let task = run(&client, "count", SNAPSHOTTER_DEFAULT).await;
    let before = last(&client, "count").await;
    let made = task.checkpoint(named("cp")).await.expect("stores it");
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Running);
    let after = last(&client, "count").await;
    counts_past(&client, "count", after + 3).await;
    // CKP-3, CKP-5: the image's layout.
    assert_eq!(made.labels["containerd.io/checkpoint"], "true");
    let index = json(&client, &made.target).await;
    let kinds: Vec<&str> = index["manifests"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|it| it["mediaType"].as_str())
        .collect();
    let base =
        namespace(&client).images().get(ImageName::new(IMAGE).expect("good")).await.expect("there").target;
    assert_eq!(
        kinds,
        [
            MEDIA_CRIU,
            "application/vnd.containerd.container.checkpoint.config.v1+proto",
            base.media_type.as_str(),
            "application/vnd.oci.image.layer.v1.tar+gzip"
        ]
    );
    assert_eq!(index["annotations"]["image.name"], IMAGE);
    let row = namespace(&client).content().info(made.target.digest).await.expect("recorded");
    for (at, part) in index["manifests"].as_array().expect("a list").iter().enumerate() {
        assert_eq!(part["digest"], row.labels[&format!("containerd.io/gc.ref.content.{at}")]);
    }
    // CKP-11, and the order of what was said.
    let told: Vec<String> = events(&client).await.iter().map(|it| it.event.topic().to_owned()).collect();
    let at = |topic: &str| {
        told.iter().position(|it| it == topic).unwrap_or_else(|| panic!("no {topic}: {told:?}"))
    };
    assert!(
        at("/tasks/paused") < at("/tasks/checkpointed") && at("/tasks/checkpointed") < at("/tasks/resumed")
    );
    let stored = events(&client).await.into_iter().find_map(|it| match it.event {
        Event::TaskCheckpointed { checkpoint, .. } => Some(checkpoint),
        _ => None,
    });
    assert_eq!(stored.as_deref(), Some(image("cp").as_str()));
    // Its copy: beside it, from the same moment, with what it had written and had removed.
    let copy = restore(&client, "copy", &image("cp"), SNAPSHOTTER_DEFAULT).await;
    let first = goes_on(&client, "copy").await;
    assert!((before..=after + 1).contains(&first), "{first} is not between {before} and {after}");
    assert_eq!(said(&world, &["exec", "copy", "/bin/cat", "/etc/mark"]), "kept");
    assert!(!world.bosun(&["exec", "copy", "/bin/cat", "/etc/group"]).status().expect("runs").success());
    assert_eq!(copy.info().await.expect("known").status, ProcessStatus::Running);
    let record = namespace(&client).container(id("copy")).record().await.expect("there");
    assert_eq!(record.image.as_ref().map(ImageName::as_str), Some(IMAGE));
    world.check(&client).await;
    // It is held like any other: over a restart of the daemon, its own checkpoint included.
    copy.checkpoint(named("cp2")).await.expect("stores the copy");
    end(&client, "count").await;
    end(&client, "copy").await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ckp_9_with_whole_trees_for_snapshots_the_written_layer_comes_back_too() {
    let Some((world, _daemon, client)) = started().await else { return };
    run(&client, "count", "native").await.checkpoint(named("cp")).await.expect("stores it");
    restore(&client, "copy", &image("cp"), "native").await;
    goes_on(&client, "copy").await;
    assert_eq!(said(&world, &["exec", "copy", "/bin/cat", "/etc/mark"]), "kept");
    // And across snapshotters: a layer is a layer.
    restore(&client, "other", &image("cp"), SNAPSHOTTER_DEFAULT).await;
    assert_eq!(said(&world, &["exec", "other", "/bin/cat", "/etc/mark"]), "kept");
    for name in ["count", "copy", "other"] {
        end(&client, name).await;
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ckp_6_with_exit_it_ends_once_its_image_is_there_and_the_daemon_may_die_in_between() {
    let Some((world, daemon, client)) = started().await else { return };
    let task = run(&client, "count", SNAPSHOTTER_DEFAULT).await;
    let out = said(&world, &["checkpoint", "--exit", "count", image("cp").as_str()]);
    assert!(out.starts_with("test.local/cp:1 sha256:"), "{out}");
    let info = task.info().await.expect("known");
    assert_eq!(info.exit.map(|exit| exit.cause), Some(ExitCause::Signal(9)));
    let at = last(&client, "count").await;
    said(&world, &["rm", "count"]);
    said(&world, &["restore", "-d", "--name", "again", image("cp").as_str()]);
    assert_eq!(goes_on(&client, "again").await, at + 1);
    drop(client);
    daemon.kill();
    let _daemon = world.start();
    let client = world.client().await;
    world.recovered(&client).await;
    let now = last(&client, "again").await;
    counts_past(&client, "again", now + 3).await;
    end(&client, "again").await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ckp_10_before_its_start_a_restored_task_is_created_and_takes_no_exec() {
    let Some((world, _daemon, client)) = started().await else { return };
    let task = run(&client, "count", SNAPSHOTTER_DEFAULT).await;
    task.checkpoint(named("cp")).await.expect("stores it");
    let containers = namespace(&client).containers();
    containers.create(from_checkpoint("copy", &image("cp"))).await.expect("makes it");
    let container = namespace(&client).container(id("copy"));
    // Neither an image that is no checkpoint nor a part of another kind will do (TSK-5).
    let plain = ImageName::new(IMAGE).expect("good");
    let error = container.create_task(restored(&plain)).await.map(drop).expect_err("no checkpoint");
    assert!(error.message.contains("checkpoint not found in index"), "{error:?}");
    let target = namespace(&client).images().get(plain).await.expect("there").target;
    let wrong = TaskRequest { checkpoint: Some(TaskCheckpoint::Descriptor(target)), ..logged() };
    let error = container.create_task(wrong).await.map(drop).expect_err("no part of CRIU's");
    assert_eq!(error.class, ErrorClass::InvalidArgument);
    let index =
        json(&client, &namespace(&client).images().get(image("cp")).await.expect("there").target).await;
    let part = &index["manifests"][0];
    let part = Descriptor {
        media_type: MEDIA_CRIU.to_owned(),
        digest: part["digest"].as_str().expect("text").parse().expect("a digest"),
        size: part["size"].as_u64().expect("a number"),
    };
    let request = TaskRequest { checkpoint: Some(TaskCheckpoint::Descriptor(part)), ..logged() };
    let copy = container.create_task(request).await.expect("makes the task");
    assert_eq!(copy.info().await.expect("known").status, ProcessStatus::Created);
    let exec = ExecRequest {
        id: ExecId::new("early").expect("good"),
        process: ExecProcess::Inherit {
            args: vec!["/bin/true".into()],
            env: Vec::new(),
            cwd: None,
            user: None,
        },
        stdio: Stdio::default(),
    };
    let error = copy.exec(exec).await.map(drop).expect_err("it is not restored yet");
    assert_eq!(error.class, ErrorClass::FailedPrecondition);
    assert!(error.message.contains("cannot exec in a created state"), "{error:?}");
    copy.start().await.expect("restores");
    goes_on(&client, "copy").await;
    // CKP-8: a snapshot that is there is tolerated.
    end(&client, "copy").await;
    end(&client, "count").await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_exported_and_imported_and_restored_in_another_root() {
    let Some((world, _daemon, client)) = started().await else { return };
    let task = run(&client, "count", SNAPSHOTTER_DEFAULT).await;
    let request = CheckpointRequest { exit: true, ..named("cp") };
    task.checkpoint(request).await.expect("stores it");
    let at = last(&client, "count").await;
    let mut other = World::new();
    other.use_criu(&criu().expect("just used"));
    let _other = other.start();
    let there = other.client().await;
    let archive = world.path("cp.tar");
    let archive = archive.to_str().expect("text");
    said(&world, &["save", "-o", archive, image("cp").as_str()]);
    said(&other, &["load", archive]);
    restore(&there, "count", &image("cp"), SNAPSHOTTER_DEFAULT).await;
    assert_eq!(goes_on(&there, "count").await, at + 1);
    assert_eq!(said(&other, &["exec", "count", "/bin/cat", "/etc/mark"]), "kept");
    end(&there, "count").await;
    other.check(&there).await;
    end(&client, "count").await;
    world.check(&client).await;
}

/// A program in CRIU's place.
fn stand_in(world: &World, script: &str) -> String {
    let path = world.path("criu");
    std::fs::write(&path, format!("#!/bin/bash\n{script}\n")).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("sets");
    path.to_string_lossy().into_owned()
}

fn blobs(world: &World) -> usize {
    std::fs::read_dir(world.places().root.join("content/blobs/sha256")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn ckp_7_a_failed_checkpoint_says_why_keeps_the_log_and_leaves_nothing_else() {
    let Some((world, _daemon, client)) = started().await else { return };
    // CRIU does not store an established connection unless it is told to.
    let command = "/bin/busybox ip link set lo up; /bin/busybox mkfifo /f; /bin/busybox nc -l -p 5000 <>/f >/dev/null & \
                   { until /bin/busybox nc 127.0.0.1 5000 <>/f >/dev/null; do sleep 0.05; done; } & ";
    let mut container = shell("count", &format!("{command}{COUNTER}"));
    if let SpecRequest::Build(options) = &mut container.spec {
        options.capabilities_add.push("net_admin".into());
    }
    namespace(&client).run(RunRequest { container, task: logged() }).await.expect("runs");
    let task = namespace(&client).container(id("count")).task();
    let sockets = format!("/proc/{}/net/tcp", task.info().await.expect("known").pid);
    eventually("the connection", || async {
        let text = std::fs::read_to_string(&sockets).unwrap_or_default();
        text.lines().any(|line| line.split_whitespace().nth(3) == Some("01"))
    })
    .await;
    let before = blobs(&world);
    let error = task.checkpoint(named("cp")).await.expect_err("it cannot be stored");
    assert!(error.message.contains("criu: ") && !error.message.contains('\n'), "{error:?}");
    assert!(error.message.contains("TCP"), "{error:?}");
    let log = world.places().state.join("tasks");
    let log =
        std::fs::read_dir(log).expect("lists").flatten().next().expect("a task").path().join("criu-dump.log");
    assert!(error.hint.expect("says where").contains(&log.to_string_lossy().into_owned()));
    assert!(std::fs::read_to_string(log).expect("is kept").contains("Dumping FAILED"));
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Running);
    let at = last(&client, "count").await;
    counts_past(&client, "count", at + 3).await;
    assert_eq!(
        namespace(&client).images().get(image("cp")).await.expect_err("none").class,
        ErrorClass::NotFound
    );
    assert_eq!(blobs(&world), before);
    assert!(client.operations().await.expect("lists").is_empty());
    end(&client, "count").await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_in_the_middle_of_a_checkpoint_leaves_nothing_frozen() {
    let Some(real) = criu() else { return };
    let mut world = World::new();
    let (begun, go) = (world.path("begun"), world.path("go"));
    let slow = format!(
        "touch {}; until [ -e {} ]; do sleep 0.05; done; exec {real} \"$@\"",
        begun.display(),
        go.display()
    );
    let slow = stand_in(&world, &slow);
    world.use_criu(&slow);
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    let task = run(&client, "count", SNAPSHOTTER_DEFAULT).await;
    let pid = task.info().await.expect("known").pid;
    let storing = tokio::spawn({
        let task = task.clone();
        async move { task.checkpoint(named("cp")).await }
    });
    eventually("the dump to begin", || async { begun.exists() }).await;
    // Nobody else lets it go meanwhile, and it is not stored twice at once.
    let error = task.resume().await.expect_err("it is being stored");
    assert_eq!(error.class, ErrorClass::FailedPrecondition);
    let error = task.checkpoint(named("other")).await.expect_err("it is being stored");
    assert_eq!(error.class, ErrorClass::FailedPrecondition);
    let at = last(&client, "count").await;
    drop(client);
    daemon.kill();
    assert!(storing.await.expect("answers").is_err());
    let _daemon = world.start();
    std::fs::write(&go, "").expect("writes");
    let client = world.client().await;
    world.recovered(&client).await;
    let task = namespace(&client).container(id("count")).task();
    let info = task.info().await.expect("known");
    assert_eq!((info.status, info.pid), (ProcessStatus::Running, pid));
    counts_past(&client, "count", at + 3).await;
    assert_eq!(
        namespace(&client).images().get(image("cp")).await.expect_err("none").class,
        ErrorClass::NotFound
    );
    task.checkpoint(named("cp")).await.expect("it can be stored now");
    end(&client, "count").await;
    assert!(client.operations().await.expect("lists").is_empty());
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_refused_before_it_is_frozen() {
    let Some((world, _daemon, client)) = started().await else { return };
    let task = run(&client, "count", SNAPSHOTTER_DEFAULT).await;
    let taken = CheckpointRequest { image: ImageName::new(IMAGE).ok(), ..CheckpointRequest::default() };
    assert_eq!(task.checkpoint(taken).await.expect_err("taken").class, ErrorClass::AlreadyExists);
    let exec = ExecRequest {
        id: ExecId::new("busy").expect("good"),
        process: ExecProcess::Inherit {
            args: vec!["/bin/sleep".into(), "1000".into()],
            env: Vec::new(),
            cwd: None,
            user: None,
        },
        stdio: Stdio::default(),
    };
    let exec = task.exec(exec).await.expect("registers");
    exec.start().await.expect("runs");
    let error = task.checkpoint(named("cp")).await.expect_err("an exec runs");
    assert_eq!(error.class, ErrorClass::FailedPrecondition);
    assert!(error.message.contains("busy"), "{error:?}");
    exec.kill(9, false).await.expect("ends");
    exec.wait().await.expect("ended");
    // A user's own pause stays.
    task.pause().await.expect("pauses");
    task.checkpoint(named("cp")).await.expect("stores it frozen");
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Paused);
    task.resume().await.expect("resumes");
    let paused = events(&client).await.iter().filter(|it| it.event.topic() == "/tasks/paused").count();
    assert_eq!(paused, 1, "the checkpoint froze nothing");
    task.kill(9, false).await.expect("ends");
    task.wait().await.expect("ended");
    let error = task.checkpoint(named("late")).await.expect_err("it has ended");
    assert!(error.message.contains("stopped"), "{error:?}");
    task.delete().await.expect("is deleted");
    namespace(&client).container(id("count")).delete(true).await.expect("is deleted");
    world.check(&client).await;
}
