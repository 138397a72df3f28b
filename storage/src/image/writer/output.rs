//! A built image as an OCI layout (directory or tar) and as the archive of old `docker save`.

use std::fs;
use std::io::{self, Read as _, Write};
use std::path::Path;

use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::{BuiltImage, to_bytes};
use crate::compression::{CompressionLimits, Decompressor};
use crate::image::{MANIFEST_BYTES_MAX, Parsed, media_type, parse_manifest_or_index};

/// The content of `oci-layout`.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The annotation that names an image in an index (IEX-1).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

impl BuiltImage {
    /// Writes an OCI layout directory.
    pub fn write_oci_layout(&self, directory: &Path, name: Option<&str>) -> io::Result<()> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        for (descriptor, bytes) in &self.blobs {
            fs::write(blobs.join(descriptor.digest.hex()), bytes)?;
        }
        fs::write(directory.join("index.json"), self.root_index(name))?;
        fs::write(directory.join("oci-layout"), LAYOUT)
    }

    /// Writes an OCI layout as a tar stream (IEX-1): sorted by name; `name` becomes the ref annotation.
    pub fn write_oci_tar(&self, output: impl Write, name: Option<&str>) -> io::Result<()> {
        let mut tar = tar::Builder::new(output);
        append(&mut tar, "blobs/", EntryType::Directory, 0o755, b"")?;
        append(&mut tar, "blobs/sha256/", EntryType::Directory, 0o755, b"")?;
        let mut blobs: Vec<_> = self.blobs.iter().collect();
        blobs.sort_unstable_by_key(|(descriptor, _)| descriptor.digest);
        for (descriptor, bytes) in blobs {
            let path = format!("blobs/sha256/{}", descriptor.digest.hex());
            append(&mut tar, &path, EntryType::Regular, 0o444, bytes)?;
        }
        append(&mut tar, "index.json", EntryType::Regular, 0o644, &self.root_index(name))?;
        append(&mut tar, "oci-layout", EntryType::Regular, 0o444, LAYOUT)?;
        tar.into_inner()?.flush()
    }

    /// Writes what `docker save` wrote before it knew OCI (IEX-6); only for a single image. Layers are plain tars there; one
    /// that comes twice is a symbolic link the second time.
    pub fn write_docker_save(&self, output: impl Write, names: &[&str]) -> io::Result<()> {
        let manifest = match self.blob(&self.target.digest).map(|bytes| parse_manifest_or_index(bytes, "")) {
            Some(Ok(Parsed::Manifest(manifest))) => manifest,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "only a single image can be written",
                ));
            }
        };
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "a blob of the image is missing");
        let mut tar = tar::Builder::new(output);
        let mut layers: Vec<String> = Vec::new();
        for (position, layer) in manifest.layers.iter().enumerate() {
            let directory = format!("{position:03}{}", &layer.digest.hex()[3..]);
            let path = format!("{directory}/layer.tar");
            append(&mut tar, &format!("{directory}/"), EntryType::Directory, 0o755, b"")?;
            append(&mut tar, &format!("{directory}/VERSION"), EntryType::Regular, 0o644, b"1.0")?;
            let earlier = manifest.layers[..position].iter().position(|other| other.digest == layer.digest);
            match earlier {
                Some(earlier) => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, &path, format!("../{}", layers[earlier]))?;
                }
                None => {
                    let bytes = self.blob(&layer.digest).ok_or_else(missing)?;
                    let mut plain = Vec::new();
                    Decompressor::new(bytes, CompressionLimits::default())?.read_to_end(&mut plain)?;
                    append(&mut tar, &path, EntryType::Regular, 0o644, &plain)?;
                }
            }
            layers.push(path);
        }
        let config = format!("{}.json", manifest.config.digest.hex());
        append(
            &mut tar,
            &config,
            EntryType::Regular,
            0o644,
            self.blob(&manifest.config.digest).ok_or_else(missing)?,
        )?;
        let document = json!([{ "Config": config, "RepoTags": names, "Layers": layers }]);
        append(&mut tar, "manifest.json", EntryType::Regular, 0o644, &to_bytes(&document))?;
        append(&mut tar, "repositories", EntryType::Regular, 0o644, b"{}")?;
        tar.into_inner()?.flush()
    }

    fn root_index(&self, name: Option<&str>) -> Vec<u8> {
        debug_assert!(self.target.size <= MANIFEST_BYTES_MAX as u64);
        let mut entry = json!(self.target);
        if let Some(name) = name {
            entry["annotations"] = json!({ REF_NAME: name });
        }
        let index: Value =
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry] });
        to_bytes(&index)
    }
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    kind: EntryType,
    mode: u32,
    bytes: &[u8],
) -> io::Result<()> {
    tar.append_data(&mut header(kind, mode, bytes.len()), path, bytes)
}
