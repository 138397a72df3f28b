//! An act of a group on one of its members, as an operation of one step. Its intent is the group's row, committed before it: after a crash the row and the
//! members' rows say which act is next, so that there is nothing to close, and nothing to take back.

use bosun_types::group::{GroupMember, MemberName};
use bosun_types::relaunch::StopRequest;
use bosun_types::{NamespaceName, Result};
use futures::future::BoxFuture;

use super::GroupHandle;
use super::decide::Act;
use crate::containers::ContainersHandle;
use crate::core::Shared;
use crate::operation::{self, Operation, Plan, START_MEMBER, STOP_MEMBER};

pub(super) struct MemberAct {
    pub core: Shared,
    pub namespace: NamespaceName,
    pub member: GroupMember,
    pub act: Act,
}

impl MemberAct {
    /// Performs it; what fails shows at the group's next look.
    pub(super) async fn perform(&self) -> Result<()> {
        operation::perform(self).await.map_err(|failure| failure.cause().clone())
    }

    async fn start(&self) -> Result<()> {
        let (core, namespace) = (self.core.clone(), self.namespace.clone());
        match self.member.name.clone() {
            MemberName::Container(id) => {
                ContainersHandle::new(core, namespace, None).get(id).start().await.map(drop)
            }
            MemberName::Group(name) => GroupHandle::new(core, namespace, name).start().await,
        }
    }

    async fn stop(&self) -> Result<()> {
        let (core, namespace) = (self.core.clone(), self.namespace.clone());
        match self.member.name.clone() {
            MemberName::Container(id) => {
                let request = StopRequest { signal: None, timeout_ms: Some(self.member.shutdown_ms) };
                ContainersHandle::new(core, namespace, None).get(id).stop(request).await.map(drop)
            }
            MemberName::Group(name) => GroupHandle::new(core, namespace, name).stop().await,
        }
    }
}

impl Operation for MemberAct {
    fn plan(&self) -> &'static Plan {
        match self.act {
            Act::Start(_) => &START_MEMBER,
            Act::Stop(_) => &STOP_MEMBER,
        }
    }

    fn forward(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match self.act {
                Act::Start(_) => self.start().await,
                Act::Stop(_) => self.stop().await,
            }
        })
    }

    /// A start that failed is tried again or the whole group goes down, as its intensity says; a member that was told to stop stays told.
    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
