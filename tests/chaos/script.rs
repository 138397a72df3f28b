//! The script that reaches every registered step, on a daemon that may fail or die at any of them.
//!
//! Every call may fail; what was acknowledged is remembered and must hold. At the end everything is removed, and nothing may be left.

use std::collections::BTreeMap;

use super::copies::{self, Copies};
use super::deeds;
use bosun_client::{Client, Task};
use bosun_tests::client::{IMAGE, logged, namespace, shell};
use bosun_tests::world::eventually;
use bosun_types::diff::DiffRequest;
use bosun_types::event::{Event, EventRecord};
use bosun_types::group::{
    GroupMember, GroupSpec, GroupStrategy, INTENSITY_DEFAULT, MemberName, MemberRestart,
};
use bosun_types::reference::Reference;
use bosun_types::relaunch::StopRequest;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::spec::SpecRequest;
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExecProcess, ExecRequest, ProcessStatus};
use bosun_types::transfer::{ObjectRequest, PullRequest, PushRequest};
use bosun_types::user_namespace::{Ownership, UserNamespace};
use bosun_types::{
    ContainerId, Error, ErrorClass, ExecId, GroupName, ImageName, Labels, Result, SnapshotKey,
};

/// Lives until it is asked to end.
const LIFE: &str = "trap 'exit 3' TERM; echo alive; while :; do sleep 0.01; done";

/// What must hold after recovery.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// The container exists.
    pub container: bool,
    /// The image exists.
    pub image: bool,
    /// The exit code was seen.
    pub exit: Option<u32>,
    /// What needs CRIU; `None`: that was not played.
    pub copies: Option<Copies>,
}

/// Label of blobs that the script makes and removes.
const MADE_HERE: &str = "bosun.test/made-here";

fn container_id() -> ContainerId {
    ContainerId::new("life").expect("good")
}

fn group_name() -> GroupName {
    GroupName::new("pair").expect("good")
}

fn rubbish() -> SnapshotKey {
    SnapshotKey::new("rubbish").expect("good")
}

fn key() -> SnapshotKey {
    SnapshotKey::new("loose").expect("good")
}

/// Once through everything. A call that fails ends its own thread of the story, not the others.
pub async fn play(client: &Client, reference: &Reference, with_copies: bool) -> Acknowledged {
    let mut told = Acknowledged::default();
    if with_copies {
        let _ = copies::play(client, told.copies.insert(Copies::default())).await;
    }
    let snapshots = namespace(client).default_snapshots();
    // Whatever the answers are, it is removed, or on its way out.
    let _ = snapshots.prepare(key(), None, Labels::new()).await;
    let _ = layers(client).await;
    let _ = snapshots.remove(key()).await;
    make_rubbish(client).await;
    let _ = client.collect_garbage(false).await;
    let request = PullRequest::new(reference.clone(), SNAPSHOTTER_DEFAULT);
    if let Ok(transfer) = namespace(client).transfers().pull(request).await {
        told.image = transfer.wait().await.is_ok();
    }
    let _ = give_and_take(client, reference).await;
    let _ = life(client, &mut told).await;
    let _ = mapped(client).await;
    told
}

/// A snapshot's changes (none) as a layer, and the layer applied to the snapshot.
async fn layers(client: &Client) -> Result<()> {
    let snapshots = namespace(client).default_snapshots();
    let labels = Labels::from([(MADE_HERE.to_owned(), "yes".to_owned())]);
    let request = DiffRequest { labels, ..DiffRequest::of(key()) };
    let made = snapshots.diff(request).await?;
    snapshots.apply(key(), made.layer).await.map(drop)
}

/// A container for whose users the image's files are copied.
async fn mapped(client: &Client) -> Result<()> {
    let mut request = shell("mapped", "true");
    if let SpecRequest::Build(options) = &mut request.spec {
        let uids = vec!["0:100000:65536".parse()?];
        options.user_namespace = Some(UserNamespace { uids, gids: Vec::new(), ownership: Ownership::Copy });
    }
    namespace(client).containers().create(request).await?;
    namespace(client).container(ContainerId::new("mapped")?).delete(true).await
}

/// The copies that it leaves for the next.
async fn remove_copies(client: &Client) -> bool {
    let snapshots = namespace(client).default_snapshots();
    let Ok(mut all) = snapshots.list().await else { return false };
    // Those that stand on others first.
    all.retain(|it| it.key.as_str().ends_with("-100000-100000"));
    all.sort_by_key(|it| std::cmp::Reverse(it.directory));
    for copy in all {
        if !gone(snapshots.remove(copy.key).await) {
            return false;
        }
    }
    true
}

/// The image that every world has goes to the registry, as a whole and in one object, and an object comes back.
async fn give_and_take(client: &Client, reference: &Reference) -> Result<()> {
    let transfers = namespace(client).transfers();
    let image = ImageName::new(IMAGE)?;
    let reference = Reference { tag: Some("pushed".to_owned()), ..reference.clone() };
    let request = PushRequest { image: Some(image.clone()), ..PushRequest::new(reference.clone()) };
    let pushed = transfers.push(request).await?.wait().await;
    let target = namespace(client).images().get(image).await?.target;
    let request =
        ObjectRequest { reference, digest: target.digest, media_type: target.media_type, plain_http: false };
    let sent = transfers.push_object(request.clone()).await?.wait().await;
    transfers.fetch_object(request).await?.wait().await?;
    pushed.and(sent).map(drop)
}

/// A blob and a snapshot that nothing refers to.
async fn make_rubbish(client: &Client) {
    let _ = namespace(client).default_snapshots().prepare(rubbish(), None, Labels::new()).await;
    if let Ok(mut writer) = namespace(client).content().writer("rubbish".to_owned(), 0, None).await {
        let _ = writer.write(bytes::Bytes::from_static(b"rubbish")).await;
        let _ = writer.commit(0, None, Labels::new()).await;
    }
}

async fn life(client: &Client, told: &mut Acknowledged) -> Result<()> {
    let containers = namespace(client).containers();
    containers.create(shell("life", LIFE)).await?;
    told.container = true;
    let container = containers.get(container_id());
    let task = container.create_task(logged()).await?;
    task.start().await?;
    deeds::all(&task).await?;
    frozen(client, &task).await?;
    task.kill(15, false).await?;
    told.exit = Some(task.wait().await?.code());
    // Once more, by the operation that makes the new task in the place of the old.
    container.start().await?;
    deeds::all(&task).await?;
    frozen(client, &task).await?;
    task.kill(15, false).await?;
    told.exit = Some(task.wait().await?.code());
    grouped(client).await?;
    task.delete().await?;
    // From here on it may be gone, whatever the answer is.
    let gone = container.delete(true).await;
    told.container = false;
    gone
}

/// And once more, as the member of a group.
async fn grouped(client: &Client) -> Result<()> {
    let member = GroupMember {
        name: MemberName::Container(container_id()),
        restart: MemberRestart::Permanent,
        shutdown_ms: 5000,
    };
    let groups = namespace(client).groups();
    let (strategy, intensity) = (GroupStrategy::OneForAll, INTENSITY_DEFAULT);
    groups.create(GroupSpec { name: group_name(), strategy, intensity, members: vec![member] }).await?;
    let group = groups.get(group_name());
    group.start().await?;
    assert_eq!(group.info().await?.members, ["running"], "a group that is up has its members");
    group.stop().await?;
    group.delete().await
}

/// What it wrote becomes a layer while it is frozen; it goes on afterwards, also when that fails.
async fn frozen(client: &Client, task: &Task) -> Result<()> {
    let own = SnapshotKey::new(task.container().as_str())?;
    let freeze = Some(task.container().clone());
    let request = DiffRequest { freeze, ..DiffRequest::of(own) };
    let made = namespace(client).default_snapshots().diff(request).await;
    assert!(task.status().await? != ProcessStatus::Paused, "it goes on");
    made.map(drop)
}

/// An exec that runs a shell command.
pub fn exec(name: &str, command: &str) -> ExecRequest {
    ExecRequest {
        id: ExecId::new(name).expect("good"),
        process: ExecProcess::Inherit {
            args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
            env: Vec::new(),
            cwd: None,
            user: None,
        },
        stdio: Stdio::default(),
    }
}

/// I4: every start has one exit, and nothing ends more often than it was made.
pub fn one_exit_each(told: &[EventRecord]) {
    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for record in told {
        let (id, what) = match &record.event {
            Event::TaskCreate { container_id, .. } => (container_id.to_string(), 0),
            Event::TaskExecAdded { exec_id, .. } => (exec_id.to_string(), 0),
            Event::TaskStart { container_id, .. } => (container_id.to_string(), 1),
            Event::TaskExecStarted { exec_id, .. } => (exec_id.to_string(), 1),
            Event::TaskExit { id, .. } => (id.clone(), 2),
            _ => continue,
        };
        counts.entry(id).or_default()[what] += 1;
    }
    for (id, [made, started, ended]) in counts {
        assert!(started <= ended && ended <= made, "{id}: made {made}, started {started}, ended {ended}");
    }
}

/// What was acknowledged is there; what is there is whole.
pub async fn verify(client: &Client, told: &Acknowledged, reference: &Reference) {
    if let Some(code) = told.exit {
        assert_eq!(code, 3, "the true exit code");
    }
    if let Some(told) = &told.copies {
        copies::verify(client, told).await;
    }
    if told.container {
        namespace(client)
            .container(container_id())
            .record()
            .await
            .expect("an acknowledged container is there");
    }
    if told.image {
        let name = reference.image_name().expect("good");
        namespace(client).images().get(name).await.expect("an acknowledged image is there");
    }
}

/// Removes whatever is there, trying again while the daemon is busy with it.
pub async fn remove_all(client: &Client) {
    let content = namespace(client).content();
    for blob in content.list().await.expect("lists") {
        if blob.labels.contains_key(MADE_HERE) {
            content.delete(blob.digest).await.expect("deletes");
        }
    }
    let mapped = namespace(client).container(ContainerId::new("mapped").expect("good"));
    eventually("everything to be removable", || async {
        let group = namespace(client).groups().get(group_name());
        let _ = group.stop().await;
        let mut all_gone = gone(group.delete().await);
        for id in std::iter::once("life").chain(copies::CONTAINERS) {
            let container = namespace(client).container(ContainerId::new(id).expect("good"));
            let task = container.task();
            // What is frozen does not die.
            let _ = task.resume().await;
            let _ = container.stop(StopRequest { signal: None, timeout_ms: Some(0) }).await;
            all_gone &= gone(task.delete().await.map(drop)) && gone(container.delete(true).await);
        }
        all_gone
            && gone(namespace(client).images().delete(copies::image()).await)
            && gone(namespace(client).default_snapshots().remove(key()).await)
            && gone(mapped.delete(true).await)
            && remove_copies(client).await
            && gone(namespace(client).default_snapshots().remove(rubbish()).await)
    })
    .await;
}

fn gone(result: Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(Error { class, .. }) => class == ErrorClass::NotFound,
    }
}
