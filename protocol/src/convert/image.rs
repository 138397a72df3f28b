//! `image.capnp` and `namespace.capnp`: the two plain records.

use bosun_types::content::Descriptor;
use bosun_types::image::{ImageDetail, ImageRecord};
use bosun_types::namespace::NamespaceRecord;
use bosun_types::{Digest, Result, Timestamp};

use super::{
    Sound, Wire, length, pair_count, read_list, read_optional_parsed, read_pairs, read_parsed, read_texts,
    write_list, write_pairs, write_texts,
};
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

impl Wire for ImageDetail {
    type Struct = image_capnp::image_detail::Owned;

    fn write(&self, mut to: image_capnp::image_detail::Builder<'_>) {
        self.record.write(to.reborrow().init_record());
        write_list(&self.platforms, to.reborrow().init_platforms(length(&self.platforms)));
        if let Some(manifest) = &self.manifest {
            manifest.write(to.reborrow().init_manifest());
        }
        if let Some(config) = &self.config {
            config.write(to.reborrow().init_config());
        }
        if let Some(json) = &self.config_json {
            to.set_config_json(json);
        }
        let diff_ids: Vec<String> = self.diff_ids.iter().map(Digest::to_string).collect();
        write_texts(&diff_ids, to.reborrow().init_diff_ids(length(&diff_ids)));
        if let Some(chain) = &self.chain_id {
            to.set_chain_id(chain.to_string().as_str());
        }
        write_list(&self.layers, to.reborrow().init_layers(length(&self.layers)));
        to.set_size(self.size);
        write_list(&self.missing, to.reborrow().init_missing(length(&self.missing)));
        to.set_unpacked(self.unpacked);
    }

    fn read(from: image_capnp::image_detail::Reader<'_>) -> Result<Self> {
        let descriptor = |given: bool, field: capnp::Result<_>| {
            if given { Ok(Some(Descriptor::read(field.sound()?)?)) } else { Ok(None) }
        };
        let json = if from.has_config_json() { Some(from.get_config_json().sound()?.to_vec()) } else { None };
        let diff_ids = read_texts(from.get_diff_ids())?;
        Ok(Self {
            record: ImageRecord::read(from.get_record().sound()?)?,
            platforms: read_list(from.get_platforms())?,
            manifest: descriptor(from.has_manifest(), from.get_manifest())?,
            config: descriptor(from.has_config(), from.get_config())?,
            config_json: json,
            diff_ids: diff_ids.iter().map(|text| text.parse()).collect::<Result<_>>()?,
            chain_id: read_optional_parsed(from.has_chain_id(), from.get_chain_id())?,
            layers: read_list(from.get_layers())?,
            size: from.get_size(),
            missing: read_list(from.get_missing())?,
            unpacked: from.get_unpacked(),
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
