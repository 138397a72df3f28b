//! `Snapshots`.

use std::rc::Rc;

use bosun_actors::snapshots::SnapshotsHandle;
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, read_optional_parsed, read_pairs, read_parsed, write_list};
use bosun_protocol::snapshot_capnp::snapshots;
use bosun_types::SnapshotKey;
use bosun_types::content::Descriptor;
use bosun_types::diff::DiffRequest;

use crate::connection::{Held, about, nothing};
use crate::content::label_paths;
use crate::page::{Wanted, label_bytes, paged};
use crate::reply;

pub(crate) struct Snapshots {
    held: Held,
    handle: SnapshotsHandle,
}

impl Snapshots {
    pub(crate) fn new(held: Held, handle: SnapshotsHandle) -> Self {
        Self { held, handle }
    }
}

type Done = Result<(), capnp::Error>;

impl snapshots::Server for Snapshots {
    async fn prepare(
        self: Rc<Self>,
        params: snapshots::PrepareParams,
        mut results: snapshots::PrepareResults,
    ) -> Done {
        let handle = self.handle.clone();
        let (made, key) = (self.handle.clone(), read_parsed::<SnapshotKey>(params.get()?.get_key()));
        let known = async move |_| made.mounts(&key?).await;
        let work = async move {
            let params = params.get()?;
            let parent = read_optional_parsed(params.has_parent(), params.get_parent())?;
            let (key, labels): (SnapshotKey, _) =
                (read_parsed(params.get_key())?, read_pairs(params.get_labels())?);
            about(&key);
            Ok(handle.prepare(key, parent, labels).await?)
        };
        let outcome = self.held.once("snapshot.prepare", work, known).await?;
        reply!(results, outcome, |mounts, out| write_list(&mounts, out.init_mounts(length(&mounts))))
    }

    async fn view(
        self: Rc<Self>,
        params: snapshots::ViewParams,
        mut results: snapshots::ViewResults,
    ) -> Done {
        let handle = self.handle.clone();
        let (made, key) = (self.handle.clone(), read_parsed::<SnapshotKey>(params.get()?.get_key()));
        let known = async move |_| made.mounts(&key?).await;
        let work = async move {
            let params = params.get()?;
            let parent = read_optional_parsed(params.has_parent(), params.get_parent())?;
            let (key, labels): (SnapshotKey, _) =
                (read_parsed(params.get_key())?, read_pairs(params.get_labels())?);
            about(&key);
            Ok(handle.view(key, parent, labels).await?)
        };
        let outcome = self.held.once("snapshot.view", work, known).await?;
        reply!(results, outcome, |mounts, out| write_list(&mounts, out.init_mounts(length(&mounts))))
    }

    async fn mounts(
        self: Rc<Self>,
        params: snapshots::MountsParams,
        mut results: snapshots::MountsResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let key: SnapshotKey = read_parsed(params.get()?.get_key())?;
            Ok(handle.mounts(&key).await?)
        };
        let outcome = self.held.call("snapshot.mounts", work).await?;
        reply!(results, outcome, |mounts, out| write_list(&mounts, out.init_mounts(length(&mounts))))
    }

    async fn commit(
        self: Rc<Self>,
        params: snapshots::CommitParams,
        mut results: snapshots::CommitResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let (target, key): (_, SnapshotKey) =
                (read_parsed(params.get_target())?, read_parsed(params.get_key())?);
            about(&key);
            Ok(handle.commit(target, key, read_pairs(params.get_labels())?).await?)
        };
        let outcome = self.held.once("snapshot.commit", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn remove(
        self: Rc<Self>,
        params: snapshots::RemoveParams,
        mut results: snapshots::RemoveResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let key: SnapshotKey = read_parsed(params.get()?.get_key())?;
            about(&key);
            Ok(handle.remove(key).await?)
        };
        let outcome = self.held.once("snapshot.remove", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn stat(
        self: Rc<Self>,
        params: snapshots::StatParams,
        mut results: snapshots::StatResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let key: SnapshotKey = read_parsed(params.get()?.get_key())?;
            Ok(handle.stat(&key).await?)
        };
        let outcome = self.held.call("snapshot.stat", work).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn list(
        self: Rc<Self>,
        params: snapshots::ListParams,
        mut results: snapshots::ListResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(
                handle.list().await,
                &wanted,
                |record| record.key.to_string(),
                |record| label_bytes(&record.labels) + record.key.as_str().len() + 384,
            )
        };
        let outcome = self.held.call("snapshot.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn update_labels(
        self: Rc<Self>,
        params: snapshots::UpdateLabelsParams,
        mut results: snapshots::UpdateLabelsResults,
    ) -> Done {
        let handle = self.handle.clone();
        let (made, key) = (self.handle.clone(), read_parsed::<SnapshotKey>(params.get()?.get_key()));
        let known = async move |_| made.stat(&key?).await;
        let work = async move {
            let params = params.get()?;
            let (key, labels): (SnapshotKey, _) =
                (read_parsed(params.get_key())?, read_pairs(params.get_labels())?);
            about(&key);
            match label_paths(&labels, params.get_replace()) {
                Some(paths) => Ok(handle.update_labels(&key, labels, paths).await?),
                None => Ok(handle.stat(&key).await?),
            }
        };
        let outcome = self.held.once("snapshot.update", work, known).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn usage(
        self: Rc<Self>,
        params: snapshots::UsageParams,
        mut results: snapshots::UsageResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let key: SnapshotKey = read_parsed(params.get()?.get_key())?;
            Ok(handle.usage(&key).await?)
        };
        let outcome = self.held.call("snapshot.usage", work).await?;
        reply!(results, outcome, |usage, out| usage.write(out.init_usage()))
    }

    async fn diff(
        self: Rc<Self>,
        params: snapshots::DiffParams,
        mut results: snapshots::DiffResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let request = DiffRequest::read(params.get()?.get_request()?)?;
            Ok(handle.diff(request).await?)
        };
        let outcome = self.held.call("snapshot.diff", work).await?;
        reply!(results, outcome, |made, out| made.write(out.init_result()))
    }

    async fn apply(
        self: Rc<Self>,
        params: snapshots::ApplyParams,
        mut results: snapshots::ApplyResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let (key, layer) = (read_parsed(params.get_key())?, Descriptor::read(params.get_layer()?)?);
            Ok(handle.apply(key, layer).await?)
        };
        let outcome = self.held.call("snapshot.apply", work).await?;
        reply!(results, outcome, |applied, out| applied.write(out.init_result()))
    }

    async fn verify(
        self: Rc<Self>,
        params: snapshots::VerifyParams,
        mut results: snapshots::VerifyResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let key: SnapshotKey = read_parsed(params.get_key())?;
            about(&key);
            Ok(handle.verify(key, params.get_repair()).await?)
        };
        let outcome = self.held.call("snapshot.verify", work).await?;
        reply!(results, outcome, |finding, out| finding.write(out.init_finding()))
    }
}
