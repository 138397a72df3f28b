//! `snapshot.capnp`.

use bosun_types::snapshot::{SnapshotKind, SnapshotRecord, Usage};
use bosun_types::{Result, Timestamp};

use super::common::enum_both_ways;
use super::{Sound, Wire, pair_count, read_optional_parsed, read_pairs, read_parsed, read_text, write_pairs};
use crate::snapshot_capnp as wire;

enum_both_ways!(SnapshotKind, wire::SnapshotKind, kind_to_wire, kind_from_wire, [View, Active, Committed]);

impl Wire for Usage {
    type Struct = wire::usage::Owned;

    fn write(&self, mut to: wire::usage::Builder<'_>) {
        to.set_size_bytes(self.size_bytes);
        to.set_inodes(self.inodes);
    }

    fn read(from: wire::usage::Reader<'_>) -> Result<Self> {
        Ok(Self { size_bytes: from.get_size_bytes(), inodes: from.get_inodes() })
    }
}

impl Wire for SnapshotRecord {
    type Struct = wire::snapshot_record::Owned;

    fn write(&self, mut to: wire::snapshot_record::Builder<'_>) {
        to.set_namespace(self.namespace.as_str());
        to.set_snapshotter(self.snapshotter.as_str());
        to.set_key(self.key.as_str());
        if let Some(parent) = &self.parent {
            to.set_parent(parent.as_str());
        }
        to.set_kind(kind_to_wire(self.kind));
        to.set_directory(self.directory);
        write_pairs(&self.labels, to.reborrow().init_labels(pair_count(&self.labels)));
        if let Some(usage) = &self.usage {
            usage.write(to.reborrow().init_usage());
        }
        to.set_created_at(self.created_at.0);
        to.set_updated_at(self.updated_at.0);
    }

    fn read(from: wire::snapshot_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            namespace: read_parsed(from.get_namespace())?,
            snapshotter: read_text(from.get_snapshotter())?,
            key: read_parsed(from.get_key())?,
            parent: read_optional_parsed(from.has_parent(), from.get_parent())?,
            kind: kind_from_wire(from.get_kind().sound()?),
            directory: from.get_directory(),
            labels: read_pairs(from.get_labels())?,
            usage: if from.has_usage() { Some(Usage::read(from.get_usage().sound()?)?) } else { None },
            created_at: Timestamp(from.get_created_at()),
            updated_at: Timestamp(from.get_updated_at()),
        })
    }
}
