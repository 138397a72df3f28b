//! Events: durable, sequenced facts (EVT-*). Every topic of row EVT-5 is a variant here.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::container::Any;
use crate::stdio::Stdio;
use crate::task::ExitStatus;
use crate::{
    ContainerId, CursorId, Digest, Error, ExecId, GroupName, ImageName, Labels, NamespaceName, Result,
    SnapshotKey, Timestamp,
};

/// Position in the event log: dense, starting at 1, monotone over restarts (I5).
pub type EventSequence = u64;

/// A stored event (EVT-2).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its position.
    pub sequence: EventSequence,
    /// When it was published; never before the event before it, even if the clock was set back.
    pub at: Timestamp,
    /// Its namespace.
    pub namespace: NamespaceName,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. The payloads are those of EVT-6, CTR-9, IMG-6, SNP-23, NS-7.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(tag = "topic", content = "payload")]
pub enum Event {
    #[serde(rename = "/namespaces/create")]
    NamespaceCreate { name: NamespaceName, labels: Labels },
    #[serde(rename = "/namespaces/update")]
    NamespaceUpdate { name: NamespaceName, labels: Labels },
    #[serde(rename = "/namespaces/delete")]
    NamespaceDelete { name: NamespaceName },
    #[serde(rename = "/containers/create")]
    ContainerCreate { id: ContainerId, image: Option<ImageName>, runtime: String },
    #[serde(rename = "/containers/update")]
    ContainerUpdate {
        id: ContainerId,
        image: Option<ImageName>,
        labels: Labels,
        snapshot_key: Option<SnapshotKey>,
    },
    #[serde(rename = "/containers/delete")]
    ContainerDelete { id: ContainerId },
    #[serde(rename = "/content/create")]
    ContentCreate { digest: Digest, size: u64 },
    #[serde(rename = "/content/delete")]
    ContentDelete { digest: Digest },
    #[serde(rename = "/images/create")]
    ImageCreate { name: ImageName, labels: Labels },
    #[serde(rename = "/images/update")]
    ImageUpdate { name: ImageName, labels: Labels },
    #[serde(rename = "/images/delete")]
    ImageDelete { name: ImageName },
    #[serde(rename = "/snapshot/prepare")]
    SnapshotPrepare { snapshotter: String, key: SnapshotKey, parent: Option<SnapshotKey> },
    #[serde(rename = "/snapshot/commit")]
    SnapshotCommit { snapshotter: String, key: SnapshotKey, name: SnapshotKey },
    #[serde(rename = "/snapshot/remove")]
    SnapshotRemove { snapshotter: String, key: SnapshotKey },
    #[serde(rename = "/tasks/create")]
    TaskCreate { container_id: ContainerId, bundle: String, pid: u32, io: Stdio },
    #[serde(rename = "/tasks/start")]
    TaskStart { container_id: ContainerId, pid: u32 },
    #[serde(rename = "/tasks/oom")]
    TaskOom { container_id: ContainerId },
    /// `id` is the container's id for init, else the exec's.
    #[serde(rename = "/tasks/exit")]
    TaskExit { container_id: ContainerId, id: String, pid: u32, exit: ExitStatus },
    #[serde(rename = "/tasks/delete")]
    TaskDelete { container_id: ContainerId, pid: u32, exit: Option<ExitStatus> },
    #[serde(rename = "/tasks/exec-added")]
    TaskExecAdded { container_id: ContainerId, exec_id: ExecId },
    #[serde(rename = "/tasks/exec-started")]
    TaskExecStarted { container_id: ContainerId, exec_id: ExecId, pid: u32 },
    #[serde(rename = "/tasks/paused")]
    TaskPaused { container_id: ContainerId },
    #[serde(rename = "/tasks/resumed")]
    TaskResumed { container_id: ContainerId },
    #[serde(rename = "/tasks/checkpointed")]
    TaskCheckpointed { container_id: ContainerId, checkpoint: String },
    /// Published by a client (EVT-1).
    #[serde(rename = "custom")]
    Custom { topic: String, payload: Any },
    /// Its policy, or a person, started it again; `count`: relaunches by the policy since a person started it last.
    #[serde(rename = "/containers/relaunched")]
    ContainerRelaunched { id: ContainerId, pid: u32, count: u32 },
    /// Its policy starts it no more.
    #[serde(rename = "/containers/given-up")]
    ContainerGivenUp { id: ContainerId, count: u32, cause: String },
    /// Published elsewhere, at this time, and passed on by a client (EVT-1, EVT-4). The record's own time is that of its coming, so that times grow
    /// with positions.
    #[serde(rename = "forwarded")]
    Forwarded { topic: String, payload: Any, published_at: Timestamp },
    #[serde(rename = "/groups/create")]
    GroupCreate { name: GroupName },
    #[serde(rename = "/groups/delete")]
    GroupDelete { name: GroupName },
    /// Every member was started.
    #[serde(rename = "/groups/up")]
    GroupUp { name: GroupName },
    /// A member's end has members started again; the cause names them.
    #[serde(rename = "/groups/restarting")]
    GroupRestarting { name: GroupName, cause: String },
    /// By a person.
    #[serde(rename = "/groups/stopped")]
    GroupStopped { name: GroupName },
    /// Over its intensity: stopped until a person starts it.
    #[serde(rename = "/groups/failed")]
    GroupFailed { name: GroupName, cause: String },
}

impl Event {
    /// The topic as clients know it.
    pub fn topic(&self) -> &str {
        match self {
            Self::NamespaceCreate { .. } => "/namespaces/create",
            Self::NamespaceUpdate { .. } => "/namespaces/update",
            Self::NamespaceDelete { .. } => "/namespaces/delete",
            Self::ContainerCreate { .. } => "/containers/create",
            Self::ContainerUpdate { .. } => "/containers/update",
            Self::ContainerDelete { .. } => "/containers/delete",
            Self::ContentCreate { .. } => "/content/create",
            Self::ContentDelete { .. } => "/content/delete",
            Self::ImageCreate { .. } => "/images/create",
            Self::ImageUpdate { .. } => "/images/update",
            Self::ImageDelete { .. } => "/images/delete",
            Self::SnapshotPrepare { .. } => "/snapshot/prepare",
            Self::SnapshotCommit { .. } => "/snapshot/commit",
            Self::SnapshotRemove { .. } => "/snapshot/remove",
            Self::TaskCreate { .. } => "/tasks/create",
            Self::TaskStart { .. } => "/tasks/start",
            Self::TaskOom { .. } => "/tasks/oom",
            Self::TaskExit { .. } => "/tasks/exit",
            Self::TaskDelete { .. } => "/tasks/delete",
            Self::TaskExecAdded { .. } => "/tasks/exec-added",
            Self::TaskExecStarted { .. } => "/tasks/exec-started",
            Self::TaskPaused { .. } => "/tasks/paused",
            Self::TaskResumed { .. } => "/tasks/resumed",
            Self::TaskCheckpointed { .. } => "/tasks/checkpointed",
            Self::ContainerRelaunched { .. } => "/containers/relaunched",
            Self::ContainerGivenUp { .. } => "/containers/given-up",
            Self::Custom { topic, .. } | Self::Forwarded { topic, .. } => topic,
            Self::GroupCreate { .. } => "/groups/create",
            Self::GroupDelete { .. } => "/groups/delete",
            Self::GroupUp { .. } => "/groups/up",
            Self::GroupRestarting { .. } => "/groups/restarting",
            Self::GroupStopped { .. } => "/groups/stopped",
            Self::GroupFailed { .. } => "/groups/failed",
        }
    }
}

/// EVT-3: `/` and at least one component, each by ID-1.
pub fn validate_topic(topic: &str) -> Result<()> {
    let rest = topic
        .strip_prefix('/')
        .ok_or_else(|| Error::invalid_argument(format!("topic {topic:?} does not start with '/'")))?;
    rest.split('/').try_for_each(|part| {
        ExecId::new(part).map(drop).map_err(|error| error.context(format!("topic {topic:?}")))
    })
}

/// What the daemon's own topics begin with.
const OWN_TOPICS: &[&str] =
    &["/namespaces/", "/containers/", "/content/", "/images/", "/snapshot/", "/tasks/"];

/// A topic that a client may publish under (EVT-3): well formed, and none of those whose events have fields of their own, which readers rely on.
///
/// # Errors
/// InvalidArgument.
pub fn validate_custom_topic(topic: &str) -> Result<()> {
    validate_topic(topic)?;
    match OWN_TOPICS.iter().find(|own| topic.starts_with(**own)) {
        None => Ok(()),
        Some(own) => Err(Error::invalid_argument(format!("topic {topic:?}: {own} is the daemon's own"))
            .with_hint("publish under a first word of your own, such as /mine/…")),
    }
}

/// Largest payload of an event that a client publishes, in bytes with its type.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 10;

/// EVT-3: what a client may publish.
///
/// # Errors
/// InvalidArgument.
pub fn validate_published(topic: &str, payload: &Any) -> Result<()> {
    validate_custom_topic(topic)?;
    validate_payload(topic, payload)
}

/// EVT-4: what a client may pass on: also what another daemon says about its own things. It is delivered as forwarded, so that nobody takes it for this daemon's.
///
/// # Errors
/// InvalidArgument.
pub fn validate_forwarded(topic: &str, payload: &Any, published_at: Timestamp) -> Result<()> {
    validate_topic(topic)?;
    validate_payload(topic, payload)?;
    if published_at.0 == 0 {
        return Err(Error::invalid_argument(format!("topic {topic:?}: the event has no time"))
            .with_hint("pass on the time at which it was published, in nanoseconds since 1970"));
    }
    Ok(())
}

fn validate_payload(topic: &str, payload: &Any) -> Result<()> {
    let bytes = payload.type_url.len() + payload.value.len();
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(Error::invalid_argument(format!(
            "topic {topic:?}: the payload has {bytes} bytes, at most {PAYLOAD_BYTES_MAX} are allowed"
        ))
        .with_hint("store the bytes as content and publish their digest"));
    }
    Ok(())
}

/// A named place in the event log, kept for a subscriber between its lives and the daemon's.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct CursorRecord {
    /// Reads this namespace's events alone; `None`: those of all.
    pub namespace: Option<NamespaceName>,
    /// Its id, unique in its namespace, or among those of all.
    pub id: CursorId,
    /// Everything up to here is acknowledged; the next subscription begins behind it.
    pub position: EventSequence,
    /// Set by the daemon.
    pub created_at: Timestamp,
    /// When it was last acknowledged.
    pub updated_at: Timestamp,
}

/// Which events are wanted: all three must agree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of these namespaces; `None`: every one that is reached.
    pub namespaces: Option<Vec<NamespaceName>>,
    /// Whose topic starts with one of these; none: every topic.
    pub topics: Vec<String>,
    /// That one of these matches (EVT-8, FLT-1); none: all.
    pub filters: Vec<String>,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStart {
    /// Only what comes after the subscription.
    Now,
    /// This position first (0 and 1: the oldest kept).
    Sequence(EventSequence),
    /// The first event at or after this time.
    Time(Timestamp),
}

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventDelivery {
    /// The next event.
    Event(EventRecord),
    /// Positions `from..=to` are no longer kept; the stream goes on after them.
    Missed { from: EventSequence, to: EventSequence },
}
