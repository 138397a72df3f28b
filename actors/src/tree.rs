//! The tree below `namespaces`: how namespaces, containers and tasks are hung into it and taken out.
//!
//! ```text
//! namespaces              dynamic
//! └─ namespace <n>        rest_for_one
//!     ├─ writer           creates and deletes containers
//!     ├─ containers       dynamic
//!     │   └─ <container>  rest_for_one
//!     │       ├─ writer   updates the record, makes the task
//!     │       ├─ relaunch its restart policy, if it has one
//!     │       └─ task     transient
//!     └─ groups           dynamic: an actor a group
//! ```

mod annotate;

use std::sync::Arc;

use bosun_storage::key;
use bosun_types::container::ContainerRecord;
use bosun_types::group::GroupRecord;
use bosun_types::{ContainerId, Error, ErrorClass, GroupName, NamespaceName, Result};
use ractor::ActorRef;

use crate::core::Shared;
use crate::directory::Name;
use crate::supervisor::{
    ChildSpec, Flags, Intensity, RestartType, Strategy, Supervisor, SupervisorMessage, supervisor_spec,
};
use crate::{group, relaunch, task, writer};

pub(crate) use annotate::annotate;

/// Path of the supervisor of all namespaces.
pub(crate) const NAMESPACES: &str = "namespaces";
const TASK: &str = "task";

fn containers_path(namespace: &NamespaceName) -> String {
    format!("{namespace}/containers")
}

fn groups_path(namespace: &NamespaceName) -> String {
    format!("{namespace}/groups")
}

fn container_path(namespace: &NamespaceName, id: &ContainerId) -> String {
    format!("{namespace}/containers/{id}")
}

/// A supervisor that is in the directory under its path, after each restart too.
pub(crate) fn registered(core: &Shared, path: String, spec: ChildSpec) -> ChildSpec {
    let (core, start) = (core.clone(), Arc::clone(&spec.start));
    ChildSpec {
        start: Arc::new(move |parent| {
            let (core, path, started) = (core.clone(), path.clone(), start(parent));
            Box::pin(async move {
                let cell = started.await?;
                core.directory.set(Name::Supervisor(path), cell.clone());
                Ok(cell)
            })
        }),
        ..spec
    }
}

fn supervisor(core: &Shared, path: String) -> Result<Supervisor> {
    let actor: ActorRef<SupervisorMessage> = core.directory.require(&Name::Supervisor(path))?;
    Ok(Supervisor::of(actor))
}

/// The supervisor of all namespaces, with those that there are.
pub(crate) fn namespaces_spec(core: &Shared) -> ChildSpec {
    let flags = Flags {
        strategy: Strategy::OneForOne,
        intensity: Intensity::new(3, 60),
        dynamic: true,
        name: NAMESPACES.to_owned(),
    };
    let shared = core.clone();
    let children = Arc::new(move || match crate::namespaces::list(&shared) {
        Ok(records) => records.iter().map(|record| namespace_spec(&shared, &record.name)).collect(),
        Err(error) => {
            tracing::error!(%error, "the namespaces cannot be read");
            Vec::new()
        }
    });
    registered(core, NAMESPACES.to_owned(), supervisor_spec(flags, children))
}

fn namespace_spec(core: &Shared, namespace: &NamespaceName) -> ChildSpec {
    let flags = Flags {
        strategy: Strategy::RestForOne,
        intensity: Intensity::new(3, 60),
        dynamic: false,
        name: namespace.to_string(),
    };
    let (shared, name) = (core.clone(), namespace.clone());
    let children = Arc::new(move || {
        vec![
            writer::spec(&shared, "writer", Name::Namespace(name.clone())),
            containers_spec(&shared, &name),
            groups_spec(&shared, &name),
        ]
    });
    registered(core, namespace.to_string(), supervisor_spec(flags, children))
}

fn containers_spec(core: &Shared, namespace: &NamespaceName) -> ChildSpec {
    let flags = Flags {
        strategy: Strategy::OneForOne,
        intensity: Intensity::new(5, 30),
        dynamic: true,
        name: "containers".to_owned(),
    };
    let (shared, name) = (core.clone(), namespace.clone());
    let children = Arc::new(move || {
        let records: Vec<ContainerRecord> = shared.store.scan(&key::within(&name)).unwrap_or_else(|error| {
            tracing::error!(%error, namespace = %name, "the containers cannot be read");
            Vec::new()
        });
        records.iter().map(|record| container_spec(&shared, &name, &record.id)).collect()
    });
    registered(core, containers_path(namespace), supervisor_spec(flags, children))
}

/// Behind the containers: a group looks at its members first of all.
fn groups_spec(core: &Shared, namespace: &NamespaceName) -> ChildSpec {
    let flags = Flags {
        strategy: Strategy::OneForOne,
        intensity: Intensity::new(5, 30),
        dynamic: true,
        name: "groups".to_owned(),
    };
    let (shared, name) = (core.clone(), namespace.clone());
    let children = Arc::new(move || {
        let records: Vec<GroupRecord> = shared.store.scan(&key::within(&name)).unwrap_or_else(|error| {
            tracing::error!(%error, namespace = %name, "the groups cannot be read");
            Vec::new()
        });
        records.iter().map(|record| group::spec(&shared, &name, &record.spec.name)).collect()
    });
    registered(core, groups_path(namespace), supervisor_spec(flags, children))
}

/// Hangs a group in.
pub(crate) async fn start_group(core: &Shared, namespace: &NamespaceName, name: &GroupName) -> Result<()> {
    supervisor(core, groups_path(namespace))?.start_child(group::spec(core, namespace, name)).await.map(drop)
}

/// Takes a group out.
pub(crate) async fn stop_group(core: &Shared, namespace: &NamespaceName, name: &GroupName) -> Result<()> {
    supervisor(core, groups_path(namespace))?.remove_child(name.as_str()).await?;
    core.directory.remove(&Name::Group(namespace.clone(), name.clone()));
    Ok(())
}

fn container_spec(core: &Shared, namespace: &NamespaceName, id: &ContainerId) -> ChildSpec {
    let flags = Flags {
        strategy: Strategy::RestForOne,
        intensity: Intensity::new(5, 30),
        dynamic: false,
        name: id.to_string(),
    };
    let (shared, name, container) = (core.clone(), namespace.clone(), id.clone());
    let children = Arc::new(move || {
        let mut children =
            vec![writer::spec(&shared, "writer", Name::Container(name.clone(), container.clone()))];
        if relaunch::record(&shared, &name, &container).ok().flatten().is_some() {
            children.push(relaunch::spec(&shared, &name, &container));
        }
        // What recovery makes or removes has no actor until that is done: two hands on one row would be one too many.
        let there = task::record(&shared, &name, &container).ok().flatten();
        let adopted = there.filter(|record| !crate::recovery::works_on(&shared, record));
        children.extend(adopted.map(|_| task_spec(&shared, &name, &container)));
        children
    });
    registered(core, container_path(namespace, id), supervisor_spec(flags, children))
}

fn task_spec(core: &Shared, namespace: &NamespaceName, id: &ContainerId) -> ChildSpec {
    ChildSpec { id: TASK.to_owned(), restart: RestartType::Transient, ..task::spec(core, namespace, id) }
}

/// NS-2: a namespace that is written to for the first time gets its actors. Its row comes with the write.
pub(crate) async fn ensure_namespace(core: &Shared, namespace: &NamespaceName) -> Result<()> {
    if core.directory.find::<writer::WriterMessage>(&Name::Namespace(namespace.clone())).is_some() {
        return Ok(());
    }
    let started = supervisor(core, NAMESPACES.to_owned())?.start_child(namespace_spec(core, namespace)).await;
    match started {
        Err(error) if error.class != ErrorClass::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Hangs a new container in.
pub(crate) async fn start_container(
    core: &Shared,
    namespace: &NamespaceName,
    id: &ContainerId,
) -> Result<()> {
    supervisor(core, containers_path(namespace))?
        .start_child(container_spec(core, namespace, id))
        .await
        .map(drop)
}

/// Hangs the restart policy of a container in that had none.
pub(crate) async fn start_relaunch(core: &Shared, namespace: &NamespaceName, id: &ContainerId) -> Result<()> {
    let started = supervisor(core, container_path(namespace, id))?
        .start_child(relaunch::spec(core, namespace, id))
        .await;
    match started {
        Err(error) if error.class != ErrorClass::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Takes a removed container out.
pub(crate) async fn stop_container(core: &Shared, namespace: &NamespaceName, id: &ContainerId) -> Result<()> {
    supervisor(core, containers_path(namespace))?.remove_child(id.as_str()).await?;
    core.directory.remove(&Name::Supervisor(container_path(namespace, id)));
    core.directory.remove(&Name::Container(namespace.clone(), id.clone()));
    core.directory.remove(&Name::Task(namespace.clone(), id.clone()));
    core.directory.remove(&Name::Relaunch(namespace.clone(), id.clone()));
    Ok(())
}

/// Hangs a made task in: its first act is to reattach.
pub(crate) async fn start_task(core: &Shared, namespace: &NamespaceName, id: &ContainerId) -> Result<()> {
    let container = supervisor(core, container_path(namespace, id))?;
    // The actor of a deleted task may not be forgotten yet.
    container.remove_child(TASK).await?;
    container.start_child(task_spec(core, namespace, id)).await.map(drop)
}

/// Takes a task's actor out while recovery removes the task.
pub(crate) async fn stop_task(core: &Shared, namespace: &NamespaceName, id: &ContainerId) -> Result<()> {
    if let Ok(container) = supervisor(core, container_path(namespace, id)) {
        container.remove_child(TASK).await?;
    }
    core.directory.remove(&Name::Task(namespace.clone(), id.clone()));
    Ok(())
}

/// A parked actor is tried again; `path` as the tree shows it, the last part being the child.
pub(crate) async fn retry(core: &Shared, path: &str) -> Result<()> {
    let (parent, child) =
        path.rsplit_once('/').ok_or_else(|| Error::invalid_argument(format!("{path:?} names no child")))?;
    supervisor(core, parent.to_owned())?.retry(child).await
}
