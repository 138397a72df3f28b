//! Containers: metadata, and the way to their tasks.

use bosun_filter::Filters;
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, write_texts};
use bosun_types::container::ContainerRecord;
use bosun_types::spec::ContainerRequest;
use bosun_types::task::TaskRequest;
use bosun_types::{ContainerId, NamespaceName, Result};

use crate::daemon::all_pages;
use crate::driver::Driver;
use crate::failure::answer;
use crate::session::Place;
use crate::task::Task;

/// The containers of one namespace.
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

    /// One, by id; whether it exists shows at the first call.
    pub fn get(&self, id: ContainerId) -> Container {
        Container { driver: self.driver.clone(), namespace: self.namespace.name.clone(), id }
    }
}

/// One container.
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

    /// Replaces the fields that `paths` names, such as `labels`, `labels.<key>`, `image`; none: all that may change.
    pub async fn update(&self, record: ContainerRecord, paths: &[&str]) -> Result<ContainerRecord> {
        let (namespace, id) = (self.namespace.clone(), self.id.clone());
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

    /// Its task; whether there is one shows at the first call.
    pub fn task(&self) -> Task {
        Task::new(self.driver.clone(), self.namespace.clone(), self.id.clone())
    }
}
