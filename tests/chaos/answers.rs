//! The daemon dies when a change is done and not answered yet, at every kind of change: the client makes it again by its key, is answered, and it was done once.

use std::future::Future;

use bosun_client::Client;
use bosun_registry::testing::FaultyRegistry;
use bosun_storage::image::{digest_of, media_type};
use bosun_tests::client::{events, import, log_of, logged, namespace, shell};
use bosun_tests::fixture;
use bosun_tests::world::{Daemon, World, eventually};
use bosun_types::access::{Access, SocketRecord};
use bosun_types::event::EventStart;
use bosun_types::gc::Object;
use bosun_types::group::{GroupMember, GroupSpec, GroupStrategy, MemberName, MemberRestart, SHUTDOWN_MS};
use bosun_types::lease::LeaseResource;
use bosun_types::relaunch::{RestartIntensity, RestartPolicy, RestartWhen, StopRequest};
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::stdio::{STDIN_ATTACH, Stdio};
use bosun_types::task::TaskRequest;
use bosun_types::transfer::PullRequest;
use bosun_types::{ContainerId, CursorId, GroupName, Labels, NamespaceName, Result, SnapshotKey, SocketId};
use bytes::Bytes;

const LIVES: &str = "trap 'exit 0' TERM; while :; do sleep 0.02; done";

struct Stage {
    world: World,
    client: Client,
    daemon: Option<Daemon>,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new();
        let daemon = Some(world.start());
        let client = world.client().await;
        import(&client).await;
        Self { world, client, daemon }
    }

    async fn told(&self, topic: &str) -> usize {
        events(&self.client).await.iter().filter(|record| record.event.topic() == topic).count()
    }

    /// Makes the call in a daemon that dies before it answers; gives its answer, which came from the next. `topic`: is told `times` times.
    async fn cut<T: Send + 'static>(
        &mut self,
        method: &str,
        (topic, times): (&str, usize),
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> T {
        let before = self.told(topic).await;
        self.daemon.take().expect("one runs").kill();
        let fault = format!("call.{method}.done=abort");
        let dying = self.world.start_with(&[("BOSUN_FAULTS", &fault)]);
        self.world.recovered(&self.client).await;
        let calling = tokio::spawn(call);
        tokio::task::spawn_blocking(move || dying.ended()).await.expect("joins");
        self.daemon = Some(self.world.start());
        let answer = calling.await.expect("joins");
        let answer = answer.unwrap_or_else(|error| panic!("{method}: {error}"));
        self.world.recovered(&self.client).await;
        if times > 0 {
            let (world, client) = (&self.world, &self.client);
            eventually("what was done to be told", async || self.told(topic).await >= before + times).await;
            world.recovered(client).await;
        }
        assert_eq!(self.told(topic).await, before + times, "{method}: {topic}");
        answer
    }
}

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).expect("good")
}

fn labels(value: &str) -> Labels {
    Labels::from([("told".to_owned(), value.to_owned())])
}

const NOTHING: (&str, usize) = ("/none", 0);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn records_are_changed_once_though_the_daemon_died_before_it_answered() {
    let mut stage = Stage::new().await;
    let (client, space) = (stage.client.clone(), namespace(&stage.client));
    let (of, name) = (client.clone(), NamespaceName::default_name());
    let update = async move { of.update_namespace(name, labels("a"), false).await };
    let record = stage.cut("namespace.update", ("/namespaces/update", 1), update).await;
    assert_eq!(record.labels, labels("a"));

    let image = space.images().list().await.expect("lists").remove(0);
    let (of, changed) = (space.images(), bosun_types::image::ImageRecord { labels: labels("b"), ..image });
    let update = async move { of.update(changed, &["labels"]).await };
    assert_eq!(stage.cut("image.update", ("/images/update", 1), update).await.labels, labels("b"));

    let bytes = b"a blob".to_vec();
    let digest = digest_of(&bytes);
    let source = std::io::Cursor::new(bytes);
    space.content().write_blob("w".to_owned(), source, 6, Some(digest), Labels::new()).await.expect("writes");
    let of = space.content();
    let update = async move { of.update_labels(digest, labels("c"), false).await };
    assert_eq!(stage.cut("content.update", NOTHING, update).await.labels, labels("c"));

    let (of, key) = (space.default_snapshots(), SnapshotKey::new("s").expect("good"));
    of.prepare(key.clone(), None, Labels::new()).await.expect("prepares");
    let update = async move { of.update_labels(key, labels("d"), false).await };
    assert_eq!(stage.cut("snapshot.update", NOTHING, update).await.labels["told"], "d");

    let of = space.leases();
    let lease = stage.cut("lease.create", NOTHING, async move { of.create(None, Labels::new()).await }).await;
    assert_eq!(space.leases().list().await.expect("lists").len(), 1, "one lease");
    let (of, held) = (space.leases(), LeaseResource::Object(Object::Blob(digest)));
    let (lease, resource) = (lease.id, held.clone());
    let add = {
        let (of, lease) = (of.clone(), lease.clone());
        async move { of.add(lease, resource).await }
    };
    stage.cut("lease.add", NOTHING, add).await;
    assert_eq!(of.resources(lease.clone()).await.expect("lists"), std::slice::from_ref(&held));
    let remove = {
        let (of, lease) = (of.clone(), lease.clone());
        async move { of.remove(lease, held).await }
    };
    stage.cut("lease.remove", NOTHING, remove).await;
    assert!(of.resources(lease.clone()).await.expect("lists").is_empty());
    let of = space.leases();
    stage.cut("lease.delete", NOTHING, async move { of.delete(lease).await }).await;
    assert!(space.leases().list().await.expect("lists").is_empty());

    let of = space.content();
    stage.cut("content.delete", ("/content/delete", 1), async move { of.delete(digest).await }).await;

    let socket = SocketRecord::new(
        SocketId::new("web").expect("good"),
        NamespaceName::default_name(),
        Access::ReadWrite,
    );
    let of = client.clone();
    let (record, path) = {
        let socket = socket.clone();
        stage.cut("socket.create", NOTHING, async move { of.create_socket(socket).await }).await
    };
    assert!(record.id == socket.id && path.exists(), "it is there: {}", path.display());
    let of = client.clone();
    stage.cut("socket.remove", NOTHING, async move { of.remove_socket(socket.id).await }).await;
    assert!(!path.exists() && client.sockets().await.expect("lists").is_empty());

    let cursor = client.events().cursor(CursorId::new("c").expect("good"));
    cursor.create(EventStart::Now).await.expect("makes");
    stage.cut("event.remove_cursor", NOTHING, async move { cursor.remove().await }).await;
    stage.world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn containers_and_tasks_are_changed_once_though_the_daemon_died_before_it_answered() {
    let mut stage = Stage::new().await;
    let (client, space) = (stage.client.clone(), namespace(&stage.client));
    // A job that is over at once: started a second time it would say so.
    let job = space.containers().create(shell("job", "echo ran")).await.expect("creates").id;
    let job = space.container(job);
    job.create_task(logged()).await.expect("makes");
    let of = job.clone();
    let pid = stage.cut("container.start", ("/tasks/start", 1), async move { of.start().await }).await;
    assert!(pid > 0);
    job.task().wait().await.expect("ends");
    assert_eq!(log_of(&client, "job").await, "ran\n");

    let of = job.clone();
    let record = of.record().await.expect("is there");
    let changed = bosun_types::container::ContainerRecord { labels: labels("x"), ..record };
    let update = async move { of.update(changed, &["labels"]).await };
    assert_eq!(stage.cut("container.update", ("/containers/update", 1), update).await.labels, labels("x"));
    let when = RestartWhen::OnFailure { most: 3 };
    let (of, policy) = (job.clone(), RestartPolicy { when, ..RestartPolicy::default() });
    let set = async move { of.set_restart_policy(policy).await };
    stage.cut("container.set_restart_policy", NOTHING, set).await;
    let told = job.relaunch().await.expect("is there").expect("has one");
    assert_eq!(told.policy.when, when);

    let live = space.container(id("live"));
    space.containers().create(shell("live", LIVES)).await.expect("creates");
    live.start().await.expect("starts");
    let of = live.task();
    stage.cut("task.pause", ("/tasks/paused", 1), async move { of.pause().await }).await;
    let of = live.task();
    stage.cut("task.resume", ("/tasks/resumed", 1), async move { of.resume().await }).await;
    let of = live.task();
    let resources = br#"{"pids": {"limit": 77}}"#.to_vec();
    stage.cut("task.update", NOTHING, async move { of.update(resources).await }).await;
    let of = live.task();
    stage.cut("process.resize", NOTHING, async move { of.init().resize(80, 25).await }).await;
    let of = live.clone();
    let restart = async move { of.restart(StopRequest::default()).await };
    let again = stage.cut("container.restart", ("/tasks/start", 1), restart).await;
    assert_eq!(live.task().pid().await.expect("known"), again, "restarted once");
    let of = live.clone();
    let stop = async move { of.stop(StopRequest::default()).await };
    let exit = stage.cut("container.stop", ("/tasks/exit", 1), stop).await;
    assert_eq!(exit.expect("it ran").code(), 0, "it was told once to end, and did");
    stage.world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_to_a_process_comes_once_though_the_daemon_died_before_it_answered() {
    let mut stage = Stage::new().await;
    let (client, space) = (stage.client.clone(), namespace(&stage.client));
    space.containers().create(shell("cat", "cat; echo end")).await.expect("creates");
    let stdio = Stdio { stdin: Some(STDIN_ATTACH.to_owned()), ..Stdio::default() };
    let request = TaskRequest { stdio, log_to_file: true, ..TaskRequest::default() };
    let task = space.container(id("cat")).create_task(request).await.expect("makes");
    task.start().await.expect("starts");
    for line in ["one\n", "two\n"] {
        let process = task.init().clone();
        let write = async move { process.write_stdin(line.as_bytes().to_vec()).await };
        stage.cut("process.write_stdin", NOTHING, write).await;
    }
    let process = task.init().clone();
    stage.cut("process.close_stdin", NOTHING, async move { process.close_stdin().await }).await;
    task.wait().await.expect("ends");
    assert_eq!(log_of(&client, "cat").await, "one\ntwo\nend\n", "each line once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_is_made_started_and_stopped_once_though_the_daemon_died_before_it_answered() {
    let mut stage = Stage::new().await;
    let (client, space) = (stage.client.clone(), namespace(&stage.client));
    for name in ["a", "b"] {
        space.containers().create(shell(name, LIVES)).await.expect("creates");
    }
    let member = |name: &str| GroupMember {
        name: MemberName::Container(id(name)),
        restart: MemberRestart::Permanent,
        shutdown_ms: SHUTDOWN_MS,
    };
    let spec = GroupSpec {
        name: GroupName::new("g").expect("good"),
        strategy: GroupStrategy::OneForAll,
        intensity: RestartIntensity { restarts: 3, period_ms: 600_000 },
        members: vec![member("a"), member("b")],
    };
    let groups = space.groups();
    let of = groups.clone();
    stage.cut("group.create", ("/groups/create", 1), async move { of.create(spec).await }).await;
    let group = groups.get(GroupName::new("g").expect("good"));
    let of = group.clone();
    stage.cut("group.start", ("/tasks/start", 2), async move { of.start().await }).await;
    let of = group.clone();
    stage.cut("group.stop", ("/tasks/exit", 2), async move { of.stop().await }).await;
    stage.cut("group.delete", ("/groups/delete", 1), async move { group.delete().await }).await;
    assert!(groups.list().await.expect("lists").is_empty());
    stage.world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pull_is_begun_once_though_the_daemon_died_before_it_answered() {
    let mut stage = Stage::new().await;
    let registry = FaultyRegistry::start().await.expect("listens");
    let image = fixture::layered_image(1, 10_000).expect("an image");
    for (descriptor, bytes) in &image.blobs {
        match media_type::is_manifest(&descriptor.media_type) {
            true => registry.add_manifest("1", &descriptor.media_type, bytes.clone()),
            false => registry.add_blob(&descriptor.media_type, Bytes::from(bytes.clone())),
        };
    }
    let reference: bosun_types::reference::Reference =
        format!("{}/team/app:1", registry.host()).parse().expect("good");
    let request = PullRequest::new(reference.clone(), SNAPSHOTTER_DEFAULT);
    let of = namespace(&stage.client).transfers();
    let pull = async move { of.pull(request).await };
    let transfer = stage.cut("transfer.pull", ("/images/create", 1), pull).await;
    let images = transfer.wait().await.expect("is done");
    assert_eq!(images[0].name, reference.image_name().expect("good"));
    let client = stage.client.clone();
    assert!(client.operations().await.expect("lists").is_empty(), "nothing is left open");
    stage.world.check(&client).await;
}
