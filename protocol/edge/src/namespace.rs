//! `Namespace`: reaches everything in one namespace and nothing outside.

use std::rc::Rc;

use bosun_actors::namespaces::NamespaceHandle;
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, read_parsed, read_text, write_list};
use bosun_protocol::namespace_capnp::namespace;
use bosun_types::gc::Object;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use capnp_rpc::new_client;

use crate::connection::{Fault, Held};
use crate::container::Containers;
use crate::content::Content;
use crate::event::Events;
use crate::group::Groups;
use crate::image::Images;
use crate::lease::Leases;
use crate::page::{Wanted, paged};
use crate::reply;
use crate::snapshot::Snapshots;
use crate::transfer::Transfers;

/// About what a process's state takes in a message: a few paths, some numbers.
pub(crate) const PROCESS_BYTES: usize = 768;

pub(crate) struct Namespace {
    held: Held,
    handle: NamespaceHandle,
}

impl Namespace {
    pub(crate) fn new(held: Held, handle: NamespaceHandle) -> Self {
        Self { held, handle }
    }
}

type Done = Result<(), capnp::Error>;

impl namespace::Server for Namespace {
    async fn record(
        self: Rc<Self>,
        _: namespace::RecordParams,
        mut results: namespace::RecordResults,
    ) -> Done {
        let handle = self.handle.clone();
        let outcome = self.held.call("namespace.record", async move { Ok(handle.record().await?) }).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn containers(
        self: Rc<Self>,
        _: namespace::ContainersParams,
        mut results: namespace::ContainersResults,
    ) -> Done {
        let containers = Containers::new(Held::new(&self.held)?, self.handle.containers());
        results.get().set_containers(new_client(containers));
        Ok(())
    }

    async fn tasks(
        self: Rc<Self>,
        params: namespace::TasksParams,
        mut results: namespace::TasksResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(handle.tasks().await, &wanted, |info| info.container.to_string(), |_| PROCESS_BYTES)
        };
        let outcome = self.held.call("task.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_infos(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn groups(
        self: Rc<Self>,
        _: namespace::GroupsParams,
        mut results: namespace::GroupsResults,
    ) -> Done {
        let groups = Groups::new(Held::new(&self.held)?, self.handle.groups());
        results.get().set_groups(new_client(groups));
        Ok(())
    }

    async fn relaunches(
        self: Rc<Self>,
        params: namespace::RelaunchesParams,
        mut results: namespace::RelaunchesResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(handle.relaunches().await, &wanted, |info| info.container.to_string(), |_| PROCESS_BYTES)
        };
        let outcome = self.held.call("relaunch.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_infos(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn images(
        self: Rc<Self>,
        _: namespace::ImagesParams,
        mut results: namespace::ImagesResults,
    ) -> Done {
        let images = Images::new(Held::new(&self.held)?, self.handle.images());
        results.get().set_images(new_client(images));
        Ok(())
    }

    async fn transfers(
        self: Rc<Self>,
        _: namespace::TransfersParams,
        mut results: namespace::TransfersResults,
    ) -> Done {
        let transfers = Transfers::new(Held::new(&self.held)?, self.handle.transfers());
        results.get().set_transfers(new_client(transfers));
        Ok(())
    }

    async fn content(
        self: Rc<Self>,
        _: namespace::ContentParams,
        mut results: namespace::ContentResults,
    ) -> Done {
        let content = Content::new(Held::new(&self.held)?, self.handle.content());
        results.get().set_content(new_client(content));
        Ok(())
    }

    async fn snapshots(
        self: Rc<Self>,
        params: namespace::SnapshotsParams,
        mut results: namespace::SnapshotsResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let chosen = || {
            let named = read_text(params.get()?.get_snapshotter())?;
            let snapshotter = if named.is_empty() { SNAPSHOTTER_DEFAULT } else { named.as_str() };
            Ok(self.handle.snapshots(snapshotter)?)
        };
        let outcome = chosen().map_err(|Fault(error)| error);
        reply!(results, outcome, |handle, out| {
            out.set_snapshots(new_client(Snapshots::new(held, handle)));
        })
    }

    async fn events(
        self: Rc<Self>,
        _: namespace::EventsParams,
        mut results: namespace::EventsResults,
    ) -> Done {
        let only = Some(self.handle.name().clone());
        let events = Events::new(Held::new(&self.held)?, self.handle.events(), only);
        results.get().set_events(new_client(events));
        Ok(())
    }

    async fn leases(
        self: Rc<Self>,
        _: namespace::LeasesParams,
        mut results: namespace::LeasesResults,
    ) -> Done {
        let leases = Leases::new(Held::new(&self.held)?, self.handle.leases());
        results.get().set_leases(new_client(leases));
        Ok(())
    }

    async fn with_lease(
        self: Rc<Self>,
        params: namespace::WithLeaseParams,
        mut results: namespace::WithLeaseResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let outcome = read_parsed(params.get()?.get_lease()).map(|lease| self.handle.with_lease(lease));
        reply!(results, outcome, |handle, out| {
            out.set_namespace(new_client(Namespace::new(held, handle)));
        })
    }

    async fn with_key(
        self: Rc<Self>,
        params: namespace::WithKeyParams,
        mut results: namespace::WithKeyResults,
    ) -> Done {
        let params = params.get()?;
        let outcome = self.held.keyed(params.get_key(), params.get_again())?;
        reply!(results, outcome, |held, out| {
            out.set_namespace(new_client(Namespace::new(held, self.handle.clone())));
        }, else set_namespace)
    }

    async fn why(self: Rc<Self>, params: namespace::WhyParams, mut results: namespace::WhyResults) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let object = Object::read(params.get()?.get_object()?)?;
            Ok(handle.why(object).await?)
        };
        let outcome = self.held.call("namespace.why", work).await?;
        reply!(results, outcome, |chains, out| write_list(&chains, out.init_chains(length(&chains))))
    }
}
