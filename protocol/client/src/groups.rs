//! Groups: containers supervised together.

use bosun_filter::Filters;
use bosun_protocol::Wire;
use bosun_types::group::{GroupInfo, GroupSpec};
use bosun_types::{GroupName, NamespaceName, Result};

use crate::daemon::all_pages;
use crate::driver::Driver;
use crate::failure::answer;

/// The groups of one namespace.
///
/// ```no_run
#[doc = include_str!("../examples/tour/groups.rs")]
/// ```
#[derive(Clone)]
pub struct Groups {
    driver: Driver,
    namespace: NamespaceName,
}

impl Groups {
    pub(crate) fn new(driver: Driver, namespace: NamespaceName) -> Self {
        Self { driver, namespace }
    }

    /// Makes a group of what there is, stopped.
    ///
    /// # Errors
    /// AlreadyExists, NotFound (a member), InvalidArgument, FailedPrecondition: a member is in another group, or has a restart policy of its own.
    pub async fn create(&self, spec: GroupSpec) -> Result<GroupInfo> {
        let namespace = self.namespace.clone();
        self.driver
            .change(move |session| async move {
                let mut call = session.scope(&namespace).groups.create_request();
                spec.write(call.get().init_spec());
                answer!(results, call);
                Ok(GroupInfo::read(results.get_info()?)?)
            })
            .await
    }

    /// All of them, ordered by name.
    pub async fn list(&self) -> Result<Vec<GroupInfo>> {
        self.list_where(Filters::all()).await
    }

    /// Those that the filters want: fields `name`, `strategy`, `status`.
    pub async fn list_where(&self, filters: impl Into<Filters>) -> Result<Vec<GroupInfo>> {
        let (filters, namespace) = (filters.into(), self.namespace.clone());
        self.driver
            .call(move |session| async move {
                all_pages!(session.scope(&namespace).groups, list_request, get_infos, filters)
            })
            .await
    }

    /// A group, by name; whether it exists shows at the first call.
    pub fn get(&self, name: GroupName) -> Group {
        Group { driver: self.driver.clone(), namespace: self.namespace.clone(), name }
    }
}

/// One group.
#[derive(Clone)]
pub struct Group {
    driver: Driver,
    namespace: NamespaceName,
    name: GroupName,
}

/// One call on the group's capability. The daemon finishes it whatever becomes of us.
macro_rules! on_group {
    ($self:ident.$how:ident, |$group:ident, $results:ident| $request:expr => $value:expr) => {{
        let (namespace, name) = ($self.namespace.clone(), $self.name.clone());
        $self
            .driver
            .$how(move |session| async move {
                let $group = session.scope(&namespace).group(&name);
                answer!($results, $request);
                Ok($value)
            })
            .await
    }};
}

impl Group {
    /// Its name.
    pub fn name(&self) -> &GroupName {
        &self.name
    }

    /// As it is.
    pub async fn info(&self) -> Result<GroupInfo> {
        on_group!(self.wait_through_recovery, |group, results| group.info_request() => GroupInfo::read(results.get_info()?)?)
    }

    /// Starts its members in order, those that run already excepted; returns when all were started.
    ///
    /// # Errors
    /// FailedPrecondition: it failed, which says why; or it is being stopped.
    pub async fn start(&self) -> Result<()> {
        on_group!(self.change_and_wait, |group, _results| group.start_request() => ())
    }

    /// Stops its members in reverse order, each with its own time; returns when all have ended.
    pub async fn stop(&self) -> Result<()> {
        on_group!(self.change_and_wait, |group, _results| group.stop_request() => ())
    }

    /// Removes it; its members stay.
    ///
    /// # Errors
    /// FailedPrecondition unless it is down and in no other group.
    pub async fn delete(&self) -> Result<()> {
        on_group!(self.change, |group, _results| group.delete_request() => ())
    }
}
