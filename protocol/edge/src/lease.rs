//! `Leases`.

use std::rc::Rc;

use bosun_actors::leases::LeasesHandle;
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, read_pairs, read_parsed, read_text, write_list};
use bosun_protocol::lease_capnp::leases;
use bosun_types::LeaseId;
use bosun_types::call::CallRecord;
use bosun_types::lease::LeaseResource;

use crate::connection::{Held, about, nothing};
use crate::page::{Wanted, label_bytes, paged};
use crate::reply;

/// About what a resource takes in a message, beside its id.
const RESOURCE_BYTES: usize = 64;

pub(crate) struct Leases {
    held: Held,
    handle: LeasesHandle,
}

impl Leases {
    pub(crate) fn new(held: Held, handle: LeasesHandle) -> Self {
        Self { held, handle }
    }
}

type Done = Result<(), capnp::Error>;

impl leases::Server for Leases {
    async fn create(
        self: Rc<Self>,
        params: leases::CreateParams,
        mut results: leases::CreateResults,
    ) -> Done {
        let handle = self.handle.clone();
        let id = match read_text(params.get()?.get_lease()) {
            Ok(id) if id.is_empty() => Ok(None),
            id => id.and_then(LeaseId::new).map(Some),
        };
        let (made, given) = (self.handle.clone(), id.clone());
        let known = async move |record: CallRecord| made.made(given?, &record.id).await;
        let work = async move {
            let record = handle.create(id?, read_pairs(params.get()?.get_labels())?).await?;
            about(&record.id);
            Ok(record)
        };
        let outcome = self.held.once("lease.create", work, known).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn delete(
        self: Rc<Self>,
        params: leases::DeleteParams,
        mut results: leases::DeleteResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let id: LeaseId = read_parsed(params.get_lease())?;
            about(&id);
            handle.delete(id).await?;
            if params.get_sync() { Ok(handle.collect().await?) } else { Ok(()) }
        };
        let outcome = self.held.once("lease.delete", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn list(self: Rc<Self>, params: leases::ListParams, mut results: leases::ListResults) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            let bytes = |record: &bosun_types::lease::LeaseRecord| label_bytes(&record.labels) + 256;
            paged(handle.list().await, &wanted, |record| record.id.to_string(), bytes)
        };
        let outcome = self.held.call("lease.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn resources(
        self: Rc<Self>,
        params: leases::ResourcesParams,
        mut results: leases::ResourcesResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let wanted = Wanted::read(params.get_page()?)?;
            let id: LeaseId = read_parsed(params.get_lease())?;
            paged(
                handle.resources(&id).await,
                &wanted,
                |resource| format!("{} {}", resource.kind(), resource.id()),
                |resource| resource.id().len() + RESOURCE_BYTES,
            )
        };
        let outcome = self.held.call("lease.resources", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn add(self: Rc<Self>, params: leases::AddParams, mut results: leases::AddResults) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let resource = LeaseResource::read(params.get_resource()?)?;
            Ok(handle.add(read_parsed(params.get_lease())?, resource).await?)
        };
        let outcome = self.held.once("lease.add", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn remove(
        self: Rc<Self>,
        params: leases::RemoveParams,
        mut results: leases::RemoveResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let resource = LeaseResource::read(params.get_resource()?)?;
            Ok(handle.remove(read_parsed(params.get_lease())?, resource).await?)
        };
        let outcome = self.held.once("lease.remove", work, nothing).await?;
        reply!(results, outcome)
    }
}
