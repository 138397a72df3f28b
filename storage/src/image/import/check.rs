//! Whether everything is there that the images need, before any of them gets a name.

use std::collections::{BTreeMap, BTreeSet};

use bosun_types::Digest;
use bosun_types::content::Descriptor;

use super::intake::Archive;
use super::{ImportError, ImportOptions, invalid};
use crate::image::{
    CONFIG_BYTES_MAX, Index, MANIFEST_BYTES_MAX, Manifest, Parsed, media_type, parse_config,
    parse_manifest_or_index,
};

/// Indexes inside indexes.
const DEPTH_MAX: u32 = 4;

/// Walks from the images down, each document once.
pub(super) struct Check<'a> {
    archive: &'a Archive<'a>,
    options: &'a ImportOptions<'a>,
    done: BTreeSet<Digest>,
    media_types: BTreeMap<Digest, String>,
}

impl<'a> Check<'a> {
    pub(super) fn new(archive: &'a Archive<'a>, options: &'a ImportOptions<'a>) -> Self {
        Self { archive, options, done: BTreeSet::new(), media_types: BTreeMap::new() }
    }

    /// The media type of every blob that an image points at.
    pub(super) fn finish(self) -> BTreeMap<Digest, String> {
        self.media_types
    }

    pub(super) fn root(&mut self, target: &Descriptor) -> Result<(), ImportError> {
        self.require(target, "an image")?;
        self.document(target, DEPTH_MAX)
    }

    fn is_present(&self, digest: &Digest) -> bool {
        self.archive.blobs.contains_key(digest) || (self.options.known)(digest)
    }

    fn require(&mut self, descriptor: &Descriptor, by: &str) -> Result<(), ImportError> {
        if !self.is_present(&descriptor.digest) {
            return Err(ImportError::MissingBlob { by: by.to_owned(), digest: descriptor.digest });
        }
        let size = self.archive.store.blob_size(&descriptor.digest)?;
        if size != descriptor.size {
            let (digest, promised) = (descriptor.digest, descriptor.size);
            return Err(invalid(format!("{by} says that {digest} has {promised} bytes, it has {size}")));
        }
        self.media_types.entry(descriptor.digest).or_insert_with(|| descriptor.media_type.clone());
        Ok(())
    }

    fn document(&mut self, descriptor: &Descriptor, depth: u32) -> Result<(), ImportError> {
        if !self.done.insert(descriptor.digest) {
            return Ok(());
        }
        let bytes = self.archive.read(&descriptor.digest, MANIFEST_BYTES_MAX)?;
        match parse_manifest_or_index(&bytes, &descriptor.media_type)? {
            Parsed::Manifest(manifest) => self.manifest(&manifest, &descriptor.digest),
            Parsed::Index(index) => self.index(&index, &descriptor.digest, depth),
        }
    }

    fn manifest(&mut self, manifest: &Manifest, digest: &Digest) -> Result<(), ImportError> {
        let by = format!("manifest {digest}");
        self.require(&manifest.config, &by)?;
        for layer in &manifest.layers {
            // One that may not be given on may be left out of archives.
            if self.is_present(&layer.digest) || !media_type::is_non_distributable(&layer.media_type) {
                self.require(layer, &by)?;
            }
        }
        if media_type::is_config(&manifest.config.media_type) {
            let config = parse_config(&self.archive.read(&manifest.config.digest, CONFIG_BYTES_MAX)?)?;
            config.check_layers(manifest)?;
        }
        Ok(())
    }

    /// IEX-4: some platforms of an index may be absent, but not all.
    fn index(&mut self, index: &Index, digest: &Digest, depth: u32) -> Result<(), ImportError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(invalid(format!("index {digest} lies in more than {DEPTH_MAX} others")));
        };
        let by = format!("index {digest}");
        let mut absent = None;
        let mut present = false;
        for entry in &index.manifests {
            if !self.is_present(&entry.descriptor.digest) {
                absent = absent.or(Some(entry.descriptor.digest));
                continue;
            }
            present = true;
            self.require(&entry.descriptor, &by)?;
            let kind = &entry.descriptor.media_type;
            if media_type::is_manifest(kind) || media_type::is_index(kind) {
                self.document(&entry.descriptor, depth)?;
            }
        }
        match absent {
            Some(digest) if !present => Err(ImportError::MissingBlob { by, digest }),
            _ => Ok(()),
        }
    }
}
