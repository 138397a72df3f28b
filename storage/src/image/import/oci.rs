//! The images of an OCI layout: the entries of its `index.json`.

use bosun_types::content::Descriptor;

use super::intake::Archive;
use super::{ImportError, ImportOptions, ImportedImage, image_name, invalid, name_from_base};
use crate::image::{IndexEntry, Parsed, media_type, parse_manifest_or_index};

/// The full name, as containerd and newer docker write it.
const FULL_NAME: &str = "io.containerd.image.name";
/// A tag, or a full name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Each entry is an image; entries with one target are one image with several names.
pub(super) fn images(
    archive: &Archive<'_>,
    options: &ImportOptions<'_>,
) -> Result<Vec<ImportedImage>, ImportError> {
    let bytes = archive.index.as_deref().unwrap_or_default();
    let index = match parse_manifest_or_index(bytes, "")? {
        Parsed::Index(index) => index,
        Parsed::Manifest(_) => return Err(invalid("index.json is a manifest")),
    };
    let mut images: Vec<ImportedImage> = Vec::new();
    for entry in &index.manifests {
        let name = match name_of(entry) {
            Some(full) if full.contains(['/', ':']) => image_name(full)?,
            tag => name_from_base(tag, &entry.descriptor.digest, options)?,
        };
        match images.iter_mut().find(|image| image.target.digest == entry.descriptor.digest) {
            Some(image) if image.names.contains(&name) => {}
            Some(image) => image.names.push(name),
            None => images.push(ImportedImage { names: vec![name], target: target(archive, entry)? }),
        }
    }
    Ok(images)
}

fn name_of(entry: &IndexEntry) -> Option<&str> {
    let annotation =
        |key: &str| entry.annotations.get(key).map(String::as_str).filter(|text| !text.is_empty());
    annotation(FULL_NAME).or_else(|| annotation(REF_NAME))
}

/// An entry without a media type gets the one of its body: an image record must have one (IMG-2).
fn target(archive: &Archive<'_>, entry: &IndexEntry) -> Result<Descriptor, ImportError> {
    let mut target = entry.descriptor.clone();
    if target.media_type.is_empty() && archive.blobs.contains_key(&target.digest) {
        let bytes = archive.read(&target.digest, crate::image::MANIFEST_BYTES_MAX)?;
        target.media_type = match parse_manifest_or_index(&bytes, "")? {
            Parsed::Manifest(manifest) => manifest.media_type,
            Parsed::Index(index) => index.media_type,
        };
    }
    if !(media_type::is_manifest(&target.media_type) || media_type::is_index(&target.media_type)) {
        return Err(crate::image::ImageError::Unsupported { media_type: target.media_type }.into());
    }
    Ok(target)
}
