//! `lease.capnp` and `gc.capnp`.

use bosun_types::gc::{Chain, Collection, Object, Root};
use bosun_types::lease::{LeaseRecord, LeaseResource};
use bosun_types::{NamespaceName, Result, Timestamp};

use super::{
    Sound, Wire, length, pair_count, read_list, read_pairs, read_parsed, read_text, read_time, write_list,
    write_pairs, write_time,
};
use crate::{gc_capnp as gc, lease_capnp as wire};

impl Wire for LeaseRecord {
    type Struct = wire::lease_record::Owned;

    fn write(&self, mut to: wire::lease_record::Builder<'_>) {
        to.set_namespace(self.namespace.as_str());
        to.set_id(self.id.as_str());
        write_pairs(&self.labels, to.reborrow().init_labels(pair_count(&self.labels)));
        to.set_created_at(self.created_at.0);
    }

    fn read(from: wire::lease_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            namespace: read_parsed(from.get_namespace())?,
            id: read_parsed(from.get_id())?,
            labels: read_pairs(from.get_labels())?,
            created_at: Timestamp(from.get_created_at()),
        })
    }
}

impl Wire for LeaseResource {
    type Struct = wire::lease_resource::Owned;

    fn write(&self, mut to: wire::lease_resource::Builder<'_>) {
        to.set_kind(self.kind().as_str());
        to.set_id(self.id().as_str());
    }

    fn read(from: wire::lease_resource::Reader<'_>) -> Result<Self> {
        Self::parse(&read_text(from.get_kind())?, &read_text(from.get_id())?)
    }
}

impl Wire for Object {
    type Struct = gc::object::Owned;

    fn write(&self, to: gc::object::Builder<'_>) {
        let mut which = to.init_which();
        match self {
            Self::Blob(digest) => which.set_blob(digest.to_string().as_str()),
            Self::Snapshot { snapshotter, key } => {
                let mut name = which.init_snapshot();
                name.set_snapshotter(snapshotter.as_str());
                name.set_key(key.as_str());
            }
        }
    }

    fn read(from: gc::object::Reader<'_>) -> Result<Self> {
        use gc::object::which::Which;
        match from.get_which().which().sound()? {
            Which::Blob(digest) => read_parsed(digest).map(Self::Blob),
            Which::Snapshot(name) => {
                let name = name.sound()?;
                let snapshotter = read_text(name.get_snapshotter())?;
                Ok(Self::Snapshot { snapshotter, key: read_parsed(name.get_key())? })
            }
        }
    }
}

impl Wire for Chain {
    type Struct = gc::chain::Owned;

    fn write(&self, mut to: gc::chain::Builder<'_>) {
        let mut root = to.reborrow().init_root();
        root.set_kind(self.root.kind.as_str());
        root.set_id(self.root.id.as_str());
        root.set_until(write_time(self.root.until));
        write_list(&self.objects, to.init_objects(length(&self.objects)));
    }

    fn read(from: gc::chain::Reader<'_>) -> Result<Self> {
        let root = from.get_root().sound()?;
        let root = Root {
            kind: read_text(root.get_kind())?,
            id: read_text(root.get_id())?,
            until: read_time(root.get_until()),
        };
        Ok(Self { root, objects: read_list(from.get_objects())? })
    }
}

impl Wire for (NamespaceName, Object) {
    type Struct = gc::garbage::Owned;

    fn write(&self, mut to: gc::garbage::Builder<'_>) {
        to.set_namespace(self.0.as_str());
        self.1.write(to.init_object());
    }

    fn read(from: gc::garbage::Reader<'_>) -> Result<Self> {
        Ok((read_parsed(from.get_namespace())?, Object::read(from.get_object().sound()?)?))
    }
}

impl Wire for Collection {
    type Struct = gc::collection::Owned;

    fn write(&self, mut to: gc::collection::Builder<'_>) {
        to.set_blobs(self.blobs);
        to.set_blob_bytes(self.blob_bytes);
        to.set_snapshots(self.snapshots);
        to.set_snapshot_bytes(self.snapshot_bytes);
        to.set_leases(self.leases);
        to.set_ingests(self.ingests);
        to.set_examined(self.examined);
        write_list(&self.objects, to.init_objects(length(&self.objects)));
    }

    fn read(from: gc::collection::Reader<'_>) -> Result<Self> {
        Ok(Self {
            blobs: from.get_blobs(),
            blob_bytes: from.get_blob_bytes(),
            snapshots: from.get_snapshots(),
            snapshot_bytes: from.get_snapshot_bytes(),
            leases: from.get_leases(),
            ingests: from.get_ingests(),
            examined: from.get_examined(),
            objects: read_list(from.get_objects())?,
        })
    }
}
