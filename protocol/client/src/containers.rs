//! Containers: metadata, and the way to their tasks.

use std::collections::BTreeMap;

use bosun_filter::Filters;
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, write_texts};
use bosun_types::container::{Any, ContainerRecord};
use bosun_types::spec::{ContainerRequest, SpecOptions};
use bosun_types::task::TaskRequest;
use bosun_types::{ContainerId, Error, ErrorClass, Labels, NamespaceName, Result};

use crate::daemon::all_pages;
use crate::driver::Driver;
use crate::failure::answer;
use crate::image::Image;
use crate::images::Images;
use crate::session::Place;
use crate::task::Task;

/// The containers of one namespace.
///
/// ```no_run
#[doc = include_str!("../examples/tour/container.rs")]
/// ```
#[derive(Clone)]
pub struct Containers {
    driver: Driver,
    namespace: Place,
}

impl Containers {
    pub(crate) fn new(driver: Driver, namespace: Place) -> Self {
        Self { driver, namespace }
    }

    /// Makes a container, with its snapshot when it is made from an image. All of it or nothing.
    ///
    /// # Errors
    /// AlreadyExists, NotFound (image, snapshot), InvalidArgument.
    pub async fn create(&self, request: ContainerRequest) -> Result<ContainerRecord> {
        let namespace = self.namespace.clone();
        self.driver
            .change(move |session| async move {
                let mut call = session.scope(&namespace).containers.create_request();
                request.write(call.get().init_request());
                answer!(results, call);
                Ok(ContainerRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// All of them, ordered by id.
    pub async fn list(&self) -> Result<Vec<ContainerRecord>> {
        self.list_where(Filters::all()).await
    }

    /// Those that the filters want: fields `id`, `image`, `runtime.name`, `snapshotter`, `snapshotkey`, `labels.<key>`.
    pub async fn list_where(&self, filters: impl Into<Filters>) -> Result<Vec<ContainerRecord>> {
        let filters = filters.into();
        let namespace = self.namespace.clone();
        self.driver
            .call(move |session| async move {
                all_pages!(session.scope(&namespace).containers, list_request, get_records, filters)
            })
            .await
    }

    /// The OCI spec, JSON, that a container of this id gets by these options, without an image: its root is `rootfs`. Nothing is made.
    ///
    /// # Errors
    /// InvalidArgument: an option is out of range.
    pub async fn build_spec(&self, id: ContainerId, options: SpecOptions) -> Result<Vec<u8>> {
        let namespace = self.namespace.clone();
        self.driver
            .call(move |session| async move {
                let mut call = session.scope(&namespace).containers.build_spec_request();
                call.get().set_id(id.as_str());
                options.write(call.get().init_options());
                answer!(results, call);
                Ok(results.get_spec()?.to_vec())
            })
            .await
    }

    pub(crate) fn address(&self) -> (&Driver, &Place) {
        (&self.driver, &self.namespace)
    }

    /// One that exists.
    ///
    /// # Errors
    /// NotFound.
    pub async fn load(&self, id: ContainerId) -> Result<Container> {
        let container = self.get(id);
        container.record().await?;
        Ok(container)
    }

    /// One, by id; whether it exists shows at the first call.
    pub fn get(&self, id: ContainerId) -> Container {
        Container { driver: self.driver.clone(), namespace: self.namespace.name.clone(), id }
    }
}

/// One container.
///
/// ```no_run
#[doc = include_str!("../examples/tour/lifecycle.rs")]
/// ```
#[derive(Clone)]
pub struct Container {
    pub(crate) driver: Driver,
    pub(crate) namespace: NamespaceName,
    pub(crate) id: ContainerId,
}

impl Container {
    /// Its id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Its namespace.
    pub fn namespace(&self) -> &NamespaceName {
        &self.namespace
    }

    /// Its record.
    pub async fn record(&self) -> Result<ContainerRecord> {
        let (namespace, id) = (self.namespace.clone(), self.id.clone());
        self.driver
            .call(move |session| async move {
                answer!(results, session.scope(&namespace).container(&id).record_request());
                Ok(ContainerRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// Its OCI runtime spec, read (CTR-18).
    ///
    /// # Errors
    /// DataLoss: what is stored is not a spec that this library reads.
    pub async fn spec(&self) -> Result<oci_spec::runtime::Spec> {
        let bytes = self.record().await?.spec;
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(
                ErrorClass::DataLoss,
                format!("container {}: its spec cannot be read: {error}", self.id),
            )
        })
    }

    /// Its labels.
    pub async fn labels(&self) -> Result<Labels> {
        Ok(self.record().await?.labels)
    }

    /// Sets these labels and leaves the others; an empty value removes one. Gives all of them (CTR-16).
    pub async fn set_labels(&self, labels: Labels) -> Result<Labels> {
        let paths: Vec<String> = labels.keys().map(|key| format!("labels.{key}")).collect();
        if paths.is_empty() {
            return self.labels().await;
        }
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let record = ContainerRecord { labels, ..self.record().await? };
        Ok(self.update(record, &paths).await?.labels)
    }

    /// Its extensions.
    pub async fn extensions(&self) -> Result<BTreeMap<String, Any>> {
        Ok(self.record().await?.extensions)
    }

    /// The image that it was made from.
    ///
    /// # Errors
    /// NotFound: it was made from none (CTR-17).
    pub async fn image(&self) -> Result<Image> {
        let name = self.record().await?.image.ok_or_else(|| {
            Error::not_found(format!("container {} was not created from an image", self.id))
        })?;
        Ok(Images::new(self.driver.clone(), self.namespace.clone()).image(name))
    }

    /// Replaces the fields that `paths` names, such as `labels`, `labels.<key>`, `image`; none: all that may change.
    pub async fn update(&self, record: ContainerRecord, paths: &[&str]) -> Result<ContainerRecord> {
        let (namespace, id) = (self.namespace.clone(), self.id.clone());
        let record = named_by(record, paths);
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        self.driver
            .change(move |session| async move {
                let mut call = session.scope(&namespace).container(&id).update_request();
                record.write(call.get().init_record());
                write_texts(&paths, call.get().init_paths(length(&paths)));
                answer!(results, call);
                Ok(ContainerRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// Removes the record, and the snapshot if asked.
    ///
    /// # Errors
    /// FailedPrecondition while it has a task.
    pub async fn delete(&self, snapshot: bool) -> Result<()> {
        let (namespace, id) = (self.namespace.clone(), self.id.clone());
        self.driver
            .change(move |session| async move {
                let mut call = session.scope(&namespace).container(&id).delete_request();
                call.get().set_snapshot(snapshot);
                answer!(_results, call);
                Ok(())
            })
            .await
    }

    /// Makes its process, held before exec; start it through the task.
    ///
    /// # Errors
    /// AlreadyExists when there is a task.
    pub async fn create_task(&self, request: TaskRequest) -> Result<Task> {
        let (namespace, id) = (self.namespace.clone(), self.id.clone());
        self.driver
            .change(move |session| async move {
                let mut call = session.scope(&namespace).container(&id).create_task_request();
                request.write(call.get().init_request());
                answer!(_results, call);
                Ok(())
            })
            .await?;
        Ok(self.task())
    }

    /// Its task, if there is one. What it writes is read by [`Process::attach`](crate::Process::attach), as often and by as many as like.
    ///
    /// # Errors
    /// NotFound.
    pub async fn load_task(&self) -> Result<Task> {
        let task = self.task();
        task.info().await?;
        Ok(task)
    }

    /// Its task; whether there is one shows at the first call.
    pub fn task(&self) -> Task {
        Task::new(self.driver.clone(), self.namespace.clone(), self.id.clone())
    }
}

/// Only what the paths name goes over the wire: a spec is large, and for a label nobody reads it.
fn named_by(mut record: ContainerRecord, paths: &[&str]) -> ContainerRecord {
    let is_named = |field| paths.is_empty() || paths.iter().any(|path| path.split('.').next() == Some(field));
    if !is_named("spec") {
        record.spec.clear();
    }
    if !is_named("extensions") {
        record.extensions.clear();
    }
    record
}
