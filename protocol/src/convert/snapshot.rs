//! `snapshot.capnp`.

use bosun_types::content::Descriptor;
use bosun_types::diff::{DiffRequest, LayerDiff};
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord, Usage};
use bosun_types::{Result, Timestamp};

use super::common::enum_both_ways;
use super::{
    Sound, Wire, pair_count, read_optional_parsed, read_optional_text, read_pairs, read_parsed, read_text,
    write_pairs,
};
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

impl Wire for DiffRequest {
    type Struct = wire::diff_request::Owned;

    fn write(&self, mut to: wire::diff_request::Builder<'_>) {
        if let Some(left) = &self.left {
            to.set_left(left.as_str());
        }
        to.set_right(self.right.as_str());
        to.set_media_type(self.media_type.as_str());
        if let Some(reference) = &self.reference {
            to.set_reference(reference.as_str());
        }
        write_pairs(&self.labels, to.reborrow().init_labels(pair_count(&self.labels)));
        if let Some(container) = &self.freeze {
            to.set_freeze(container.as_str());
        }
    }

    fn read(from: wire::diff_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            left: read_optional_parsed(from.has_left(), from.get_left())?,
            right: read_parsed(from.get_right())?,
            media_type: read_text(from.get_media_type())?,
            reference: read_optional_text(from.has_reference(), from.get_reference())?,
            labels: read_pairs(from.get_labels())?,
            freeze: read_optional_parsed(from.has_freeze(), from.get_freeze())?,
        })
    }
}

impl Wire for LayerDiff {
    type Struct = wire::layer_diff::Owned;

    fn write(&self, mut to: wire::layer_diff::Builder<'_>) {
        self.layer.write(to.reborrow().init_layer());
        to.set_diff_id(self.diff_id.to_string().as_str());
    }

    fn read(from: wire::layer_diff::Reader<'_>) -> Result<Self> {
        Ok(Self {
            layer: Descriptor::read(from.get_layer().sound()?)?,
            diff_id: read_parsed(from.get_diff_id())?,
        })
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
