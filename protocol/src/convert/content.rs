//! `content.capnp`: blobs and ingests.

use bosun_types::content::{ContentRecord, Finding, IngestStatus};
use bosun_types::{Result, Timestamp};

use super::{
    Wire, length, pair_count, read_optional_parsed, read_pairs, read_parsed, read_text, read_texts,
    write_pairs, write_texts,
};
use crate::content_capnp as wire;

impl Wire for ContentRecord {
    type Struct = wire::content_record::Owned;

    fn write(&self, mut to: wire::content_record::Builder<'_>) {
        to.set_namespace(self.namespace.as_str());
        to.set_digest(self.digest.to_string().as_str());
        to.set_size(self.size);
        write_pairs(&self.labels, to.reborrow().init_labels(pair_count(&self.labels)));
        to.set_created_at(self.created_at.0);
        to.set_updated_at(self.updated_at.0);
    }

    fn read(from: wire::content_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            namespace: read_parsed(from.get_namespace())?,
            digest: read_parsed(from.get_digest())?,
            size: from.get_size(),
            labels: read_pairs(from.get_labels())?,
            created_at: Timestamp(from.get_created_at()),
            updated_at: Timestamp(from.get_updated_at()),
        })
    }
}

impl Wire for IngestStatus {
    type Struct = wire::ingest_status::Owned;

    fn write(&self, mut to: wire::ingest_status::Builder<'_>) {
        to.set_reference(self.reference.as_str());
        to.set_offset(self.offset);
        to.set_total(self.total);
        if let Some(expected) = &self.expected {
            to.set_expected(expected.to_string().as_str());
        }
        if let Some(digest) = &self.digest {
            to.set_digest(digest.to_string().as_str());
        }
        to.set_started_at(self.started_at.0);
        to.set_updated_at(self.updated_at.0);
    }

    fn read(from: wire::ingest_status::Reader<'_>) -> Result<Self> {
        Ok(Self {
            reference: read_text(from.get_reference())?,
            offset: from.get_offset(),
            total: from.get_total(),
            expected: read_optional_parsed(from.has_expected(), from.get_expected())?,
            digest: read_optional_parsed(from.has_digest(), from.get_digest())?,
            started_at: Timestamp(from.get_started_at()),
            updated_at: Timestamp(from.get_updated_at()),
        })
    }
}

impl Wire for Finding {
    type Struct = wire::finding::Owned;

    fn write(&self, mut to: wire::finding::Builder<'_>) {
        to.set_repaired(self.repaired);
        write_texts(&self.damage, to.init_damage(length(&self.damage)));
    }

    fn read(from: wire::finding::Reader<'_>) -> Result<Self> {
        Ok(Self { damage: read_texts(from.get_damage())?, repaired: from.get_repaired() })
    }
}
