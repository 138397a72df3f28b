//! Reads an image archive: an OCI layout or what `docker save` writes, as a tar stream, plain or compressed, its entries
//! in any order. Blobs go straight to the content store; memory stays bounded whatever the archive says.

use std::io::{self, Read};

use bosun_types::content::Descriptor;
use bosun_types::error::{chain, class_of_io};
use bosun_types::{Digest, ErrorClass, ImageName, NamespaceName};

use super::ImageError;
use crate::archive::ArchiveError;
use crate::content::{ContentError, ContentStore};

mod check;
mod docker;
mod intake;
mod oci;
#[cfg(test)]
mod tests;

/// How the refs of an import's ingests begin. None outlives its import; after a crash those that are left can go.
pub const REF_PREFIX: &str = "import-";

/// What an import refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The archive is no image archive, or a contradictory one.
    #[error("image archive: {why}")]
    Invalid {
        /// What is wrong.
        why: String,
    },
    /// A document points at a blob that neither the archive nor the namespace has.
    #[error("image archive: {by} points at {digest}, which is missing")]
    MissingBlob {
        /// Which document.
        by: String,
        /// The blob.
        digest: Digest,
    },
    /// A document in it is wrong.
    #[error("image archive")]
    Image(#[from] ImageError),
    /// The tar stream is wrong.
    #[error("image archive")]
    Archive(#[from] ArchiveError),
    /// A blob could not be kept.
    #[error("image archive")]
    Content(#[from] ContentError),
    /// The host failed.
    #[error("image archive")]
    Io(#[from] io::Error),
}

impl ImportError {
    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid { .. } => ErrorClass::InvalidArgument,
            Self::MissingBlob { .. } => ErrorClass::FailedPrecondition,
            Self::Image(error) => error.class(),
            Self::Archive(error) => error.class(),
            Self::Content(error) => error.class(),
            Self::Io(error) => class_of_io(error),
        }
    }
}

impl From<ImportError> for bosun_types::Error {
    fn from(error: ImportError) -> Self {
        Self::new(error.class(), chain(&error))
    }
}

/// How to import.
pub struct ImportOptions<'a> {
    /// Base name for images whose archive gives only a tag or nothing (IEX-3).
    pub base_name: Option<&'a str>,
    /// Whether the importing namespace has a blob already. Other namespaces' blobs do not count: an archive must not be
    /// a way to them.
    pub known: &'a dyn Fn(&Digest) -> bool,
    /// Told the bytes of the (decompressed) archive read so far, now and then.
    pub progress: &'a dyn Fn(u64),
}

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedImage {
    /// Its names; never empty.
    pub names: Vec<ImageName>,
    /// Its manifest or index.
    pub target: Descriptor,
}

/// What an archive held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// Its images, in the archive's order; never empty.
    pub images: Vec<ImportedImage>,
    /// Every blob that was written (or was there and came again), by digest. The media type is empty for one that no image
    /// points at: it needs no row, and goes with the next collection.
    pub blobs: Vec<Descriptor>,
}

/// Reads the archive to its end. Blobs are committed one by one, so a failed import leaves blobs without rows, which
/// the caller removes or collects; images are returned only if everything is right.
pub fn read_archive(
    reader: impl Read,
    store: &ContentStore,
    namespace: &NamespaceName,
    options: &ImportOptions<'_>,
) -> Result<Imported, ImportError> {
    let mut intake = intake::Intake::new(store, namespace, options)?;
    intake.read(reader)?;
    let mut archive = intake.finish();
    let images = match (&archive.index, &archive.docker) {
        // Newer `docker save` writes both: the index says more.
        (Some(_), _) => oci::images(&archive, options)?,
        (None, Some(_)) => docker::images(&mut archive, options)?,
        (None, None) => {
            return Err(ImportError::Invalid {
                why: "it has neither index.json nor manifest.json: not an image archive".to_owned(),
            });
        }
    };
    if images.is_empty() {
        return Err(ImportError::Invalid { why: "there is no image in it".to_owned() });
    }
    let mut check = check::Check::new(&archive, options);
    for image in &images {
        check.root(&image.target)?;
    }
    let media_types = check.finish();
    let blobs = archive
        .blobs
        .iter()
        .map(|(digest, size)| Descriptor {
            media_type: media_types.get(digest).cloned().unwrap_or_default(),
            digest: *digest,
            size: *size,
        })
        .collect();
    Ok(Imported { images, blobs })
}

fn invalid(why: impl Into<String>) -> ImportError {
    ImportError::Invalid { why: why.into() }
}

/// IEX-3: `<base>:<tag>`, or `<base>@<digest>` without a tag.
fn name_from_base(
    tag: Option<&str>,
    target: &Digest,
    options: &ImportOptions<'_>,
) -> Result<ImageName, ImportError> {
    let base = options.base_name.filter(|base| !base.is_empty()).ok_or_else(|| {
        invalid(match tag {
            Some(tag) => format!("it gives only the tag {tag:?}: a base name is required"),
            None => "it gives no name: a base name is required".to_owned(),
        })
    })?;
    let name = match tag {
        Some(tag) => format!("{base}:{tag}"),
        None => format!("{base}@{target}"),
    };
    image_name(&name)
}

fn image_name(text: &str) -> Result<ImageName, ImportError> {
    ImageName::new(text).map_err(|error| invalid(error.message))
}
