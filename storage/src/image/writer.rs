//! Builds small images: for tests, the demo and the benches. The same input gives the same bytes: times are the epoch,
//! owners root unless said otherwise, and order is that of the calls or of the names.

use std::collections::BTreeMap;

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use bosun_types::platform::Platform;
use serde_json::{Value, json};

use super::{ImageProcess, digest_of, media_type};
use crate::compression::Compression;

mod layer;
mod output;

pub use layer::{Layer, LayerBuilder, LayerEntry, LayerEntryKind};

/// When everything was made: what is the same each time.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Whose media types a built image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// OCI.
    #[default]
    Oci,
    /// Docker's schema 2.
    Docker,
}

impl Dialect {
    fn layer(self, compression: Compression) -> String {
        let (base, separator) = match self {
            Self::Oci => (media_type::OCI_LAYER, '+'),
            Self::Docker => (media_type::DOCKER_LAYER, '.'),
        };
        match compression {
            Compression::None => base.to_owned(),
            Compression::Gzip => format!("{base}{separator}gzip"),
            Compression::Zstd => format!("{base}{separator}zstd"),
        }
    }

    const fn config(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_CONFIG,
            Self::Docker => media_type::DOCKER_CONFIG,
        }
    }

    const fn manifest(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_MANIFEST,
            Self::Docker => media_type::DOCKER_MANIFEST,
        }
    }

    const fn index(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_INDEX,
            Self::Docker => media_type::DOCKER_MANIFEST_LIST,
        }
    }
}

/// Describes one image.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    /// What it runs on.
    pub platform: Platform,
    /// How to run it.
    pub process: ImageProcess,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// Whose media types.
    pub dialect: Dialect,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

impl ImageBuilder {
    /// An image for this host, without layers.
    pub fn new() -> Self {
        Self {
            platform: Platform::host(),
            process: ImageProcess::default(),
            layers: Vec::new(),
            dialect: Dialect::Oci,
            annotations: BTreeMap::new(),
        }
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Makes the documents.
    pub fn build(self) -> BuiltImage {
        let config_bytes = to_bytes(&self.config());
        let config = describe(self.dialect.config().to_owned(), &config_bytes);
        let layers: Vec<Descriptor> = self
            .layers
            .iter()
            .map(|layer| describe(self.dialect.layer(layer.compression), &layer.bytes))
            .collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.dialect.manifest(),
            "config": &config,
            "layers": &layers,
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        let manifest_bytes = to_bytes(&manifest);
        let target = describe(self.dialect.manifest().to_owned(), &manifest_bytes);
        let mut blobs = Vec::new();
        for (descriptor, layer) in layers.into_iter().zip(self.layers) {
            add_blob(&mut blobs, descriptor, layer.bytes);
        }
        add_blob(&mut blobs, config, config_bytes);
        add_blob(&mut blobs, target.clone(), manifest_bytes);
        BuiltImage { blobs, target, platforms: vec![self.platform] }
    }

    fn config(&self) -> Value {
        let process = &self.process;
        let mut config = serde_json::Map::new();
        let mut set = |key: &str, value: Value, is_set: bool| {
            if is_set {
                config.insert(key.to_owned(), value);
            }
        };
        set("User", json!(process.user), !process.user.is_empty());
        set("Env", json!(process.env), !process.env.is_empty());
        set("Entrypoint", json!(process.entrypoint), !process.entrypoint.is_empty());
        set("Cmd", json!(process.cmd), !process.cmd.is_empty());
        set("WorkingDir", json!(process.working_dir), !process.working_dir.is_empty());
        set("Labels", json!(process.labels), !process.labels.is_empty());
        set("StopSignal", json!(process.stop_signal), process.stop_signal.is_some());
        let volumes: BTreeMap<&String, Value> =
            process.volumes.iter().map(|path| (path, json!({}))).collect();
        set("Volumes", json!(volumes), !volumes.is_empty());
        let diff_ids: Vec<Digest> = self.layers.iter().map(|layer| layer.diff_id).collect();
        let mut image = json!({
            "created": CREATED,
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        if !self.platform.variant.is_empty() {
            image["variant"] = json!(self.platform.variant);
        }
        image
    }
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// A finished image or index with all its blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Every blob once, in an order fit for pushing: what is pointed at comes first, the target is last.
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
    /// The manifest or index.
    pub target: Descriptor,
    /// Platforms of the manifests in it.
    pub platforms: Vec<Platform>,
}

impl BuiltImage {
    /// One index over several images.
    pub fn index(images: Vec<BuiltImage>, dialect: Dialect) -> BuiltImage {
        let mut blobs = Vec::new();
        let mut platforms = Vec::new();
        let mut manifests = Vec::new();
        for image in images {
            let mut entry = json!(image.target);
            if let Some(platform) = image.platforms.first() {
                entry["platform"] = json!({ "os": platform.os, "architecture": platform.architecture });
                if !platform.variant.is_empty() {
                    entry["platform"]["variant"] = json!(platform.variant);
                }
            }
            manifests.push(entry);
            platforms.extend(image.platforms);
            for (descriptor, bytes) in image.blobs {
                add_blob(&mut blobs, descriptor, bytes);
            }
        }
        let bytes =
            to_bytes(&json!({ "schemaVersion": 2, "mediaType": dialect.index(), "manifests": manifests }));
        let target = describe(dialect.index().to_owned(), &bytes);
        add_blob(&mut blobs, target.clone(), bytes);
        BuiltImage { blobs, target, platforms }
    }

    /// The bytes of one of its blobs.
    pub fn blob(&self, digest: &Digest) -> Option<&[u8]> {
        let found = self.blobs.iter().find(|(descriptor, _)| descriptor.digest == *digest);
        found.map(|(_, bytes)| bytes.as_slice())
    }
}

fn add_blob(blobs: &mut Vec<(Descriptor, Vec<u8>)>, descriptor: Descriptor, bytes: Vec<u8>) {
    if !blobs.iter().any(|(known, _)| known.digest == descriptor.digest) {
        blobs.push((descriptor, bytes));
    }
}

fn describe(media_type: String, bytes: &[u8]) -> Descriptor {
    Descriptor { media_type, digest: digest_of(bytes), size: bytes.len() as u64 }
}

pub(super) fn to_bytes(document: &Value) -> Vec<u8> {
    // Maps of `Value` are ordered by key, so the bytes are the same each time.
    serde_json::to_vec(document).expect("a JSON value has no map keys but text")
}
