//! Tests of the export: what is written comes in again, and what is wrong does not get out.

use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt as _;

use bosun_types::NamespaceName;
use bosun_types::platform::Platform;
use tempfile::TempDir;

use super::*;
use crate::compression::Compression;
use crate::image::import::{ImportOptions, Imported, read_archive};
use crate::image::writer::{BuiltImage, Dialect, ImageBuilder, LayerBuilder};

struct World {
    directory: TempDir,
    content: ContentStore,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let content = ContentStore::open(directory.path()).unwrap();
        Self { directory, content }
    }

    fn holding(images: &[&BuiltImage]) -> Self {
        let world = Self::new();
        for (descriptor, bytes) in images.iter().flat_map(|image| &image.blobs) {
            let mut ingest = world
                .content
                .begin(&NamespaceName::default_name(), &descriptor.digest.to_string(), 0, None)
                .unwrap();
            ingest.write(bytes).unwrap();
            ingest.commit_as_is().unwrap();
        }
        world
    }

    fn export(
        &self,
        images: &[ExportImage],
        platforms: Platforms,
        docker: bool,
    ) -> Result<Vec<u8>, ExportError> {
        let mut archive = Vec::new();
        let options = ExportOptions {
            platforms,
            docker,
            skip_non_distributable: false,
            known: &|_| true,
            found: &|_| {},
            progress: &|_, _| {},
        };
        write_archive(images, &self.content, &options, &mut archive).map(|()| archive)
    }

    fn import(&self, archive: &[u8]) -> Imported {
        let options = ImportOptions { base_name: None, known: &|_| false, progress: &|_| {} };
        read_archive(archive, &self.content, &NamespaceName::default_name(), &options).unwrap()
    }
}

fn image(text: &str, platform: &str, dialect: Dialect) -> BuiltImage {
    let common = LayerBuilder::new().file("common", 0o644, b"c").build(Compression::Gzip).unwrap();
    let own = LayerBuilder::new().file("own", 0o644, text.as_bytes()).build(Compression::Zstd).unwrap();
    let platform = Platform::parse(platform).unwrap();
    ImageBuilder { platform, dialect, ..ImageBuilder::new() }.layer(common).layer(own).build()
}

fn named(image: &BuiltImage, names: &[&str]) -> ExportImage {
    let names = names.iter().map(|name| ImageName::new(*name).unwrap()).collect();
    ExportImage { names, target: image.target.clone() }
}

fn these(platform: &str) -> Platforms {
    Platforms::These(vec![Platform::parse(platform).unwrap()])
}

fn entries(archive: &[u8]) -> Vec<(String, u32)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
    });
    entries.collect()
}

#[test]
fn iex_1_the_layout_is_sorted_whole_and_the_same_each_time() {
    let built = image("x", "linux/amd64", Dialect::Oci);
    let world = World::holding(&[&built]);
    let images = [named(&built, &["r.local/a:1"])];
    let archive = world.export(&images, Platforms::All, false).unwrap();
    assert!(archive == world.export(&images, Platforms::All, false).unwrap());
    let entries = entries(&archive);
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(names.len(), built.blobs.len() + 4);
    for (name, mode) in &entries {
        let expected = match name.as_str() {
            "blobs/" | "blobs/sha256/" => 0o755,
            "index.json" => 0o644,
            _ => 0o444,
        };
        assert_eq!(*mode, expected, "{name}");
    }
}

#[test]
fn iex_6_what_is_exported_comes_in_again_under_its_names_in_both_forms() {
    let one = image("one", "linux/amd64", Dialect::Oci);
    let two = image("two", "linux/amd64", Dialect::Docker);
    let world = World::holding(&[&one, &two]);
    let images = [named(&one, &["r.local/a:1", "r.local/a:latest"]), named(&two, &["r.local:5000/team/b:2"])];
    for docker in [false, true] {
        let archive = world.export(&images, these("linux/amd64"), docker).unwrap();
        let imported = World::new().import(&archive);
        let back: Vec<ExportImage> = imported
            .images
            .iter()
            .map(|image| ExportImage { names: image.names.clone(), target: image.target.clone() })
            .collect();
        assert_eq!(back, images);
        assert!(imported.blobs.iter().all(|blob| !blob.media_type.is_empty()));
        assert_eq!(imported.blobs.len(), 7, "a layer that both have is there once");
    }
}

#[test]
fn iex_6_docker_reads_the_same_archive_by_its_manifest_json() {
    let built = image("x", "linux/amd64", Dialect::Oci);
    let world = World::holding(&[&built]);
    let archive = world.export(&[named(&built, &["r.local/a:1"])], these("linux/amd64"), true).unwrap();
    // As an old docker sees it: without the OCI files.
    let mut old = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if !["index.json", "oci-layout"].iter().any(|name| path.ends_with(name)) {
            old.append(&entry.header().clone(), entry).unwrap();
        }
    }
    let imported = World::new().import(&old.into_inner().unwrap());
    assert_eq!(imported.images[0].names[0].as_str(), "r.local/a:1");
}

#[test]
fn iex_1_one_platform_of_an_index_or_all_of_them() {
    let images = ["linux/amd64", "linux/arm64"].map(|platform| image(platform, platform, Dialect::Oci));
    let index = BuiltImage::index(images.to_vec(), Dialect::Oci);
    let world = World::holding(&[&index]);
    let export = [named(&index, &["r.local/multi:1"])];
    let all = world.export(&export, Platforms::All, false).unwrap();
    assert_eq!(World::new().import(&all).blobs.len(), index.blobs.len());
    let one = world.export(&export, these("linux/arm64"), false).unwrap();
    let imported = World::new().import(&one);
    assert_eq!(imported.images[0].target, index.target);
    assert_eq!(imported.blobs.len(), 5, "index, manifest, config, two layers");
    let error = world.export(&export, Platforms::All, true).expect_err("docker has no platforms");
    assert_eq!(error.class(), ErrorClass::FailedPrecondition);
    world.export(&export, these("linux/arm64"), true).unwrap();
    assert_eq!(
        world.export(&export, these("windows/amd64"), false).expect_err("none").class(),
        ErrorClass::NotFound
    );
}

#[test]
fn iex_1_a_damaged_blob_ends_the_export_before_the_end_of_the_archive() {
    let built = image("x", "linux/amd64", Dialect::Oci);
    let layer = built.blobs.iter().find(|(descriptor, _)| descriptor.media_type.contains("layer")).unwrap();
    for cut in [false, true] {
        let world = World::holding(&[&built]);
        let path = world.directory.path().join("content/blobs/sha256").join(layer.0.digest.hex());
        let mut bytes = layer.1.clone();
        if cut {
            bytes.pop();
        } else {
            bytes[20] ^= 1;
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let error = world.export(&[named(&built, &["a:1"])], Platforms::All, false).expect_err("damaged");
        assert_eq!(error.class(), ErrorClass::DataLoss, "{error}");
        assert!(bosun_types::Error::from(error).message.contains(&layer.0.digest.to_string()));
    }
}

#[test]
fn another_namespaces_blobs_do_not_get_out() {
    let built = image("x", "linux/amd64", Dialect::Oci);
    let world = World::holding(&[&built]);
    let layer = built.blobs[0].0.digest;
    let options = ExportOptions {
        platforms: Platforms::All,
        docker: false,
        skip_non_distributable: false,
        known: &|digest| *digest != layer,
        found: &|_| {},
        progress: &|_, _| {},
    };
    let error = write_archive(&[named(&built, &["a:1"])], &world.content, &options, io::sink())
        .expect_err("not ours");
    assert!(matches!(error, ExportError::Missing { digest, .. } if digest == layer), "{error}");
}

#[test]
fn progress_tells_every_blob_and_its_bytes() {
    let built = image("x", "linux/amd64", Dialect::Oci);
    let world = World::holding(&[&built]);
    let (found, done) = (RefCell::new(0), RefCell::new(0));
    let options = ExportOptions {
        platforms: Platforms::All,
        docker: false,
        skip_non_distributable: false,
        known: &|_| true,
        found: &|member| *found.borrow_mut() += member.descriptor.size,
        progress: &|member, bytes| {
            if bytes == member.descriptor.size {
                *done.borrow_mut() += bytes;
            }
        },
    };
    write_archive(&[named(&built, &["a:1"])], &world.content, &options, io::sink()).unwrap();
    assert_eq!(found, done);
}

#[test]
fn the_object_of_a_name_is_its_tag_or_digest() {
    let table = [
        ("r.local:5000/a/b:1.2", "1.2"),
        ("r.local/a@sha256:ab", "sha256:ab"),
        ("r.local:5000/a", "r.local:5000/a"),
        ("plain", "plain"),
        ("r/a:1@sha256:ab", "1@sha256:ab"),
    ];
    for (name, object) in table {
        assert_eq!(object_of(name), object);
    }
}
