//! `Groups` and `Group`.

use std::rc::Rc;

use bosun_actors::group::{GroupHandle, GroupsHandle};
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, read_parsed, write_list};
use bosun_protocol::group_capnp::{group, groups};
use bosun_types::group::{GroupInfo, GroupSpec};
use bosun_types::{Error, GroupName};
use capnp_rpc::new_client;

use crate::connection::{Held, about, nothing};
use crate::page::{Wanted, paged};
use crate::reply;

/// About what a member takes in a message.
const MEMBER_BYTES: usize = 192;

pub(crate) struct Groups {
    held: Held,
    handle: GroupsHandle,
}

impl Groups {
    pub(crate) fn new(held: Held, handle: GroupsHandle) -> Self {
        Self { held, handle }
    }
}

type Done = Result<(), capnp::Error>;

fn info_bytes(info: &GroupInfo) -> usize {
    256 + info.spec.members.len() * MEMBER_BYTES
}

impl groups::Server for Groups {
    async fn create(
        self: Rc<Self>,
        params: groups::CreateParams,
        mut results: groups::CreateResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let handle = self.handle.clone();
        let spec = GroupSpec::read(params.get()?.get_spec()?);
        let made = spec.clone().map(|spec| self.handle.get(spec.name));
        let work = async move {
            let spec = spec?;
            about(&spec.name);
            Ok(handle.create(spec).await?)
        };
        let outcome = self.held.once("group.create", work, async move |_| made?.info().await).await?;
        reply!(results, outcome, |info, out| {
            info.write(out.reborrow().init_info());
            let name = info.spec.name;
            out.set_group(new_client(Group { held: held.about(&name), handle: self.handle.get(name) }));
        })
    }

    async fn list(self: Rc<Self>, params: groups::ListParams, mut results: groups::ListResults) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(handle.list().await, &wanted, |info| info.spec.name.to_string(), info_bytes)
        };
        let outcome = self.held.call("group.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_infos(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn get(self: Rc<Self>, params: groups::GetParams, mut results: groups::GetResults) -> Done {
        let held = Held::new(&self.held)?;
        let outcome: Result<GroupName, Error> = read_parsed(params.get()?.get_id());
        reply!(results, outcome, |name, out| {
            out.set_group(new_client(Group { held: held.about(&name), handle: self.handle.get(name) }));
        })
    }
}

struct Group {
    held: Held,
    handle: GroupHandle,
}

impl group::Server for Group {
    async fn info(self: Rc<Self>, _: group::InfoParams, mut results: group::InfoResults) -> Done {
        let handle = self.handle.clone();
        let outcome = self.held.call("group.info", async move { Ok(handle.info().await?) }).await?;
        reply!(results, outcome, |info, out| info.write(out.init_info()))
    }

    async fn start(self: Rc<Self>, _: group::StartParams, mut results: group::StartResults) -> Done {
        let handle = self.handle.clone();
        let begun = self.handle.clone();
        let work = async move { Ok(handle.start().await?) };
        let outcome = self.held.once("group.start", work, async move |_| begun.started().await).await?;
        reply!(results, outcome)
    }

    async fn stop(self: Rc<Self>, _: group::StopParams, mut results: group::StopResults) -> Done {
        let handle = self.handle.clone();
        let begun = self.handle.clone();
        let work = async move { Ok(handle.stop().await?) };
        let outcome = self.held.once("group.stop", work, async move |_| begun.stopped().await).await?;
        reply!(results, outcome)
    }

    async fn delete(self: Rc<Self>, _: group::DeleteParams, mut results: group::DeleteResults) -> Done {
        let handle = self.handle.clone();
        let outcome =
            self.held.once("group.delete", async move { Ok(handle.delete().await?) }, nothing).await?;
        reply!(results, outcome)
    }
}
