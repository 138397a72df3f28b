//! Writes an image archive: an OCI layout as a tar stream (IEX-1), readable as a `docker save` archive too (IEX-6). Each
//! blob's digest is verified while it is copied; memory stays bounded whatever the images hold. Layers that may not be
//! given on are in it if they are here, unless they are to be left out: who imports it has their addresses.
//!
//! ```text
//! blobs/sha256/<hex>   0444, each once, by digest
//! index.json           0644, an entry for each name of an image
//! manifest.json        0644, for docker: config and layers by path
//! oci-layout           0444
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};

use bosun_types::content::Descriptor;
use bosun_types::error::{chain, class_of_io};
use bosun_types::{Digest, ErrorClass, ImageName};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::closure::{ClosureError, Member, Platforms, closure};
use super::{ImageError, Parsed, media_type, parse_manifest_or_index};
use crate::archive::reader::{Entry, Kind};
use crate::archive::writer::TarWriter;
use crate::content::{ContentError, ContentStore};

/// Content of `oci-layout`.
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The annotation with an image's tag (IEX-1).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with an image's full name, as containerd and newer docker write it.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
/// Size of the buffer between blobs and the archive, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// What an export refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// An image cannot be written like this.
    #[error("image {image}: {why}")]
    Refused {
        /// Its name, or its digest.
        image: String,
        /// Why not.
        why: String,
    },
    /// A document of the image is wrong, or it has nothing for the platform.
    #[error("image {image}")]
    Image {
        /// Its name, or its digest.
        image: String,
        /// What is wrong.
        source: ImageError,
    },
    /// A blob that the image needs is not here.
    #[error("image {image}: {by} points at {digest}, which is not here")]
    Missing {
        /// Its name, or its digest.
        image: String,
        /// What points at it.
        by: String,
        /// The blob.
        digest: Digest,
    },
    /// A blob could not be read, or is damaged.
    #[error("export")]
    Content(#[from] ContentError),
    /// The archive could not be written.
    #[error("write the archive")]
    Output(#[from] io::Error),
}

impl ExportError {
    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Refused { .. } => ErrorClass::FailedPrecondition,
            Self::Image { source, .. } => source.class(),
            Self::Missing { .. } => ErrorClass::NotFound,
            Self::Content(error) => error.class(),
            Self::Output(error) => class_of_io(error),
        }
    }
}

impl From<ExportError> for bosun_types::Error {
    fn from(error: ExportError) -> Self {
        let mapped = Self::new(error.class(), chain(&error));
        match error {
            ExportError::Missing { .. } => {
                mapped.with_hint("pull it with --all-platforms, or export the platform that is here")
            }
            _ => mapped,
        }
    }
}

/// One image to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportImage {
    /// Its names; none: an entry without a name.
    pub names: Vec<ImageName>,
    /// Its manifest or index.
    pub target: Descriptor,
}

impl ExportImage {
    fn shown(&self) -> String {
        self.names.first().map_or_else(|| self.target.digest.to_string(), ToString::to_string)
    }
}

/// How to write.
pub struct ExportOptions<'a> {
    /// Whose manifests.
    pub platforms: Platforms,
    /// A `manifest.json` for docker too: every image must then have one manifest for the platform.
    pub docker: bool,
    /// Leave out layers that may not be given on.
    pub skip_non_distributable: bool,
    /// Whether the exporting namespace has a blob: others' do not count.
    pub known: &'a dyn Fn(&Digest) -> bool,
    /// Told each blob before the first byte is written.
    pub found: &'a dyn Fn(&Member),
    /// Told how far a blob is, now and then, and when it is whole.
    pub progress: &'a dyn Fn(&Member, u64),
}

/// Writes the archive. Blocks; belongs on a worker thread. What was written before an error is of no use.
pub fn write_archive(
    images: &[ExportImage],
    store: &ContentStore,
    options: &ExportOptions<'_>,
    output: impl Write,
) -> Result<(), ExportError> {
    let read = |digest: &Digest, most: usize| store.read_blob(digest, most);
    let has = |digest: &Digest| (options.known)(digest) && store.has_blob(digest);
    let mut members: BTreeMap<Digest, Member> = BTreeMap::new();
    let mut docker = Vec::new();
    for image in images {
        let mut found =
            closure(&image.target, &options.platforms, &has, &read).map_err(|error| of(image, error))?;
        if options.skip_non_distributable {
            found.retain(|member| !media_type::is_non_distributable(&member.descriptor.media_type));
        }
        if options.docker {
            docker.push(docker_item(image, &found, store)?);
        }
        for member in found {
            members.entry(member.descriptor.digest).or_insert(member);
        }
    }
    members.values().for_each(|member| (options.found)(member));
    let mut tar = TarWriter::new(output);
    directory(&mut tar, "blobs/")?;
    directory(&mut tar, "blobs/sha256/")?;
    let mut buffer = vec![0; BUFFER_BYTES];
    for member in members.values() {
        blob(&mut tar, member, store, options, &mut buffer)?;
    }
    file(&mut tar, "index.json", 0o644, &root_index(images))?;
    if options.docker {
        file(&mut tar, "manifest.json", 0o644, &super::writer::to_bytes(&Value::Array(docker)))?;
    }
    file(&mut tar, "oci-layout", 0o444, LAYOUT)?;
    tar.finish()?.flush()?;
    Ok(())
}

fn of(image: &ExportImage, error: ClosureError<ContentError>) -> ExportError {
    match error {
        ClosureError::Image(source) => ExportError::Image { image: image.shown(), source },
        ClosureError::Missing { by, digest } => ExportError::Missing { image: image.shown(), by, digest },
        ClosureError::Read(error) => error.into(),
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Copies one blob. Bytes that are not what their digest says end the archive before its end.
fn blob<W: Write>(
    tar: &mut TarWriter<W>,
    member: &Member,
    store: &ContentStore,
    options: &ExportOptions<'_>,
    buffer: &mut [u8],
) -> Result<(), ExportError> {
    let digest = member.descriptor.digest;
    let mut source = store.open_blob(&digest)?;
    let size = store.blob_size(&digest)?;
    tar.entry(&entry(&blob_path(&digest), Kind::Regular, 0o444, size))?;
    let (mut hash, mut done) = (Sha256::new(), 0);
    while done < size {
        let wanted = usize::try_from(size - done).unwrap_or(usize::MAX).min(buffer.len());
        let length = match source.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(ContentError::Damaged { digest }.into()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        hash.update(&buffer[..length]);
        tar.content(&buffer[..length])?;
        done += length as u64;
        (options.progress)(member, done);
    }
    if Digest::from_bytes(hash.finalize().into()) != digest {
        return Err(ContentError::Damaged { digest }.into());
    }
    Ok(())
}

/// `index.json`: an entry for each name.
pub(super) fn root_index(images: &[ExportImage]) -> Vec<u8> {
    let mut manifests = Vec::new();
    for image in images {
        let target = json!(image.target);
        if image.names.is_empty() {
            manifests.push(target.clone());
        }
        for name in &image.names {
            let mut named = target.clone();
            named["annotations"] = json!({ FULL_NAME: name.as_str(), REF_NAME: object_of(name.as_str()) });
            manifests.push(named);
        }
    }
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
    super::writer::to_bytes(&index)
}

/// The tag of a name, or its digest, or all of it when it has neither.
fn object_of(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(['@', ':']).map_or(name, |at| &name[last + at + 1..])
}

fn docker_item(image: &ExportImage, members: &[Member], store: &ContentStore) -> Result<Value, ExportError> {
    let refuse = |why: &str| ExportError::Refused { image: image.shown(), why: why.to_owned() };
    let mut manifests = members.iter().filter(|member| member.kind == "manifest");
    let (Some(manifest), None) = (manifests.next(), manifests.next()) else {
        return Err(refuse("a docker archive holds one manifest of each image: choose one platform"));
    };
    let descriptor = &manifest.descriptor;
    let bytes = store.read_blob(&descriptor.digest, super::MANIFEST_BYTES_MAX)?;
    let parsed = parse_manifest_or_index(&bytes, &descriptor.media_type)
        .map_err(|source| ExportError::Image { image: image.shown(), source })?;
    let Parsed::Manifest(parsed) = parsed else { return Err(refuse("its manifest is an index")) };
    if !media_type::is_config(&parsed.config.media_type) {
        return Err(refuse("its config is not an image's"));
    }
    let is_written = |layer: &Descriptor| members.iter().any(|it| it.descriptor.digest == layer.digest);
    if !parsed.layers.iter().all(is_written) {
        return Err(refuse("docker reads no archive from which layers are left out"));
    }
    // Docker knows images by tag alone.
    let tags: Vec<&str> =
        image.names.iter().map(ImageName::as_str).filter(|name| !name.contains('@')).collect();
    let layers: Vec<String> = parsed.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
    Ok(json!({ "Config": blob_path(&parsed.config.digest), "RepoTags": tags, "Layers": layers }))
}

/// A directory of an archive.
pub(super) fn directory<W: Write>(tar: &mut TarWriter<W>, path: &str) -> io::Result<()> {
    tar.entry(&entry(path, Kind::Directory, 0o755, 0))
}

/// A small file of an archive.
pub(super) fn file<W: Write>(tar: &mut TarWriter<W>, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    tar.entry(&entry(path, Kind::Regular, mode, bytes.len() as u64))?;
    tar.content(bytes)
}

fn entry(path: &str, kind: Kind, mode: u32, size: u64) -> Entry {
    Entry { path: path.as_bytes().to_vec(), kind, mode, size, ..Entry::new(kind) }
}

#[cfg(test)]
mod tests;
