//! Builds small images: for tests, the demo and the benches. The same input gives the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use bosun_types::platform::Platform;

use super::ImageProcess;
use crate::compression::Compression;

/// Whose media types a built image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// OCI.
    #[default]
    Oci,
    /// Docker's schema 2.
    Docker,
}

/// Collects the entries of one layer.
#[derive(Debug, Default)]
pub struct LayerBuilder {
    tar: Vec<u8>,
}

impl LayerBuilder {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }
    /// A directory.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        let _ = (path, mode);
        self
    }
    /// A regular file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        let _ = (path, mode, bytes);
        self
    }
    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        let _ = (path, target);
        self
    }
    /// A hard link to an earlier file of the layer.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        let _ = (path, target);
        self
    }
    /// Removes `path` of the layers below.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let _ = path;
        self
    }
    /// Hides what the layers below have in directory `path`.
    #[must_use]
    pub fn opaque(self, path: &str) -> Self {
        let _ = path;
        self
    }
    /// Everything below a directory of the host, owned by root, in order of name.
    pub fn directory_tree(self, source: &Path) -> io::Result<Self> {
        let _ = source;
        Ok(self)
    }
    /// Ends the archive and compresses it.
    pub fn build(self, compression: Compression) -> io::Result<Layer> {
        let _ = (self.tar, compression);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A finished layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// As stored and pushed.
    pub bytes: Vec<u8>,
    /// How `bytes` is compressed.
    pub compression: Compression,
    /// Digest of `bytes`.
    pub digest: Digest,
    /// Digest of the plain tar.
    pub diff_id: Digest,
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
        BuiltImage {
            blobs: Vec::new(),
            target: Descriptor { media_type: String::new(), digest: Digest::from_bytes([0; 32]), size: 0 },
            platforms: Vec::new(),
        }
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
    /// Every blob in an order fit for pushing: what is pointed at comes first, the target is last.
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
    /// The manifest or index.
    pub target: Descriptor,
    /// Platforms of the manifests in it.
    pub platforms: Vec<Platform>,
}

impl BuiltImage {
    /// One index over several images.
    pub fn index(images: Vec<BuiltImage>, dialect: Dialect) -> BuiltImage {
        let _ = dialect;
        images.into_iter().next().unwrap_or_else(|| ImageBuilder::new().build())
    }
    /// Writes an OCI layout directory.
    pub fn write_oci_layout(&self, directory: &Path, name: Option<&str>) -> io::Result<()> {
        let _ = (directory, name);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Writes an OCI layout as a tar stream (IEX-1); `name` becomes the ref annotation.
    pub fn write_oci_tar(&self, output: impl Write, name: Option<&str>) -> io::Result<()> {
        let _ = (output, name);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Writes what `docker save` wrote before it knew OCI (IEX-6); only for a single image.
    pub fn write_docker_save(&self, output: impl Write, names: &[&str]) -> io::Result<()> {
        let _ = (output, names);
        Err(io::ErrorKind::Unsupported.into())
    }
}
