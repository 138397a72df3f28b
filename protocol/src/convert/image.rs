//! `image.capnp` and `namespace.capnp`: the two plain records.

use bosun_types::content::Descriptor;
use bosun_types::image::ImageRecord;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::{Result, Timestamp};

use super::{Sound, Wire, pair_count, read_pairs, read_parsed, write_pairs};
use crate::{image_capnp, namespace_capnp};

impl Wire for ImageRecord {
    type Struct = image_capnp::image_record::Owned;

    fn write(&self, mut to: image_capnp::image_record::Builder<'_>) {
        to.set_namespace(self.namespace.as_str());
        to.set_id(self.name.as_str());
        self.target.write(to.reborrow().init_target());
        write_pairs(&self.labels, to.reborrow().init_labels(pair_count(&self.labels)));
        to.set_created_at(self.created_at.0);
        to.set_updated_at(self.updated_at.0);
    }

    fn read(from: image_capnp::image_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            namespace: read_parsed(from.get_namespace())?,
            name: read_parsed(from.get_id())?,
            target: Descriptor::read(from.get_target().sound()?)?,
            labels: read_pairs(from.get_labels())?,
            created_at: Timestamp(from.get_created_at()),
            updated_at: Timestamp(from.get_updated_at()),
        })
    }
}

impl Wire for NamespaceRecord {
    type Struct = namespace_capnp::namespace_record::Owned;

    fn write(&self, mut to: namespace_capnp::namespace_record::Builder<'_>) {
        to.set_id(self.name.as_str());
        write_pairs(&self.labels, to.reborrow().init_labels(pair_count(&self.labels)));
        to.set_created_at(self.created_at.0);
        to.set_updated_at(self.updated_at.0);
    }

    fn read(from: namespace_capnp::namespace_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            name: read_parsed(from.get_id())?,
            labels: read_pairs(from.get_labels())?,
            created_at: Timestamp(from.get_created_at()),
            updated_at: Timestamp(from.get_updated_at()),
        })
    }
}
