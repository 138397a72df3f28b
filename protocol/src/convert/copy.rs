//! `container.capnp`: copies out of containers and into them.

use bosun_types::copy::{Copied, CopyIn, CopyOut, FileInfo, FileKind};
use bosun_types::{Result, Timestamp};

use super::common::enum_both_ways;
use super::{Sound, Wire, read_optional_text, read_text};
use crate::container_capnp as wire;

enum_both_ways!(FileKind, wire::FileKind, kind_to_wire, kind_from_wire, [File, Directory, Symlink, Other]);

impl Wire for FileInfo {
    type Struct = wire::file_info::Owned;

    fn write(&self, mut to: wire::file_info::Builder<'_>) {
        to.set_kind(kind_to_wire(self.kind));
        to.set_size(self.size);
        to.set_mode(self.mode);
        to.set_modified_at(self.modified_at.0);
        if let Some(link) = &self.link {
            to.set_link(link.as_str());
        }
    }

    fn read(from: wire::file_info::Reader<'_>) -> Result<Self> {
        Ok(Self {
            kind: kind_from_wire(from.get_kind().sound()?),
            size: from.get_size(),
            mode: from.get_mode(),
            modified_at: Timestamp(from.get_modified_at()),
            link: read_optional_text(from.has_link(), from.get_link())?,
        })
    }
}

impl Wire for CopyOut {
    type Struct = wire::copy_out::Owned;

    fn write(&self, mut to: wire::copy_out::Builder<'_>) {
        to.set_path(self.path.as_str());
        to.set_rename(self.rename.as_str());
        to.set_follow(self.follow);
    }

    fn read(from: wire::copy_out::Reader<'_>) -> Result<Self> {
        Ok(Self {
            path: read_text(from.get_path())?,
            rename: read_text(from.get_rename())?,
            follow: from.get_follow(),
        })
    }
}

impl Wire for CopyIn {
    type Struct = wire::copy_in::Owned;

    fn write(&self, mut to: wire::copy_in::Builder<'_>) {
        to.set_directory(self.directory.as_str());
        to.set_keep_owners(self.keep_owners);
    }

    fn read(from: wire::copy_in::Reader<'_>) -> Result<Self> {
        Ok(Self { directory: read_text(from.get_directory())?, keep_owners: from.get_keep_owners() })
    }
}

impl Wire for Copied {
    type Struct = wire::copied::Owned;

    fn write(&self, mut to: wire::copied::Builder<'_>) {
        to.set_entries(self.entries);
        to.set_bytes(self.bytes);
        to.set_skipped(self.skipped);
    }

    fn read(from: wire::copied::Reader<'_>) -> Result<Self> {
        Ok(Self { entries: from.get_entries(), bytes: from.get_bytes(), skipped: from.get_skipped() })
    }
}
