//! Snapshots of one snapshotter.

use bosun_filter::Filters;
use bosun_protocol::Wire;
use bosun_protocol::convert::{pair_count, read_list, write_pairs};
use bosun_types::content::{Descriptor, Finding};
use bosun_types::diff::{DiffRequest, LayerDiff};
use bosun_types::mount::Mount;
use bosun_types::snapshot::{SnapshotRecord, Usage};
use bosun_types::{Labels, Result, SnapshotKey};

use crate::daemon::all_pages;
use crate::driver::Driver;
use crate::failure::answer;
use crate::session::Place;

/// The snapshots of one snapshotter in one namespace.
///
/// ```no_run
#[doc = include_str!("../examples/tour/snapshots.rs")]
/// ```
#[derive(Clone)]
pub struct Snapshots {
    driver: Driver,
    namespace: Place,
    snapshotter: String,
}

/// One call on the snapshots' capability.
macro_rules! on_snapshots {
    ($self:ident.$how:ident, |$snapshots:ident, $results:ident| $request:expr => $value:expr) => {{
        let (namespace, snapshotter) = ($self.namespace.clone(), $self.snapshotter.clone());
        $self
            .driver
            .$how(move |session| async move {
                let $snapshots = session.scope(&namespace).snapshots(&snapshotter).await?;
                answer!($results, $request);
                Ok($value)
            })
            .await
    }};
}

impl Snapshots {
    pub(crate) fn new(driver: Driver, namespace: Place, snapshotter: String) -> Self {
        Self { driver, namespace, snapshotter }
    }

    /// Makes a writable snapshot; how to mount it.
    pub async fn prepare(
        &self,
        key: SnapshotKey,
        parent: Option<SnapshotKey>,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        on_snapshots!(self.change, |snapshots, results| {
            let mut request = snapshots.prepare_request();
            let mut params = request.get();
            params.set_key(key.as_str());
            if let Some(parent) = &parent {
                params.set_parent(parent.as_str());
            }
            write_pairs(&labels, params.init_labels(pair_count(&labels)));
            request
        } => read_list(results.get_mounts())?)
    }

    /// Makes a read-only one.
    pub async fn view(
        &self,
        key: SnapshotKey,
        parent: Option<SnapshotKey>,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        on_snapshots!(self.change, |snapshots, results| {
            let mut request = snapshots.view_request();
            let mut params = request.get();
            params.set_key(key.as_str());
            if let Some(parent) = &parent {
                params.set_parent(parent.as_str());
            }
            write_pairs(&labels, params.init_labels(pair_count(&labels)));
            request
        } => read_list(results.get_mounts())?)
    }

    /// How to mount one.
    pub async fn mounts(&self, key: SnapshotKey) -> Result<Vec<Mount>> {
        on_snapshots!(self.call, |snapshots, results| {
            let mut request = snapshots.mounts_request();
            request.get().set_key(key.as_str());
            request
        } => read_list(results.get_mounts())?)
    }

    /// Makes the active `key` immutable, under the name `target`.
    pub async fn commit(&self, target: SnapshotKey, key: SnapshotKey, labels: Labels) -> Result<()> {
        on_snapshots!(self.change, |snapshots, _results| {
            let mut request = snapshots.commit_request();
            let mut params = request.get();
            params.set_target(target.as_str());
            params.set_key(key.as_str());
            write_pairs(&labels, params.init_labels(pair_count(&labels)));
            request
        } => ())
    }

    /// Removes one that has no children.
    pub async fn remove(&self, key: SnapshotKey) -> Result<()> {
        on_snapshots!(self.change, |snapshots, _results| {
            let mut request = snapshots.remove_request();
            request.get().set_key(key.as_str());
            request
        } => ())
    }

    /// One record.
    pub async fn stat(&self, key: SnapshotKey) -> Result<SnapshotRecord> {
        on_snapshots!(self.call, |snapshots, results| {
            let mut request = snapshots.stat_request();
            request.get().set_key(key.as_str());
            request
        } => SnapshotRecord::read(results.get_record()?)?)
    }

    /// All of them, ordered by key.
    pub async fn list(&self) -> Result<Vec<SnapshotRecord>> {
        self.list_where(Filters::all()).await
    }

    /// Those that the filters want: fields `name`, `parent`, `kind`, `labels.<key>`.
    pub async fn list_where(&self, filters: impl Into<Filters>) -> Result<Vec<SnapshotRecord>> {
        let filters = filters.into();
        let (namespace, snapshotter) = (self.namespace.clone(), self.snapshotter.clone());
        self.driver
            .call(move |session| async move {
                let snapshots = session.scope(&namespace).snapshots(&snapshotter).await?;
                all_pages!(snapshots, list_request, get_records, filters)
            })
            .await
    }

    /// Sets labels; an empty value removes one. `replace`: these labels and no others.
    pub async fn update_labels(
        &self,
        key: SnapshotKey,
        labels: Labels,
        replace: bool,
    ) -> Result<SnapshotRecord> {
        on_snapshots!(self.change, |snapshots, results| {
            let mut request = snapshots.update_labels_request();
            let mut params = request.get();
            params.set_key(key.as_str());
            params.set_replace(replace);
            write_pairs(&labels, params.init_labels(pair_count(&labels)));
            request
        } => SnapshotRecord::read(results.get_record()?)?)
    }

    /// What a snapshot changed becomes a layer blob. No deadline; the daemon goes on when the caller leaves.
    pub async fn diff(&self, request: DiffRequest) -> Result<LayerDiff> {
        let (namespace, snapshotter) = (self.namespace.clone(), self.snapshotter.clone());
        self.driver
            .wait_through_recovery(move |session| async move {
                let snapshots = session.scope(&namespace).snapshots(&snapshotter).await?;
                let mut call = snapshots.diff_request();
                request.write(call.get().init_request());
                answer!(results, call);
                Ok(LayerDiff::read(results.get_result()?)?)
            })
            .await
    }

    /// A layer blob's files become those of an active snapshot without changes of its own: all of them, or on an error
    /// none. Gives what the uncompressed bytes are. Mounts asked for before are not the snapshot's any more. No deadline.
    pub async fn apply(&self, key: SnapshotKey, layer: Descriptor) -> Result<Descriptor> {
        let (namespace, snapshotter) = (self.namespace.clone(), self.snapshotter.clone());
        self.driver
            .change_and_wait(move |session| async move {
                let snapshots = session.scope(&namespace).snapshots(&snapshotter).await?;
                let mut call = snapshots.apply_request();
                call.get().set_key(key.as_str());
                layer.write(call.get().init_layer());
                answer!(results, call);
                Ok(Descriptor::read(results.get_result()?)?)
            })
            .await
    }

    /// Whether a layer's files are what its blob says; with `repair` those that are not are replaced. Without a deadline.
    pub async fn verify(&self, key: SnapshotKey, repair: bool) -> Result<Finding> {
        let (namespace, snapshotter) = (self.namespace.clone(), self.snapshotter.clone());
        self.driver
            .wait(move |session| {
                let (namespace, snapshotter, key) = (namespace.clone(), snapshotter.clone(), key.clone());
                async move {
                    let mut request =
                        session.scope(&namespace).snapshots(&snapshotter).await?.verify_request();
                    request.get().set_key(key.as_str());
                    request.get().set_repair(repair);
                    answer!(results, request);
                    Ok(Finding::read(results.get_finding()?)?)
                }
            })
            .await
    }

    /// Its disk use, without its parents.
    pub async fn usage(&self, key: SnapshotKey) -> Result<Usage> {
        on_snapshots!(self.call, |snapshots, results| {
            let mut request = snapshots.usage_request();
            request.get().set_key(key.as_str());
            request
        } => Usage::read(results.get_usage()?)?)
    }
}
