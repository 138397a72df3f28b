//! Layers, image archives, compressed streams.

use std::io::{self, Read as _};
use std::path::Path;

use bosun_storage::archive::{UnpackOptions, Whiteouts, unpack};
use bosun_storage::compare::{CompareError, Source, compare};
use bosun_storage::compression::{Compression, CompressionLimits, Decompressor};
use bosun_storage::content::ContentStore;
use bosun_storage::image::closure::Platforms;
use bosun_storage::image::export::{ExportImage, ExportOptions, write_archive};
use bosun_storage::image::import::{ImportOptions, Imported, read_archive};
use bosun_storage::image::writer::{ImageBuilder, LayerBuilder};
use bosun_types::NamespaceName;

use super::engine::{Target, as_it_is};

const TAR_WORDS: &[&str] = &[
    "../",
    "/",
    ".wh.",
    ".wh..wh..opq",
    ".wh..wh.plnk/",
    "ustar\x0000",
    "ustar  \0",
    "path=",
    "linkpath=",
    "size=",
    "uid=",
    "mtime=-1.5",
    "SCHILY.xattr.user.a=",
    "SCHILY.xattr.trusted.overlay.opaque=y",
    "22 GNU.sparse.major=1\n",
    "GNU.sparse.realsize=",
    "GNU.sparse.map=0,1,4096,1",
    "1\n0\n512\n",
    "11 path=a/b\n",
    "\0\0\0\0\0\0\0\0",
];

/// Makes the checksum of every block right that looks like a header.
fn mend_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// In memory where there is such a place: the disk is not what is tried here.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

/// Holes cost an archive nothing: what they make of a file is not read here.
const COMPARED_BYTES_MAX: u64 = 16 << 20;

/// Of all files, holes included.
fn apparent_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("lists").map(|entry| entry.expect("lists"));
    let bytes = entries.map(|entry| match entry.metadata().expect("is there") {
        metadata if metadata.is_dir() => apparent_bytes(&entry.path()),
        metadata => metadata.len(),
    });
    bytes.fold(0, u64::saturating_add)
}

#[test]
fn a_layer_archive_never_panics_never_leaves_its_root_and_what_it_makes_can_be_a_layer_again() {
    let layer = LayerBuilder::new()
        .directory("d", 0o755)
        .file("d/f", 0o644, &[7; 700])
        .hard_link("l", "d/f")
        .symlink("s", "/d")
        .whiteout("gone")
        .opaque("d");
    let inputs = vec![layer.build(Compression::None).expect("a layer").bytes];
    let target = Target { name: "tar", inputs, words: TAR_WORDS, mend: mend_checksums, change: None };
    let mut removes = false;
    target.run(|input| {
        let world = folder();
        let (root, secret) = (world.path().join("root"), world.path().join("secret"));
        std::fs::create_dir(&root).expect("makes");
        std::fs::write(&secret, "untouched").expect("writes");
        removes = !removes;
        let whiteouts = if removes { Whiteouts::Remove } else { Whiteouts::Overlay };
        let unpacked = unpack(input, &root, &UnpackOptions { whiteouts, ..UnpackOptions::default() });
        assert_eq!(std::fs::read(&secret).expect("is there"), b"untouched");
        assert_eq!(std::fs::read_dir(world.path()).expect("lists").count(), 2, "nothing beside the root");
        if unpacked.is_ok() && apparent_bytes(&root) < COMPARED_BYTES_MAX {
            let source = if removes { Source::trees(None, &root) } else { Source::overlay(&root) };
            match compare(source.expect("opens"), Compression::None, io::sink(), &|_| Ok(())) {
                // Through links a tree can come out deeper than any archive can say.
                Ok(_) | Err(CompareError::Refused { .. }) => {}
                Err(error) => panic!("it cannot be a layer again: {error}"),
            }
        }
    });
}

#[test]
fn an_image_archive_leaves_no_ingest_and_what_came_in_goes_out_and_in_again() {
    let built = ImageBuilder::new()
        .layer(LayerBuilder::new().file("a", 0o644, b"a").build(Compression::Gzip).expect("a layer"))
        .build();
    let (mut oci, mut docker) = (Vec::new(), Vec::new());
    built.write_oci_tar(&mut oci, Some("r.local/a:1")).expect("an archive");
    built.write_docker_save(&mut docker, &["r.local/a:1"]).expect("an archive");
    let words = &[
        "index.json",
        "manifest.json",
        "oci-layout",
        "blobs/sha256/",
        "\"manifests\":[",
        "\"layers\":[",
        "\"config\":{",
        "\"RepoTags\":[\"a:1\"]",
        "\"Layers\":[]",
        "application/vnd.oci.image.index.v1+json",
        "sha256:",
        "null",
        "{}",
        "[]",
    ];
    let target =
        Target { name: "image", inputs: vec![oci, docker], words, mend: mend_checksums, change: None };
    let namespace = NamespaceName::default_name();
    target.run(|input| {
        let (world, other) = (folder(), folder());
        let store = ContentStore::open(world.path()).expect("opens");
        let imported = import(&store, input);
        assert!(store.statuses(&namespace).expect("lists").is_empty(), "no ingest outlives its import");
        let Ok(imported) = imported else { return };
        let images: Vec<ExportImage> = imported
            .images
            .iter()
            .map(|image| ExportImage { names: image.names.clone(), target: image.target.clone() })
            .collect();
        let options = ExportOptions {
            platforms: Platforms::All,
            docker: false,
            skip_non_distributable: false,
            known: &|_| true,
            found: &|_| {},
            progress: &|_, _| {},
        };
        let mut archive = Vec::new();
        write_archive(&images, &store, &options, &mut archive).expect("what came in goes out");
        let again =
            import(&ContentStore::open(other.path()).expect("opens"), &archive).expect("and in again");
        assert_eq!(again.images, imported.images);
    });
}

fn import(
    store: &ContentStore,
    archive: &[u8],
) -> Result<Imported, bosun_storage::image::import::ImportError> {
    let options = ImportOptions { base_name: Some("base/name"), known: &|_| false, progress: &|_| () };
    read_archive(archive, store, &NamespaceName::default_name(), &options)
}

#[test]
fn a_compressed_stream_gives_what_it_may_and_no_more() {
    let text = b"some text that repeats, ".repeat(50);
    let inputs = [Compression::Gzip, Compression::Zstd, Compression::None].map(|compression| {
        let mut compressor =
            bosun_storage::compression::Compressor::new(Vec::new(), compression).expect("begins");
        io::Write::write_all(&mut compressor, &text).expect("writes");
        compressor.finish().expect("ends").0
    });
    let words = &["\x1f\u{8b}", "(\u{b5}/\u{fd}"];
    let target = Target { name: "stream", inputs: inputs.to_vec(), words, mend: as_it_is, change: None };
    let limits = CompressionLimits { ratio_free_bytes: 1 << 20, ..CompressionLimits::default() };
    target.run(|input| {
        let Ok(mut decompressor) = Decompressor::new(input, limits) else { return };
        let (mut buffer, mut written) = (vec![0; 64 << 10], 0u64);
        while let Ok(length) = decompressor.read(&mut buffer) {
            if length == 0 {
                break;
            }
            written += length as u64;
        }
        let most = (1 << 20) + buffer.len() as u64 + input.len() as u64 * limits.ratio_max;
        assert!(written <= most, "{written} bytes out of {}", input.len());
    });
}
