//! Parsing of manifests, indexes and configs: sizes bounded, contradictions refused.

use std::collections::BTreeMap;

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use bosun_types::platform::Platform;

use serde::Deserialize;

use super::{CONFIG_BYTES_MAX, ImageError, LAYERS_MAX, MANIFEST_BYTES_MAX, Result, media_type};

/// Addresses of one layer that are tried.
const URLS_MAX: usize = 8;

/// One image: its config and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Docker's or OCI's.
    pub media_type: String,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Where layers are that may not be given on.
    pub elsewhere: Elsewhere,
}

/// Addresses outside of the registry, by what is there.
pub type Elsewhere = BTreeMap<Digest, Vec<String>>;

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

impl IndexEntry {
    /// Whether it says that it is a manifest or a further index: an index may name anything.
    pub fn is_document(&self) -> bool {
        media_type::is_manifest(&self.descriptor.media_type)
            || media_type::is_index(&self.descriptor.media_type)
    }
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

/// A descriptor as documents write it. `urls` count for layers alone that may not be given on: everything else comes from the registry that was
/// named (CVE-2020-15157). `data` is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: Option<String>,
    digest: String,
    size: i64,
    platform: Option<RawPlatform>,
    annotations: Option<BTreeMap<String, String>>,
    urls: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

/// Manifest and index in one: which it is shows only by what it has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: Option<i64>,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    /// Of docker's schema 1.
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    rootfs: Option<RawRootFs>,
    config: Option<RawProcess>,
}

#[derive(Deserialize)]
struct RawRootFs {
    #[serde(rename = "type")]
    kind: Option<String>,
    diff_ids: Option<Vec<String>>,
}

/// Docker writes `null` for what is empty.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawProcess {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// Parses a manifest or an index; `media_type` is what the descriptor or the registry's answer said, empty if nothing.
/// A document with both `manifests` and `layers`, or whose own type contradicts its body, is refused (CVE-2021-41190).
pub fn parse_manifest_or_index(bytes: &[u8], media_type: &str) -> Result<Parsed> {
    if media_type::is_schema1(media_type) {
        return Err(ImageError::Unsupported { media_type: media_type.to_owned() });
    }
    check_size("manifest", bytes, MANIFEST_BYTES_MAX)?;
    let raw: RawDocument = from_json("manifest", bytes)?;
    if raw.fs_layers.is_some() || raw.schema_version == Some(1) {
        return Err(ImageError::Unsupported { media_type: media_type::DOCKER_SCHEMA1.to_owned() });
    }
    let is_index = match (raw.manifests.is_some(), raw.layers.is_some() || raw.config.is_some()) {
        (true, false) => true,
        (false, true) => false,
        (true, true) => return Err(invalid("manifest", "it is both an index and a manifest")),
        (false, false) => return Err(invalid("manifest", "it is neither an index nor a manifest")),
    };
    let own = raw.media_type.as_deref().unwrap_or_default();
    for said in [own, media_type] {
        if (media_type::is_manifest(said) && is_index) || (media_type::is_index(said) && !is_index) {
            let body = if is_index { "an index" } else { "a manifest" };
            return Err(invalid("manifest", format!("its type is {said:?}, its body is {body}")));
        }
    }
    if !own.is_empty() && !media_type.is_empty() && own != media_type {
        return Err(invalid("manifest", format!("it was announced as {media_type:?} and says {own:?}")));
    }
    let fallback = if is_index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
    let said = [own, media_type].into_iter().find(|said| !said.is_empty()).unwrap_or(fallback).to_owned();
    if is_index { index(said, raw).map(Parsed::Index) } else { manifest(said, raw).map(Parsed::Manifest) }
}

fn manifest(media_type: String, raw: RawDocument) -> Result<Manifest> {
    let config = raw.config.ok_or_else(|| invalid("manifest", "it has no config"))?;
    let layers = raw.layers.ok_or_else(|| invalid("manifest", "it has no layers"))?;
    if layers.len() > LAYERS_MAX {
        return Err(invalid(
            "manifest",
            format!("it has {} layers, at most {LAYERS_MAX} work", layers.len()),
        ));
    }
    let mut elsewhere = Elsewhere::new();
    let mut layer = |mut raw: RawDescriptor| -> Result<Descriptor> {
        let urls = raw.urls.take().unwrap_or_default();
        let layer = descriptor(raw)?.0;
        if media_type::is_non_distributable(&layer.media_type) && !urls.is_empty() {
            elsewhere.insert(layer.digest, urls.into_iter().take(URLS_MAX).collect());
        }
        Ok(layer)
    };
    let layers = layers.into_iter().map(&mut layer).collect::<Result<_>>()?;
    Ok(Manifest { media_type, config: descriptor(config)?.0, layers, elsewhere })
}

fn index(media_type: String, raw: RawDocument) -> Result<Index> {
    let manifests = raw.manifests.unwrap_or_default();
    let entry = |raw| {
        let (descriptor, platform, annotations) = descriptor(raw)?;
        Ok(IndexEntry { descriptor, platform, annotations })
    };
    Ok(Index { media_type, manifests: manifests.into_iter().map(entry).collect::<Result<_>>()? })
}

type DescriptorParts = (Descriptor, Option<Platform>, BTreeMap<String, String>);

fn descriptor(raw: RawDescriptor) -> Result<DescriptorParts> {
    let digest: Digest =
        raw.digest.parse().map_err(|error: bosun_types::Error| invalid("descriptor", error.message))?;
    // IMG-14: a negative size is an error.
    let size = u64::try_from(raw.size)
        .map_err(|_| invalid("descriptor", format!("{digest} has size {}", raw.size)))?;
    let media_type = raw.media_type.unwrap_or_default();
    let platform = raw
        .platform
        .map(|raw| Platform::new(&raw.os, &raw.architecture, raw.variant.as_deref().unwrap_or_default()));
    Ok((Descriptor { media_type, digest, size }, platform, raw.annotations.unwrap_or_default()))
}

/// Parses an image's config.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig> {
    check_size("image config", bytes, CONFIG_BYTES_MAX)?;
    let raw: RawConfig = from_json("image config", bytes)?;
    let rootfs =
        raw.rootfs.ok_or_else(|| invalid("image config", "it has no rootfs: not an image's config"))?;
    if rootfs.kind.as_deref().is_some_and(|kind| kind != "layers") {
        return Err(invalid(
            "image config",
            format!("its rootfs is of type {:?}", rootfs.kind.unwrap_or_default()),
        ));
    }
    let diff_ids = rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() > LAYERS_MAX {
        let count = diff_ids.len();
        return Err(invalid("image config", format!("it has {count} layers, at most {LAYERS_MAX} work")));
    }
    let diff_ids = diff_ids
        .iter()
        .map(|text| text.parse().map_err(|error: bosun_types::Error| invalid("image config", error.message)))
        .collect::<Result<_>>()?;
    let process = raw.config.unwrap_or_default();
    Ok(ImageConfig {
        platform: Platform::new(&raw.os, &raw.architecture, raw.variant.as_deref().unwrap_or_default()),
        diff_ids,
        process: ImageProcess {
            user: process.user.unwrap_or_default(),
            env: process.env.unwrap_or_default(),
            entrypoint: process.entrypoint.unwrap_or_default(),
            cmd: process.cmd.unwrap_or_default(),
            working_dir: process.working_dir.unwrap_or_default(),
            labels: process.labels.unwrap_or_default(),
            stop_signal: process.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: process.volumes.unwrap_or_default().into_keys().collect(),
        },
    })
}

pub(super) fn check_size(what: &str, bytes: &[u8], max: usize) -> Result<()> {
    if bytes.len() <= max {
        return Ok(());
    }
    Err(invalid(what, format!("it has {} bytes, at most {max} are read", bytes.len())))
}

pub(super) fn from_json<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| invalid(what, error.to_string()))
}

pub(super) fn invalid(what: &str, why: impl Into<String>) -> ImageError {
    ImageError::Invalid { what: what.to_owned(), why: why.into() }
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
