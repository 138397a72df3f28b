//! A built image as an OCI layout (directory or tar) and as the archive of old `docker save`.

use std::fs;
use std::io::{self, Read as _, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::{BuiltImage, to_bytes};
use crate::archive::reader::{Entry, Kind};
use crate::archive::writer::TarWriter;
use crate::compression::{CompressionLimits, Decompressor};
use crate::image::export::{LAYOUT, REF_NAME, directory, file};
use crate::image::{MANIFEST_BYTES_MAX, Parsed, media_type, parse_manifest_or_index};

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
        let mut tar = TarWriter::new(output);
        directory(&mut tar, "blobs/")?;
        directory(&mut tar, "blobs/sha256/")?;
        let mut blobs: Vec<_> = self.blobs.iter().collect();
        blobs.sort_unstable_by_key(|(descriptor, _)| descriptor.digest);
        for (descriptor, bytes) in blobs {
            file(&mut tar, &format!("blobs/sha256/{}", descriptor.digest.hex()), 0o444, bytes)?;
        }
        file(&mut tar, "index.json", 0o644, &self.root_index(name))?;
        file(&mut tar, "oci-layout", 0o444, LAYOUT)?;
        tar.finish()?.flush()
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
        let mut tar = TarWriter::new(output);
        let mut layers: Vec<String> = Vec::new();
        for (position, layer) in manifest.layers.iter().enumerate() {
            let folder = format!("{position:03}{}", &layer.digest.hex()[3..]);
            let path = format!("{folder}/layer.tar");
            directory(&mut tar, &format!("{folder}/"))?;
            file(&mut tar, &format!("{folder}/VERSION"), 0o644, b"1.0")?;
            let earlier = manifest.layers[..position].iter().position(|other| other.digest == layer.digest);
            match earlier {
                Some(earlier) => tar.entry(&Entry {
                    path: path.clone().into_bytes(),
                    link: format!("../{}", layers[earlier]).into_bytes(),
                    mode: 0o777,
                    ..Entry::new(Kind::Symlink)
                })?,
                None => {
                    let bytes = self.blob(&layer.digest).ok_or_else(missing)?;
                    let mut plain = Vec::new();
                    Decompressor::new(bytes, CompressionLimits::default())?.read_to_end(&mut plain)?;
                    file(&mut tar, &path, 0o644, &plain)?;
                }
            }
            layers.push(path);
        }
        let config = format!("{}.json", manifest.config.digest.hex());
        let bytes = self.blob(&manifest.config.digest).ok_or_else(missing)?;
        file(&mut tar, &config, 0o644, bytes)?;
        let document = json!([{ "Config": config, "RepoTags": names, "Layers": layers }]);
        file(&mut tar, "manifest.json", 0o644, &to_bytes(&document))?;
        file(&mut tar, "repositories", 0o644, b"{}")?;
        tar.finish()?.flush()
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
