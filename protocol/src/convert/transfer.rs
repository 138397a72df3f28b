//! `transfer.capnp`: requests and progress.

use bosun_types::platform::Platform;
use bosun_types::reference::Reference;
use bosun_types::transfer::{
    Credential, ExportRequest, ImportRequest, ObjectRequest, PartProgress, PartStatus, Platforms,
    PullRequest, PushRequest, TransferKind, TransferProgress, TransferState,
};
use bosun_types::{Error, ImageName, Result};

use super::common::enum_both_ways;
use super::{
    Sound, Wire, length, pair_count, read_list, read_optional_parsed, read_optional_text, read_pairs,
    read_parsed, read_text, read_texts, write_list, write_pairs, write_texts,
};
use crate::transfer_capnp as wire;

enum_both_ways!(
    PartStatus,
    wire::PartStatus,
    status_to_wire,
    status_from_wire,
    [Waiting, Downloading, Unpacking, Done, Exists, Uploading, Mounted]
);

fn kind_to_wire(kind: TransferKind) -> wire::TransferKind {
    match kind {
        TransferKind::Pull => wire::TransferKind::Pull,
        TransferKind::Push => wire::TransferKind::Push,
        TransferKind::FetchObject => wire::TransferKind::FetchObject,
        TransferKind::PushObject => wire::TransferKind::PushObject,
        TransferKind::Import => wire::TransferKind::ImportArchive,
        TransferKind::Export => wire::TransferKind::ExportArchive,
        TransferKind::Diff => wire::TransferKind::Diff,
        TransferKind::Apply => wire::TransferKind::Apply,
    }
}

const fn kind_from_wire(kind: wire::TransferKind) -> TransferKind {
    match kind {
        wire::TransferKind::Pull => TransferKind::Pull,
        wire::TransferKind::Push => TransferKind::Push,
        wire::TransferKind::FetchObject => TransferKind::FetchObject,
        wire::TransferKind::PushObject => TransferKind::PushObject,
        wire::TransferKind::ImportArchive => TransferKind::Import,
        wire::TransferKind::ExportArchive => TransferKind::Export,
        wire::TransferKind::Diff => TransferKind::Diff,
        wire::TransferKind::Apply => TransferKind::Apply,
    }
}

impl Wire for Credential {
    type Struct = wire::credential::Owned;

    fn write(&self, mut to: wire::credential::Builder<'_>) {
        to.set_user(self.user.as_str());
        to.set_secret(self.secret.as_str());
    }

    fn read(from: wire::credential::Reader<'_>) -> Result<Self> {
        Ok(Self { user: read_text(from.get_user())?, secret: read_text(from.get_secret())? })
    }
}

/// The credential beside a request: it is no part of the request itself, which is stored.
pub fn read_credential(
    given: bool,
    field: capnp::Result<wire::credential::Reader<'_>>,
) -> Result<Option<Credential>> {
    if given { Credential::read(field.sound()?).map(Some) } else { Ok(None) }
}

fn read_platform(
    given: bool,
    field: capnp::Result<crate::common_capnp::platform::Reader<'_>>,
) -> Result<Option<Platform>> {
    if given { Platform::read(field.sound()?).map(Some) } else { Ok(None) }
}

fn platforms_of(all: bool, platforms: Vec<Platform>) -> Platforms {
    match (all, platforms.is_empty()) {
        (true, _) => Platforms::All,
        (false, true) => Platforms::Host,
        (false, false) => Platforms::Only(platforms),
    }
}

impl Wire for PullRequest {
    type Struct = wire::pull_request::Owned;

    fn write(&self, mut to: wire::pull_request::Builder<'_>) {
        to.set_reference(self.reference.to_string().as_str());
        match &self.platforms {
            Platforms::Host => {}
            Platforms::Only(platforms) => {
                write_list(platforms, to.reborrow().init_platforms(length(platforms)));
            }
            Platforms::All => to.set_all_platforms(true),
        }
        if let Some(snapshotter) = &self.unpack {
            to.set_unpack(snapshotter.as_str());
        }
        to.set_plain_http(self.plain_http);
        write_pairs(&self.labels, to.reborrow().init_labels(pair_count(&self.labels)));
        to.set_convert_schema1(self.convert_schema1);
    }

    fn read(from: wire::pull_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            reference: Reference::parse(&read_text(from.get_reference())?)?,
            platforms: platforms_of(from.get_all_platforms(), read_list(from.get_platforms())?),
            unpack: read_optional_text(from.has_unpack(), from.get_unpack())?,
            plain_http: from.get_plain_http(),
            labels: read_pairs(from.get_labels())?,
            convert_schema1: from.get_convert_schema1(),
        })
    }
}

impl Wire for PushRequest {
    type Struct = wire::push_request::Owned;

    fn write(&self, mut to: wire::push_request::Builder<'_>) {
        to.set_reference(self.reference.to_string().as_str());
        if let Some(image) = &self.image {
            to.set_image(image.as_str());
        }
        if let Some(platform) = &self.platform {
            platform.write(to.reborrow().init_platform());
        }
        to.set_plain_http(self.plain_http);
        to.set_non_distributable(self.non_distributable);
    }

    fn read(from: wire::push_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            reference: Reference::parse(&read_text(from.get_reference())?)?,
            image: read_optional_parsed(from.has_image(), from.get_image())?,
            platform: read_platform(from.has_platform(), from.get_platform())?,
            plain_http: from.get_plain_http(),
            non_distributable: from.get_non_distributable(),
        })
    }
}

impl Wire for ObjectRequest {
    type Struct = wire::object_request::Owned;

    fn write(&self, mut to: wire::object_request::Builder<'_>) {
        to.set_reference(self.reference.to_string().as_str());
        to.set_digest(self.digest.to_string().as_str());
        to.set_media_type(self.media_type.as_str());
        to.set_plain_http(self.plain_http);
    }

    fn read(from: wire::object_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            reference: Reference::parse(&read_text(from.get_reference())?)?,
            digest: read_parsed(from.get_digest())?,
            media_type: read_text(from.get_media_type())?,
            plain_http: from.get_plain_http(),
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
        to.set_all_platforms(self.all_platforms);
        to.set_digests(self.digests);
    }

    fn read(from: wire::import_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            base_name: read_optional_text(from.has_base_id(), from.get_base_id())?,
            platform: read_platform(from.has_platform(), from.get_platform())?,
            unpack: read_optional_text(from.has_unpack(), from.get_unpack())?,
            all_platforms: from.get_all_platforms(),
            digests: from.get_digests(),
        })
    }
}

impl Wire for ExportRequest {
    type Struct = wire::export_request::Owned;

    fn write(&self, mut to: wire::export_request::Builder<'_>) {
        let images: Vec<String> = self.images.iter().map(ToString::to_string).collect();
        write_texts(&images, to.reborrow().init_images(length(&images)));
        match &self.platforms {
            Platforms::Host => {}
            Platforms::Only(platforms) => {
                write_list(platforms, to.reborrow().init_platforms(length(platforms)));
            }
            Platforms::All => to.set_all_platforms(true),
        }
        to.set_docker(self.docker);
        to.set_skip_non_distributable(self.skip_non_distributable);
    }

    fn read(from: wire::export_request::Reader<'_>) -> Result<Self> {
        let images: Vec<String> = read_texts(from.get_images())?;
        Ok(Self {
            images: images.into_iter().map(ImageName::new).collect::<Result<_>>()?,
            platforms: platforms_of(from.get_all_platforms(), read_list(from.get_platforms())?),
            docker: from.get_docker(),
            skip_non_distributable: from.get_skip_non_distributable(),
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
        to.set_kind(kind_to_wire(self.kind));
        to.set_subject(self.subject.as_str());
        to.set_bytes(self.bytes);
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
            kind: kind_from_wire(from.get_kind().sound()?),
            subject: read_text(from.get_subject())?,
            parts: read_list(from.get_parts())?,
            bytes: from.get_bytes(),
            state,
        })
    }
}
