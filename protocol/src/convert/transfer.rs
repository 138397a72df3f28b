//! `transfer.capnp`: requests and progress.

use bosun_types::platform::Platform;
use bosun_types::reference::Reference;
use bosun_types::transfer::{
    ImportRequest, PartProgress, PartStatus, PullRequest, TransferProgress, TransferState,
};
use bosun_types::{Error, Result};

use super::common::enum_both_ways;
use super::{
    Sound, Wire, length, pair_count, read_list, read_optional_text, read_pairs, read_parsed, read_text,
    write_list, write_pairs,
};
use crate::transfer_capnp as wire;

enum_both_ways!(
    PartStatus,
    wire::PartStatus,
    status_to_wire,
    status_from_wire,
    [Waiting, Downloading, Unpacking, Done, Exists]
);

fn read_platform(
    given: bool,
    field: capnp::Result<crate::common_capnp::platform::Reader<'_>>,
) -> Result<Option<Platform>> {
    if given { Platform::read(field.sound()?).map(Some) } else { Ok(None) }
}

impl Wire for PullRequest {
    type Struct = wire::pull_request::Owned;

    fn write(&self, mut to: wire::pull_request::Builder<'_>) {
        to.set_reference(self.reference.to_string().as_str());
        if let Some(platform) = &self.platform {
            platform.write(to.reborrow().init_platform());
        }
        if let Some(snapshotter) = &self.unpack {
            to.set_unpack(snapshotter.as_str());
        }
        to.set_plain_http(self.plain_http);
        write_pairs(&self.labels, to.reborrow().init_labels(pair_count(&self.labels)));
    }

    fn read(from: wire::pull_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            reference: Reference::parse(&read_text(from.get_reference())?)?,
            platform: read_platform(from.has_platform(), from.get_platform())?,
            unpack: read_optional_text(from.has_unpack(), from.get_unpack())?,
            plain_http: from.get_plain_http(),
            labels: read_pairs(from.get_labels())?,
        })
    }
}

impl Wire for ImportRequest {
    type Struct = wire::import_request::Owned;

    fn write(&self, mut to: wire::import_request::Builder<'_>) {
        if let Some(base) = &self.base_name {
            to.set_base_id(base.as_str());
        }
        if let Some(platform) = &self.platform {
            platform.write(to.reborrow().init_platform());
        }
        if let Some(snapshotter) = &self.unpack {
            to.set_unpack(snapshotter.as_str());
        }
    }

    fn read(from: wire::import_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            base_name: read_optional_text(from.has_base_id(), from.get_base_id())?,
            platform: read_platform(from.has_platform(), from.get_platform())?,
            unpack: read_optional_text(from.has_unpack(), from.get_unpack())?,
        })
    }
}

impl Wire for PartProgress {
    type Struct = wire::part_progress::Owned;

    fn write(&self, mut to: wire::part_progress::Builder<'_>) {
        to.set_key(self.key.as_str());
        to.set_digest(self.digest.to_string().as_str());
        to.set_status(status_to_wire(self.status));
        to.set_offset(self.offset);
        to.set_total(self.total);
    }

    fn read(from: wire::part_progress::Reader<'_>) -> Result<Self> {
        Ok(Self {
            key: read_text(from.get_key())?,
            digest: read_parsed(from.get_digest())?,
            status: status_from_wire(from.get_status().sound()?),
            offset: from.get_offset(),
            total: from.get_total(),
        })
    }
}

impl Wire for TransferProgress {
    type Struct = wire::transfer_progress::Owned;

    fn write(&self, mut to: wire::transfer_progress::Builder<'_>) {
        to.set_id(self.id);
        to.set_subject(self.subject.as_str());
        write_list(&self.parts, to.reborrow().init_parts(length(&self.parts)));
        let mut state = to.init_state();
        match &self.state {
            TransferState::Running => state.set_running(()),
            TransferState::Done(images) => write_list(images, state.init_done(length(images))),
            TransferState::Failed(error) => error.write(state.init_failed()),
        }
    }

    fn read(from: wire::transfer_progress::Reader<'_>) -> Result<Self> {
        use wire::transfer_progress::state::Which;
        let state = match from.get_state().which().sound()? {
            Which::Running(()) => TransferState::Running,
            Which::Done(images) => TransferState::Done(read_list(images)?),
            Which::Failed(error) => TransferState::Failed(Error::read(error.sound()?)?),
        };
        Ok(Self {
            id: from.get_id(),
            subject: read_text(from.get_subject())?,
            parts: read_list(from.get_parts())?,
            state,
        })
    }
}
