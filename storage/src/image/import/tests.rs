//! Tests of the archive import; they go through the writer, and through hand-made hostile archives.

use bosun_types::platform::Platform;
use tempfile::TempDir;

use super::*;
use crate::compression::Compression;
use crate::image::writer::{BuiltImage, Dialect, ImageBuilder, Layer, LayerBuilder};
use crate::image::{Parsed, digest_of, parse_manifest_or_index};

struct World {
    _directory: TempDir,
    content: ContentStore,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let content = ContentStore::open(directory.path()).unwrap();
        Self { _directory: directory, content }
    }

    fn import_as(&self, archive: &[u8], base_name: Option<&str>) -> Result<Imported, ImportError> {
        let options = ImportOptions { base_name, known: &|_| false, progress: &|_| {} };
        let namespace = NamespaceName::default_name();
        let result = read_archive(archive, &self.content, &namespace, &options);
        assert!(self.content.statuses(&namespace).unwrap().is_empty(), "no ingest outlives its import");
        result
    }

    fn import(&self, archive: &[u8]) -> Result<Imported, ImportError> {
        self.import_as(archive, Some("base/name"))
    }
}

fn image(text: &str, dialect: Dialect, compression: Compression) -> BuiltImage {
    let lower = LayerBuilder::new().file("common", 0o644, b"c").build(compression).unwrap();
    let upper = LayerBuilder::new().file("own", 0o644, text.as_bytes()).build(compression).unwrap();
    let mut builder = ImageBuilder::new().layer(lower.clone()).layer(upper).layer(lower);
    builder.dialect = dialect;
    builder.build()
}

fn oci_tar(image: &BuiltImage, name: Option<&str>) -> Vec<u8> {
    let mut archive = Vec::new();
    image.write_oci_tar(&mut archive, name).unwrap();
    archive
}

/// A tar of regular files, in the order given.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let builder =
        files.iter().fold(LayerBuilder::new(), |builder, (path, bytes)| builder.file(path, 0o644, bytes));
    builder.build(Compression::None).unwrap().bytes
}

fn names(imported: &Imported) -> Vec<&str> {
    imported.images.iter().flat_map(|image| &image.names).map(ImageName::as_str).collect()
}

fn refusal(archive: &[u8]) -> String {
    let error = World::new().import(archive).expect_err("refused");
    assert_eq!(error.class(), ErrorClass::InvalidArgument, "{error:?}");
    bosun_types::Error::from(error).message
}

#[test]
fn iex_2_an_oci_layout_comes_in_whole_plain_or_compressed() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (world, built) = (World::new(), image("x", Dialect::Oci, Compression::Gzip));
        let archive = Layer::from_tar(&oci_tar(&built, Some("1.0")), compression).unwrap().bytes;
        let imported = world.import(&archive).unwrap();
        assert_eq!(names(&imported), ["base/name:1.0"]);
        assert_eq!(imported.images[0].target, built.target);
        assert_eq!(imported.blobs.len(), built.blobs.len());
        for (descriptor, _) in &built.blobs {
            assert!(world.content.has_blob(&descriptor.digest));
            assert!(imported.blobs.contains(descriptor), "{descriptor:?}");
        }
    }
}

#[test]
fn iex_2_entries_may_come_in_any_order_and_strange_files_are_ignored() {
    let built = image("x", Dialect::Docker, Compression::None);
    let index = format!(
        r#"{{"manifests":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
        built.target.media_type, built.target.digest, built.target.size
    );
    let mut files: Vec<(String, Vec<u8>)> = built
        .blobs
        .iter()
        .map(|(descriptor, bytes)| (format!("./blobs/sha256/{}", descriptor.digest.hex()), bytes.clone()))
        .collect();
    files.push(("blobs/sha512/abc".to_owned(), b"other algorithm".to_vec()));
    files.push(("README".to_owned(), b"hello".to_vec()));
    for at in [0, files.len() / 2, files.len()] {
        let mut files = files.clone();
        files.insert(at, ("index.json".to_owned(), index.clone().into_bytes()));
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        let imported = World::new().import(&tar_of(&files)).unwrap();
        assert_eq!(names(&imported), [format!("base/name@{}", built.target.digest)]);
        assert_eq!(imported.blobs.len(), built.blobs.len());
    }
}

#[test]
fn iex_3_names_come_from_the_annotation_or_from_the_base_name() {
    let built = image("x", Dialect::Oci, Compression::Gzip);
    let full = oci_tar(&built, Some("registry.local:5000/team/app:2"));
    assert_eq!(names(&World::new().import_as(&full, None).unwrap()), ["registry.local:5000/team/app:2"]);
    for name in [Some("1.0"), None] {
        for base in [None, Some("")] {
            let error = World::new().import_as(&oci_tar(&built, name), base).expect_err("no name");
            assert!(error.to_string().contains("base name"), "{error}");
        }
    }
}

#[test]
fn iex_6_docker_save_archives_come_in_with_links_and_all_tags() {
    let (world, built) = (World::new(), image("x", Dialect::Docker, Compression::Gzip));
    let mut archive = Vec::new();
    built.write_docker_save(&mut archive, &["app:1", "app:latest"]).unwrap();
    let imported = world.import_as(&archive, None).unwrap();
    assert_eq!((imported.images.len(), names(&imported)), (1, vec!["app:1", "app:latest"]));
    let mut bytes = Vec::new();
    let target = &imported.images[0].target;
    world.content.open_blob(&target.digest).unwrap().read_to_end(&mut bytes).unwrap();
    let Parsed::Manifest(manifest) = parse_manifest_or_index(&bytes, &target.media_type).unwrap() else {
        panic!("a manifest")
    };
    assert_eq!(manifest.layers.len(), 3);
    assert_eq!(manifest.layers[0], manifest.layers[2], "the link leads to the same layer");
    assert_eq!(manifest.layers[0].media_type, crate::image::media_type::DOCKER_LAYER);
    assert!(imported.blobs.iter().filter(|blob| !blob.media_type.is_empty()).count() == 4);
}

#[test]
fn iex_4_absent_platforms_are_tolerated_but_not_all_of_them() {
    let mut other = image("y", Dialect::Oci, Compression::Gzip);
    other.platforms = vec![Platform::new("linux", "s390x", "")];
    let host = image("x", Dialect::Oci, Compression::Gzip);
    let other_target = other.target.digest;
    let mut index = BuiltImage::index(vec![host.clone(), other], Dialect::Oci);
    index.blobs.retain(|(descriptor, _)| descriptor.digest != other_target);
    let imported = World::new().import(&oci_tar(&index, Some("multi"))).unwrap();
    assert_eq!(imported.images[0].target, index.target);
    index.blobs.retain(|(descriptor, _)| descriptor.digest != host.target.digest);
    let error = World::new().import(&oci_tar(&index, Some("multi"))).expect_err("none left");
    assert_eq!(error.class(), ErrorClass::FailedPrecondition);
}

#[test]
fn a_missing_blob_is_named_and_another_namespaces_blob_does_not_count() {
    let whole = image("x", Dialect::Oci, Compression::Gzip);
    for missing in &whole.blobs {
        let digest = missing.0.digest;
        let mut built = whole.clone();
        built.blobs.retain(|(descriptor, _)| descriptor.digest != digest);
        let (world, archive) = (World::new(), oci_tar(&built, Some("1")));
        let error = world.import(&archive).expect_err("missing");
        assert_eq!(error.class(), ErrorClass::FailedPrecondition);
        assert!(error.to_string().contains(&digest.to_string()), "{error}");
        // The bytes are in the store, but of another namespace.
        let mut ingest = world.content.begin(&NamespaceName::new("team").unwrap(), "r", 0, None).unwrap();
        ingest.write(&missing.1).unwrap();
        ingest.commit_as_is().unwrap();
        world.import(&archive).expect_err("still missing");
        let options =
            ImportOptions { base_name: Some("a"), known: &|asked| *asked == digest, progress: &|_| {} };
        read_archive(&archive[..], &world.content, &NamespaceName::default_name(), &options).unwrap();
    }
}

#[test]
fn wrong_bytes_under_a_digest_are_refused() {
    let built = image("x", Dialect::Oci, Compression::None);
    let mut archive = oci_tar(&built, Some("1"));
    let layer = &built.blobs[1].1;
    let at = archive.windows(layer.len()).position(|window| window == layer.as_slice()).unwrap();
    archive[at + layer.len() - 1] ^= 1;
    let error = World::new().import(&archive).expect_err("wrong bytes");
    assert_eq!(error.class(), ErrorClass::FailedPrecondition);
    assert!(bosun_types::Error::from(error).message.contains("digest"));
}

#[test]
fn iex_2_two_indexes_or_none_are_errors() {
    assert!(refusal(&tar_of(&[("index.json", b"{}"), ("./index.json", b"{}")])).contains("two index.json"));
    assert!(refusal(&tar_of(&[("manifest.json", b"[]"), ("manifest.json", b"[]")])).contains("two manifest"));
    assert!(refusal(&tar_of(&[("README", b"")])).contains("neither index.json nor manifest.json"));
    assert!(refusal(b"").contains("not an image archive"));
    assert!(refusal(&[7; 2000]).contains("not a tar archive"));
    assert!(refusal(&tar_of(&[("index.json", br#"{"manifests":[]}"#)])).contains("no image"));
    assert!(refusal(&tar_of(&[("manifest.json", b"[]")])).contains("no image"));
}

#[test]
fn cve_2023_25153_giant_documents_are_not_read_into_memory() {
    let giant = vec![b' '; crate::image::MANIFEST_BYTES_MAX + 1];
    assert!(refusal(&tar_of(&[("index.json", &giant)])).contains("at most"));
    assert!(refusal(&tar_of(&[("manifest.json", &giant)])).contains("at most"));
    // As a blob it is only bytes, until something says it is a manifest.
    let digest = digest_of(&giant);
    let index = format!(
        r#"{{"manifests":[{{"mediaType":"{}","digest":"{digest}","size":{}}}]}}"#,
        crate::image::media_type::OCI_MANIFEST,
        giant.len()
    );
    let blob = format!("blobs/sha256/{}", digest.hex());
    let message = refusal(&tar_of(&[(&blob, &giant), ("index.json", index.as_bytes())]));
    assert!(message.contains("more than"), "{message}");
}

#[test]
fn names_that_point_elsewhere_are_refused_or_only_names() {
    for name in ["blobs/sha256/../../../etc/passwd", "blobs/sha256/ABC", "blobs/sha256/", "blobs/sha256/a/b"]
    {
        // The honest writer refuses `..`: written by hand.
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.resize(archive.len() + 1024, 0);
        let result = World::new().import(&archive);
        assert_eq!(result.expect_err(name).class(), ErrorClass::InvalidArgument);
    }
    let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
    for layer in ["../../etc/passwd", "/etc/passwd", "missing/layer.tar", "loop.tar"] {
        let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["a:1"],"Layers":["{layer}"]}}]"#);
        let builder = LayerBuilder::new().file("c.json", 0o644, config).symlink("loop.tar", "loop.tar").file(
            "manifest.json",
            0o644,
            manifest.as_bytes(),
        );
        let message = refusal(&builder.build(Compression::None).unwrap().bytes);
        assert!(message.contains(layer), "{message}");
    }
    let escaping = LayerBuilder::new().symlink("a.tar", "../../etc/passwd").build(Compression::None).unwrap();
    assert!(refusal(&escaping.bytes).contains("outside"));
}

#[test]
fn img_21_docker_layers_must_be_those_of_the_config() {
    let layer = LayerBuilder::new().file("a", 0o644, b"").build(Compression::None).unwrap();
    let wrong = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#, "a".repeat(64));
    let manifest = br#"[{"Config":"c.json","RepoTags":null,"Layers":["l/layer.tar"]}]"#;
    let files: [(&str, &[u8]); 3] =
        [("l/layer.tar", &layer.bytes), ("c.json", wrong.as_bytes()), ("manifest.json", manifest)];
    assert!(refusal(&tar_of(&files)).contains("the config says"));
    let none = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let files: [(&str, &[u8]); 3] =
        [("l/layer.tar", &layer.bytes), ("c.json", none), ("manifest.json", manifest)];
    assert!(refusal(&tar_of(&files)).contains("0 diff ids"));
}

#[test]
fn a_cut_archive_is_refused_and_leaves_no_ingest() {
    let archive = oci_tar(&image("x", Dialect::Oci, Compression::Gzip), Some("1"));
    for cut in (1..archive.len() - 1024).step_by(1777) {
        World::new().import(&archive[..cut]).expect_err("cut");
    }
}

#[test]
fn the_writer_is_deterministic_and_its_layout_directory_is_the_tar() {
    let (one, other) =
        (image("x", Dialect::Oci, Compression::Gzip), image("x", Dialect::Oci, Compression::Gzip));
    assert_eq!(one, other);
    assert_eq!(oci_tar(&one, None), oci_tar(&other, None));
    let directory = tempfile::tempdir().unwrap();
    one.write_oci_layout(directory.path(), Some("1")).unwrap();
    let tree =
        LayerBuilder::new().directory_tree(directory.path()).unwrap().build(Compression::None).unwrap();
    let imported = World::new().import(&tree.bytes).unwrap();
    assert_eq!(imported.images[0].target, one.target);
}

#[test]
fn indexes_inside_indexes_have_a_limit() {
    let mut built = image("x", Dialect::Oci, Compression::Gzip);
    for _ in 0..6 {
        built = BuiltImage::index(vec![built], Dialect::Oci);
    }
    assert!(refusal(&oci_tar(&built, Some("1"))).contains("others"));
}

#[test]
fn cve_2021_41190_a_layer_is_not_read_as_a_manifest_whatever_the_index_calls_it() {
    let layer = LayerBuilder::new().file("a", 0o644, b"a").build(Compression::None).unwrap();
    let hex = layer.digest.hex();
    let index = format!(
        r#"{{"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}}}]}}"#,
        layer.digest,
        layer.bytes.len()
    );
    let blob = format!("blobs/sha256/{hex}");
    let archive = tar_of(&[("index.json", index.as_bytes()), (blob.as_str(), &layer.bytes)]);
    assert!(refusal(&archive).contains("image archive"));
    let config = index.replace("manifest.v1", "config.v1");
    let archive = tar_of(&[("index.json", config.as_bytes()), (blob.as_str(), &layer.bytes)]);
    let error = World::new().import(&archive).expect_err("no image");
    assert_eq!(error.class(), ErrorClass::NotImplemented);
}

#[test]
fn a_descriptor_that_lies_about_the_size_is_refused() {
    let built = image("x", Dialect::Oci, Compression::Gzip);
    let index = format!(
        r#"{{"manifests":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
        built.target.media_type,
        built.target.digest,
        built.target.size + 1
    );
    let mut files = vec![("index.json".to_owned(), index.into_bytes())];
    for (descriptor, bytes) in &built.blobs {
        files.push((format!("blobs/sha256/{}", descriptor.digest.hex()), bytes.clone()));
    }
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    assert!(refusal(&tar_of(&files)).contains("bytes"));
}

#[test]
fn blobs_named_by_what_is_no_digest_are_refused() {
    for name in ["blobs/sha256/XYZ", "blobs/sha256/a/b", "blobs/sha256/..%2f..%2fetc"] {
        assert!(refusal(&tar_of(&[(name, b"x"), ("index.json", b"{}")])).contains("digest"), "{name}");
    }
    let upper = format!("blobs/sha256/{}", "A".repeat(64));
    refusal(&tar_of(&[(upper.as_str(), b"x")]));
}

#[test]
fn names_in_an_archive_are_image_names_or_nothing() {
    let built = image("x", Dialect::Oci, Compression::Gzip);
    for name in ["a/b:\u{1b}[31m", "a/b:1\n2", &format!("a/{}", "n".repeat(5000))] {
        let error = World::new().import(&oci_tar(&built, Some(name))).expect_err(name);
        assert_eq!(error.class(), ErrorClass::InvalidArgument, "{name}");
    }
}

#[test]
fn more_images_than_any_archive_has_are_refused() {
    let items = vec![r#"{"Config":"c.json","RepoTags":null,"Layers":[]}"#; 1025].join(",");
    let manifest = format!("[{items}]");
    assert!(refusal(&tar_of(&[("manifest.json", manifest.as_bytes())])).contains("1024"));
}
