//! Which fields each noun has (CTR-6, IMG-3, CON-6, CON-21, NS-4, EVT-8). A path that a noun does not know is an absent field.

use std::borrow::Cow;

use bosun_types::Labels;
use bosun_types::access::SocketRecord;
use bosun_types::container::ContainerRecord;
use bosun_types::content::{ContentRecord, IngestStatus};
use bosun_types::event::{CursorRecord, Event, EventRecord};
use bosun_types::group::GroupInfo;
use bosun_types::image::ImageRecord;
use bosun_types::lease::{LeaseRecord, LeaseResource};
use bosun_types::namespace::NamespaceRecord;
use bosun_types::operation::{OperationRecord, OperationStatus};
use bosun_types::relaunch::RelaunchInfo;
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord};
use bosun_types::task::{ExitStatus, ProcessInfo};
use bosun_types::transfer::{TransferProgress, TransferState};
use bosun_types::tree::PartRecord;
use serde_json::Value;

/// What a filter looks at.
pub trait Fields {
    /// The value at a path of at least one part; `None` or empty: absent.
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>>;
}

/// FLT-7: the parts are joined again, so that a key's own dots need no quotes.
pub(crate) fn of_labels<'a>(labels: &'a Labels, path: &[String]) -> Option<Cow<'a, str>> {
    labels.get(&path.join(".")).map(|value| Cow::Borrowed(value.as_str()))
}

fn borrowed(text: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text))
}

fn owned<'a>(value: impl ToString) -> Option<Cow<'a, str>> {
    Some(Cow::Owned(value.to_string()))
}

/// Words by name, as the arms below compare them.
fn words(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// `id`, `runtime.name`, `image`, `labels.<key>` (CTR-6), `snapshotter`, `snapshotkey`.
impl Fields for ContainerRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["id"] => borrowed(self.id.as_str()),
            ["image"] => self.image.as_ref().and_then(|image| borrowed(image.as_str())),
            ["runtime", "name"] => borrowed(&self.runtime.name),
            ["snapshotter"] => self.snapshotter.as_deref().and_then(borrowed),
            ["snapshotkey"] => self.snapshot_key.as_ref().and_then(|key| borrowed(key.as_str())),
            ["labels", ..] => of_labels(&self.labels, &path[1..]),
            _ => None,
        }
    }
}

/// `id`, `namespace`, `access`.
impl Fields for SocketRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["id"] => borrowed(self.id.as_str()),
            ["namespace"] => borrowed(self.namespace.as_str()),
            ["access"] => owned(self.access),
            _ => None,
        }
    }
}

/// `name`, `target.digest`, `target.mediatype`, `labels.<key>` (IMG-3).
impl Fields for ImageRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["name"] => borrowed(self.name.as_str()),
            ["target", "digest"] => owned(self.target.digest),
            ["target", "mediatype"] => borrowed(&self.target.media_type),
            ["labels", ..] => of_labels(&self.labels, &path[1..]),
            _ => None,
        }
    }
}

/// `digest`, `labels.<key>`; not the size (CON-6).
impl Fields for ContentRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["digest"] => owned(self.digest),
            ["labels", ..] => of_labels(&self.labels, &path[1..]),
            _ => None,
        }
    }
}

/// `ref` (CON-21).
impl Fields for IngestStatus {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["ref"] => borrowed(&self.reference),
            _ => None,
        }
    }
}

/// `name`, `parent`, `kind`, `labels.<key>`.
impl Fields for SnapshotRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["name"] => borrowed(self.key.as_str()),
            ["parent"] => self.parent.as_ref().and_then(|parent| borrowed(parent.as_str())),
            ["kind"] => borrowed(match self.kind {
                SnapshotKind::View => "view",
                SnapshotKind::Active => "active",
                SnapshotKind::Committed => "committed",
            }),
            ["labels", ..] => of_labels(&self.labels, &path[1..]),
            _ => None,
        }
    }
}

/// `name`, `labels.<key>` (NS-4, whose original ignores filters).
impl Fields for NamespaceRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["name"] => borrowed(self.name.as_str()),
            ["labels", ..] => of_labels(&self.labels, &path[1..]),
            _ => None,
        }
    }
}

/// `container`, `exec`, `pid`, `status`.
impl Fields for ProcessInfo {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["container"] => borrowed(self.container.as_str()),
            ["exec"] => self.exec.as_ref().and_then(|exec| borrowed(exec.as_str())),
            ["pid"] => owned(self.pid),
            ["status"] => owned(self.status),
            _ => None,
        }
    }
}

/// `container`, `policy`, `status` as `ps --json` has it, `stopped`.
impl Fields for RelaunchInfo {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["container"] => borrowed(self.container.as_str()),
            ["policy"] => owned(self.policy.when),
            ["status"] => owned(self.status),
            ["stopped"] => owned(self.stopped),
            _ => None,
        }
    }
}

/// `name`, `strategy`, `status`.
impl Fields for GroupInfo {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["name"] => borrowed(self.spec.name.as_str()),
            ["strategy"] => owned(self.spec.strategy),
            ["status"] => owned(self.status),
            _ => None,
        }
    }
}

/// `id`, `namespace`, `kind`, `state`.
impl Fields for OperationRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["id"] => owned(self.id.0),
            ["namespace"] => borrowed(self.namespace.as_str()),
            ["kind"] => borrowed(self.intent.name()),
            ["state"] => borrowed(match self.status {
                OperationStatus::Forward => "forward",
                OperationStatus::Undoing { .. } => "undoing",
                OperationStatus::Parked { .. } => "parked",
            }),
            _ => None,
        }
    }
}

/// `id`, `subject`, `state`.
impl Fields for TransferProgress {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["id"] => owned(self.id),
            ["subject"] => borrowed(&self.subject),
            ["state"] => borrowed(match self.state {
                TransferState::Running => "running",
                TransferState::Done(_) => "done",
                TransferState::Failed(_) => "failed",
            }),
            _ => None,
        }
    }
}

/// `id`, `labels.<key>` (LSE-3).
impl Fields for LeaseRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["id"] => borrowed(self.id.as_str()),
            ["labels", ..] => of_labels(&self.labels, &path[1..]),
            _ => None,
        }
    }
}

/// `type`, `id` (SYS-10).
impl Fields for PartRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["type"] => borrowed(&self.kind),
            ["id"] => borrowed(&self.id),
            _ => None,
        }
    }
}

/// `kind`, `id`.
impl Fields for LeaseResource {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["kind"] => owned(self.kind()),
            ["id"] => owned(self.id()),
            _ => None,
        }
    }
}

/// `id`, `namespace`.
impl Fields for CursorRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["id"] => borrowed(self.id.as_str()),
            ["namespace"] => self.namespace.as_ref().and_then(|namespace| borrowed(namespace.as_str())),
            _ => None,
        }
    }
}

/// `namespace`, `topic`, `event.<field>` (EVT-8). A field of a payload has the name that `bosun events --json` shows; of an event that a client published it is
/// looked for in its payload, if that is JSON.
impl Fields for EventRecord {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match words(path).as_slice() {
            ["namespace"] => borrowed(self.namespace.as_str()),
            ["topic"] => borrowed(self.event.topic()),
            ["event", _, ..] => of_event(&self.event, &path[1..]),
            _ => None,
        }
    }
}

fn of_event<'a>(event: &'a Event, path: &[String]) -> Option<Cow<'a, str>> {
    match (event, words(path).as_slice()) {
        (Event::TaskExit { exit, .. } | Event::TaskDelete { exit: Some(exit), .. }, [_]) => {
            of_exit(exit, &path[0]).or_else(|| of_payload(event, path))
        }
        (Event::ContainerCreate { runtime, .. }, ["runtime", "name"]) => borrowed(runtime),
        (Event::Custom { payload, .. } | Event::Forwarded { payload, .. }, ["type_url"]) => {
            borrowed(&payload.type_url)
        }
        (Event::Custom { payload, .. } | Event::Forwarded { payload, .. }, _) => {
            walk(&serde_json::from_slice(&payload.value).ok()?, path).map(Cow::Owned)
        }
        _ => of_payload(event, path),
    }
}

/// The names that the original's payloads have (EVT-6).
fn of_exit<'a>(exit: &ExitStatus, name: &str) -> Option<Cow<'a, str>> {
    match name {
        "exit_status" => owned(exit.code()),
        "exited_at" => owned(exit.exited_at),
        _ => None,
    }
}

fn of_payload<'a>(event: &Event, path: &[String]) -> Option<Cow<'a, str>> {
    walk(serde_json::to_value(event).ok()?.get("payload")?, path).map(Cow::Owned)
}

/// A leaf as text. A key may have dots of its own, as in [`of_labels`].
fn walk(value: &Value, path: &[String]) -> Option<String> {
    match (value, path) {
        (Value::String(text), []) => Some(text.clone()),
        (Value::Bool(_) | Value::Number(_), []) => Some(value.to_string()),
        (Value::Object(map), [first, rest @ ..]) => match map.get(&path.join(".")) {
            Some(leaf) => walk(leaf, &[]),
            None => walk(map.get(first)?, rest),
        },
        _ => None,
    }
}
