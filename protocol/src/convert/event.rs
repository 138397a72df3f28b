//! `event.capnp`: every topic in one flat struct, and what a subscriber asks and gets.

use bosun_types::container::Any;
use bosun_types::event::{CursorRecord, Event, EventDelivery, EventFilter, EventRecord, EventStart};
use bosun_types::stdio::Stdio;
use bosun_types::task::ExitStatus;
use bosun_types::{NamespaceName, Result, Timestamp};

use super::{
    Sound, Wire, length, pair_count, read_optional_parsed, read_pairs, read_parsed, read_text, read_texts,
    write_pairs, write_texts,
};
use crate::event_capnp as wire;

/// Type URL of the payload under which an event of a topic unknown here is kept.
const TYPE_UNKNOWN: &str = "bosun/unknown-topic";

impl Wire for EventRecord {
    type Struct = wire::event_record::Owned;

    fn write(&self, mut to: wire::event_record::Builder<'_>) {
        to.set_sequence(self.sequence);
        to.set_at(self.at.0);
        to.set_namespace(self.namespace.as_str());
        to.set_topic(self.event.topic());
        write_event(&self.event, to);
    }

    fn read(from: wire::event_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            sequence: from.get_sequence(),
            at: Timestamp(from.get_at()),
            namespace: read_parsed(from.get_namespace())?,
            event: read_event(from)?,
        })
    }
}

fn write_event(event: &Event, mut to: wire::event_record::Builder<'_>) {
    match event {
        Event::NamespaceCreate { labels, .. } | Event::NamespaceUpdate { labels, .. } => {
            write_pairs(labels, to.reborrow().init_labels(pair_count(labels)));
        }
        // The record's own namespace is the subject.
        Event::NamespaceDelete { .. } => {}
        Event::ContainerCreate { .. }
        | Event::ContainerUpdate { .. }
        | Event::ContainerDelete { .. }
        | Event::ContainerRelaunched { .. }
        | Event::ContainerGivenUp { .. } => write_container_event(event, to),
        Event::ContentCreate { digest, size } => {
            to.set_digest(digest.to_string().as_str());
            to.set_size(*size);
        }
        Event::ContentDelete { digest } => to.set_digest(digest.to_string().as_str()),
        Event::ImageCreate { name, labels } | Event::ImageUpdate { name, labels } => {
            to.set_image(name.as_str());
            write_pairs(labels, to.init_labels(pair_count(labels)));
        }
        Event::ImageDelete { name } => to.set_image(name.as_str()),
        Event::SnapshotPrepare { snapshotter, key, parent } => {
            to.set_snapshotter(snapshotter.as_str());
            to.set_key(key.as_str());
            if let Some(parent) = parent {
                to.set_parent(parent.as_str());
            }
        }
        Event::SnapshotCommit { snapshotter, key, name } => {
            to.set_snapshotter(snapshotter.as_str());
            to.set_key(key.as_str());
            to.set_committed(name.as_str());
        }
        Event::SnapshotRemove { snapshotter, key } => {
            to.set_snapshotter(snapshotter.as_str());
            to.set_key(key.as_str());
        }
        Event::Custom { payload, .. } => payload.write(to.init_payload()),
        Event::Forwarded { payload, published_at, .. } => {
            to.set_published_at(published_at.0);
            payload.write(to.init_payload());
        }
        Event::GroupCreate { name }
        | Event::GroupDelete { name }
        | Event::GroupUp { name }
        | Event::GroupStopped { name } => to.set_group(name.as_str()),
        Event::GroupRestarting { name, cause } | Event::GroupFailed { name, cause } => {
            to.set_group(name.as_str());
            to.set_cause(cause.as_str());
        }
        _ => write_task_event(event, to),
    }
}

fn write_container_event(event: &Event, mut to: wire::event_record::Builder<'_>) {
    match event {
        Event::ContainerCreate { id, image, runtime } => {
            to.set_container(id.as_str());
            if let Some(image) = image {
                to.set_image(image.as_str());
            }
            to.set_runtime(runtime.as_str());
        }
        Event::ContainerUpdate { id, image, labels, snapshot_key } => {
            to.set_container(id.as_str());
            if let Some(image) = image {
                to.set_image(image.as_str());
            }
            write_pairs(labels, to.reborrow().init_labels(pair_count(labels)));
            if let Some(key) = snapshot_key {
                to.set_key(key.as_str());
            }
        }
        Event::ContainerDelete { id } => to.set_container(id.as_str()),
        Event::ContainerRelaunched { id, pid, count } => {
            to.set_container(id.as_str());
            to.set_pid(*pid);
            to.set_count(*count);
        }
        Event::ContainerGivenUp { id, count, cause } => {
            to.set_container(id.as_str());
            to.set_count(*count);
            to.set_cause(cause.as_str());
        }
        _ => {}
    }
}

fn write_task_event(event: &Event, mut to: wire::event_record::Builder<'_>) {
    match event {
        Event::TaskCreate { container_id, bundle, pid, io } => {
            to.set_container(container_id.as_str());
            to.set_bundle(bundle.as_str());
            to.set_pid(*pid);
            io.write(to.init_stdio());
        }
        Event::TaskStart { container_id, pid } => {
            to.set_container(container_id.as_str());
            to.set_pid(*pid);
        }
        Event::TaskExit { container_id, id, pid, exit } => {
            to.set_container(container_id.as_str());
            to.set_process(id.as_str());
            to.set_pid(*pid);
            exit.write(to.init_exit());
        }
        Event::TaskDelete { container_id, pid, exit } => {
            to.set_container(container_id.as_str());
            to.set_pid(*pid);
            if let Some(exit) = exit {
                exit.write(to.init_exit());
            }
        }
        Event::TaskExecAdded { container_id, exec_id } => {
            to.set_container(container_id.as_str());
            to.set_process(exec_id.as_str());
        }
        Event::TaskExecStarted { container_id, exec_id, pid } => {
            to.set_container(container_id.as_str());
            to.set_process(exec_id.as_str());
            to.set_pid(*pid);
        }
        Event::TaskCheckpointed { container_id, checkpoint } => {
            to.set_container(container_id.as_str());
            to.set_checkpoint(checkpoint.as_str());
        }
        Event::TaskOom { container_id }
        | Event::TaskPaused { container_id }
        | Event::TaskResumed { container_id } => to.set_container(container_id.as_str()),
        _ => {}
    }
}

fn read_event(from: wire::event_record::Reader<'_>) -> Result<Event> {
    let topic = read_text(from.get_topic())?;
    // A client may use a topic of the daemon's: its payload says that it was one.
    if from.has_payload() {
        return read_custom(topic, from);
    }
    Ok(match topic.as_str() {
        "/namespaces/create" => Event::NamespaceCreate {
            name: read_parsed(from.get_namespace())?,
            labels: read_pairs(from.get_labels())?,
        },
        "/namespaces/update" => Event::NamespaceUpdate {
            name: read_parsed(from.get_namespace())?,
            labels: read_pairs(from.get_labels())?,
        },
        "/namespaces/delete" => Event::NamespaceDelete { name: read_parsed(from.get_namespace())? },
        "/containers/create" => Event::ContainerCreate {
            id: read_parsed(from.get_container())?,
            image: read_optional_parsed(from.has_image(), from.get_image())?,
            runtime: read_text(from.get_runtime())?,
        },
        "/containers/update" => Event::ContainerUpdate {
            id: read_parsed(from.get_container())?,
            image: read_optional_parsed(from.has_image(), from.get_image())?,
            labels: read_pairs(from.get_labels())?,
            snapshot_key: read_optional_parsed(from.has_key(), from.get_key())?,
        },
        "/containers/delete" => Event::ContainerDelete { id: read_parsed(from.get_container())? },
        "/containers/relaunched" => Event::ContainerRelaunched {
            id: read_parsed(from.get_container())?,
            pid: from.get_pid(),
            count: from.get_count(),
        },
        "/containers/given-up" => Event::ContainerGivenUp {
            id: read_parsed(from.get_container())?,
            count: from.get_count(),
            cause: read_text(from.get_cause())?,
        },
        "/content/create" => {
            Event::ContentCreate { digest: read_parsed(from.get_digest())?, size: from.get_size() }
        }
        "/content/delete" => Event::ContentDelete { digest: read_parsed(from.get_digest())? },
        "/images/create" => Event::ImageCreate {
            name: read_parsed(from.get_image())?,
            labels: read_pairs(from.get_labels())?,
        },
        "/images/update" => Event::ImageUpdate {
            name: read_parsed(from.get_image())?,
            labels: read_pairs(from.get_labels())?,
        },
        "/images/delete" => Event::ImageDelete { name: read_parsed(from.get_image())? },
        "/snapshot/prepare" => Event::SnapshotPrepare {
            snapshotter: read_text(from.get_snapshotter())?,
            key: read_parsed(from.get_key())?,
            parent: read_optional_parsed(from.has_parent(), from.get_parent())?,
        },
        "/snapshot/commit" => Event::SnapshotCommit {
            snapshotter: read_text(from.get_snapshotter())?,
            key: read_parsed(from.get_key())?,
            name: read_parsed(from.get_committed())?,
        },
        "/snapshot/remove" => Event::SnapshotRemove {
            snapshotter: read_text(from.get_snapshotter())?,
            key: read_parsed(from.get_key())?,
        },
        _ => match read_group_event(&topic, from)? {
            Some(event) => event,
            None => match read_task_event(&topic, from)? {
                Some(event) => event,
                None => read_custom(topic, from)?,
            },
        },
    })
}

fn read_group_event(topic: &str, from: wire::event_record::Reader<'_>) -> Result<Option<Event>> {
    if !topic.starts_with("/groups/") || !from.has_group() {
        return Ok(None);
    }
    let name = read_parsed(from.get_group())?;
    Ok(Some(match topic {
        "/groups/create" => Event::GroupCreate { name },
        "/groups/delete" => Event::GroupDelete { name },
        "/groups/up" => Event::GroupUp { name },
        "/groups/restarting" => Event::GroupRestarting { name, cause: read_text(from.get_cause())? },
        "/groups/stopped" => Event::GroupStopped { name },
        "/groups/failed" => Event::GroupFailed { name, cause: read_text(from.get_cause())? },
        _ => return Ok(None),
    }))
}

fn read_task_event(topic: &str, from: wire::event_record::Reader<'_>) -> Result<Option<Event>> {
    if !topic.starts_with("/tasks/") || !from.has_container() {
        return Ok(None);
    }
    let container_id = read_parsed(from.get_container())?;
    let pid = from.get_pid();
    let exit = || from.get_exit().sound().and_then(ExitStatus::read);
    Ok(Some(match topic {
        "/tasks/create" => {
            let io = from.get_stdio().sound().and_then(Stdio::read)?;
            Event::TaskCreate { container_id, bundle: read_text(from.get_bundle())?, pid, io }
        }
        "/tasks/start" => Event::TaskStart { container_id, pid },
        "/tasks/oom" => Event::TaskOom { container_id },
        "/tasks/exit" => {
            Event::TaskExit { container_id, id: read_text(from.get_process())?, pid, exit: exit()? }
        }
        "/tasks/delete" => {
            let exit = if from.has_exit() { Some(exit()?) } else { None };
            Event::TaskDelete { container_id, pid, exit }
        }
        "/tasks/exec-added" => {
            Event::TaskExecAdded { container_id, exec_id: read_parsed(from.get_process())? }
        }
        "/tasks/exec-started" => {
            Event::TaskExecStarted { container_id, exec_id: read_parsed(from.get_process())?, pid }
        }
        "/tasks/paused" => Event::TaskPaused { container_id },
        "/tasks/resumed" => Event::TaskResumed { container_id },
        "/tasks/checkpointed" => {
            Event::TaskCheckpointed { container_id, checkpoint: read_text(from.get_checkpoint())? }
        }
        _ => return Ok(None),
    }))
}

/// A client's own topic, or one of a newer daemon: kept, so that a subscriber loses nothing.
fn read_custom(topic: String, from: wire::event_record::Reader<'_>) -> Result<Event> {
    let payload = if from.has_payload() {
        Any::read(from.get_payload().sound()?)?
    } else {
        Any { type_url: TYPE_UNKNOWN.to_owned(), value: Vec::new() }
    };
    Ok(match from.get_published_at() {
        0 => Event::Custom { topic, payload },
        at => Event::Forwarded { topic, payload, published_at: Timestamp(at) },
    })
}

impl Wire for EventStart {
    type Struct = wire::event_start::Owned;

    fn write(&self, mut to: wire::event_start::Builder<'_>) {
        match self {
            Self::Now => to.set_now(()),
            Self::Sequence(sequence) => to.set_sequence(*sequence),
            Self::Time(time) => to.set_time(time.0),
        }
    }

    fn read(from: wire::event_start::Reader<'_>) -> Result<Self> {
        use wire::event_start::Which;
        Ok(match from.which().sound()? {
            Which::Now(()) => Self::Now,
            Which::Sequence(sequence) => Self::Sequence(sequence),
            Which::Time(time) => Self::Time(Timestamp(time)),
        })
    }
}

impl Wire for EventDelivery {
    type Struct = wire::event_delivery::Owned;

    fn write(&self, to: wire::event_delivery::Builder<'_>) {
        match self {
            Self::Event(record) => record.write(to.init_event()),
            Self::Missed { from, to: last } => {
                let mut missed = to.init_missed();
                missed.set_first(*from);
                missed.set_last(*last);
            }
        }
    }

    fn read(from: wire::event_delivery::Reader<'_>) -> Result<Self> {
        use wire::event_delivery::Which;
        Ok(match from.which().sound()? {
            Which::Event(record) => Self::Event(EventRecord::read(record.sound()?)?),
            Which::Missed(missed) => {
                let missed = missed.sound()?;
                Self::Missed { from: missed.get_first(), to: missed.get_last() }
            }
        })
    }
}

impl Wire for CursorRecord {
    type Struct = wire::cursor_record::Owned;

    fn write(&self, mut to: wire::cursor_record::Builder<'_>) {
        if let Some(namespace) = &self.namespace {
            to.set_namespace(namespace.as_str());
        }
        to.set_id(self.id.as_str());
        to.set_position(self.position);
        to.set_created_at(self.created_at.0);
        to.set_updated_at(self.updated_at.0);
    }

    fn read(from: wire::cursor_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            namespace: read_optional_parsed(from.has_namespace(), from.get_namespace())?,
            id: read_parsed(from.get_id())?,
            position: from.get_position(),
            created_at: Timestamp(from.get_created_at()),
            updated_at: Timestamp(from.get_updated_at()),
        })
    }
}

impl Wire for EventFilter {
    type Struct = wire::event_filter::Owned;

    fn write(&self, mut to: wire::event_filter::Builder<'_>) {
        if let Some(namespaces) = &self.namespaces {
            let names: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
            write_texts(&names, to.reborrow().init_namespaces(length(&names)));
        }
        write_texts(&self.topics, to.reborrow().init_topics(length(&self.topics)));
        write_texts(&self.filters, to.init_filters(length(&self.filters)));
    }

    fn read(from: wire::event_filter::Reader<'_>) -> Result<Self> {
        let namespaces = if from.has_namespaces() {
            let names = read_texts(from.get_namespaces())?;
            Some(names.into_iter().map(NamespaceName::new).collect::<Result<_>>()?)
        } else {
            None
        };
        Ok(Self {
            namespaces,
            topics: read_texts(from.get_topics())?,
            filters: read_texts(from.get_filters())?,
        })
    }
}
