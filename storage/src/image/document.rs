//! Parsing of manifests, indexes and configs: sizes bounded, contradictions refused.

use std::collections::BTreeMap;

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use bosun_types::platform::Platform;

use super::{ImageError, Result};

/// One image: its config and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Docker's or OCI's.
    pub media_type: String,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// Several images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Docker's or OCI's.
    pub media_type: String,
    /// Its entries, in order.
    pub manifests: Vec<IndexEntry>,
}

/// One entry of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Manifest or further index.
    pub descriptor: Descriptor,
    /// Platform, when it says.
    pub platform: Option<Platform>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// An image's config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// What it runs on.
    pub platform: Platform,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// How to run it.
    pub process: ImageProcess,
}

/// How an image wants its process to be run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageProcess {
    /// `user[:group]`, names or numbers; empty for root.
    pub user: String,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// First words of the command line.
    pub entrypoint: Vec<String>,
    /// Words that follow unless the caller gives others.
    pub cmd: Vec<String>,
    /// Working directory; empty for `/`.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to stop, such as `SIGQUIT`.
    pub stop_signal: Option<String>,
    /// Paths that want to be volumes, in order.
    pub volumes: Vec<String>,
}

/// Parses a manifest or an index; `media_type` is what the descriptor or the registry's answer said, empty if nothing.
/// A document with both `manifests` and `layers`, or whose own type contradicts its body, is refused (CVE-2021-41190).
pub fn parse_manifest_or_index(bytes: &[u8], media_type: &str) -> Result<Parsed> {
    let _ = bytes;
    Err(ImageError::Unsupported { media_type: media_type.to_owned() })
}

/// Parses an image's config.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig> {
    let _ = bytes;
    Err(ImageError::Unsupported { media_type: String::new() })
}

impl ImageConfig {
    /// IMG-21: as many layers as diff ids.
    pub fn check_layers(&self, manifest: &Manifest) -> Result<()> {
        if self.diff_ids.len() == manifest.layers.len() {
            return Ok(());
        }
        Err(ImageError::Invalid {
            what: "image".to_owned(),
            why: format!(
                "the manifest has {} layers, the config names {} diff ids",
                manifest.layers.len(),
                self.diff_ids.len()
            ),
        })
    }
}
