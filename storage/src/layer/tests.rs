//! Tests of the one-pass layer pipeline.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use bosun_types::NamespaceName;
use tempfile::TempDir;

use super::*;
use crate::compression::Compression;
use crate::content::ContentStore;
use crate::image::writer::{Layer, LayerBuilder};

struct World {
    directory: TempDir,
    content: ContentStore,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("target")).unwrap();
        let content = ContentStore::open(directory.path()).unwrap();
        Self { directory, content }
    }

    fn ingest(&self) -> Ingest {
        self.content.begin(&NamespaceName::default_name(), "layer", 0, None).unwrap()
    }

    fn ingested(&self) -> u64 {
        let statuses = self.content.statuses(&NamespaceName::default_name()).unwrap();
        statuses.first().map_or(0, |status| status.offset)
    }

    fn fetch(&self, source: impl Read + Send, descriptor: &Descriptor) -> Result<LayerOutcome, LayerError> {
        let target = self.directory.path().join("target");
        let options = UnpackOptions::default();
        fetch_and_unpack(source, Some(self.ingest()), descriptor, Some((&target, &options)), &|_| {})
    }

    fn has(&self, path: &str) -> bool {
        self.directory.path().join("target").join(path).exists()
    }
}

/// A layer of some size that does not shrink to nothing.
fn layer(compression: Compression) -> Layer {
    let mut noise = vec![0u8; 1 << 20];
    getrandom::fill(&mut noise).unwrap();
    let builder = LayerBuilder::new().directory("etc", 0o755).file("etc/noise", 0o644, &noise);
    builder.file("etc/last", 0o644, b"last").build(compression).unwrap()
}

fn describe(layer: &Layer) -> Descriptor {
    Descriptor { media_type: String::new(), digest: layer.digest, size: layer.bytes.len() as u64 }
}

/// Ends with a connection reset after `left` bytes.
struct Cut<'a> {
    bytes: &'a [u8],
}

impl Read for Cut<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.bytes.read(buffer)
    }
}

#[test]
fn one_pass_keeps_the_blob_and_unpacks_it() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (world, layer) = (World::new(), layer(compression));
        let told = AtomicU64::new(0);
        let target = world.directory.path().join("target");
        let outcome = fetch_and_unpack(
            &layer.bytes[..],
            Some(world.ingest()),
            &describe(&layer),
            Some((&target, &UnpackOptions::default())),
            &|bytes| told.store(bytes, Ordering::Relaxed),
        )
        .unwrap();
        assert_eq!((outcome.digest, outcome.diff_id), (layer.digest, layer.diff_id));
        assert_eq!(outcome.unpacked.as_ref().unwrap().entries, 3);
        assert_eq!(told.load(Ordering::Relaxed), layer.bytes.len() as u64);
        assert!(world.has("etc/last") && world.content.has_blob(&layer.digest));
        // Again from the store, and once only to be verified.
        let blob = world.content.open_blob(&layer.digest).unwrap();
        let verified = fetch_and_unpack(blob, None, &describe(&layer), None, &|_| {}).unwrap();
        assert_eq!((verified.diff_id, verified.unpacked), (layer.diff_id, None));
    }
}

#[test]
fn dif_1_bytes_after_the_archive_are_part_of_both_digests() {
    let mut tar = LayerBuilder::new().file("a", 0o644, b"a").build(Compression::None).unwrap().bytes;
    tar.extend_from_slice(&[9; 700_000]);
    for compression in [Compression::None, Compression::Gzip] {
        let layer = Layer::from_tar(&tar, compression).unwrap();
        let outcome = World::new().fetch(&layer.bytes[..], &describe(&layer)).unwrap();
        assert_eq!((outcome.digest, outcome.diff_id), (layer.digest, layer.diff_id));
    }
}

#[test]
fn con_15_a_cut_connection_keeps_the_bytes_and_the_next_try_reads_them_from_disk() {
    let (world, layer) = (World::new(), layer(Compression::Gzip));
    let descriptor = describe(&layer);
    let half = layer.bytes.len() / 2;
    let error = world.fetch(Cut { bytes: &layer.bytes[..half] }, &descriptor).expect_err("cut");
    assert!(matches!(error, LayerError::Source { .. }));
    assert_eq!((error.class(), world.ingested()), (ErrorClass::Unavailable, half as u64));
    // A server that ends too early looks the same.
    let more = half + 1000;
    let error = world.fetch(&layer.bytes[half..more], &descriptor).expect_err("short");
    assert!(matches!(error, LayerError::Short { .. } | LayerError::Unpack { .. }), "{error}");
    assert_eq!((error.class(), world.ingested()), (ErrorClass::Unavailable, more as u64));
    let outcome = world.fetch(&layer.bytes[more..], &descriptor).unwrap();
    assert_eq!(outcome.diff_id, layer.diff_id);
    assert!(world.has("etc/last"));
}

#[test]
fn other_bytes_than_promised_are_refused_and_thrown_away() {
    let (world, layer) = (World::new(), layer(Compression::Gzip));
    for position in [0, 20, layer.bytes.len() / 2, layer.bytes.len() - 1] {
        let mut bytes = layer.bytes.clone();
        bytes[position] ^= 0x10;
        let error = world.fetch(&bytes[..], &describe(&layer)).expect_err("other bytes");
        assert!(matches!(error, LayerError::WrongDigest { .. }), "at {position}: {error}");
        assert_eq!((error.class(), world.ingested()), (ErrorClass::FailedPrecondition, 0));
    }
    let mut longer = layer.bytes.clone();
    longer.push(0);
    let error = world.fetch(&longer[..], &describe(&layer)).expect_err("longer");
    assert!(matches!(error, LayerError::Long { .. }), "{error}");
    assert_eq!(world.ingested(), 0);
    assert!(world.content.list_blobs().unwrap().is_empty());
}

#[test]
fn a_hostile_layer_that_is_what_was_promised_is_kept_as_a_blob_and_refused_as_a_layer() {
    let world = World::new();
    let tar = LayerBuilder::new().hard_link("a", "../../etc/passwd").build(Compression::None).unwrap().bytes;
    let layer = Layer::from_tar(&tar, Compression::Gzip).unwrap();
    let error = world.fetch(&layer.bytes[..], &describe(&layer)).expect_err("hostile");
    assert_eq!(error.class(), ErrorClass::InvalidArgument);
    let message = bosun_types::Error::from(error).message;
    assert!(message.contains(&layer.digest.to_string()) && message.contains(".."), "{message}");
    assert!(world.content.has_blob(&layer.digest));
}

#[test]
fn a_gzip_bomb_and_a_truncated_layer_are_refused_by_name() {
    let world = World::new();
    let bomb = Layer::from_tar(&vec![0; 200 << 20], Compression::Gzip).unwrap();
    let error = world.fetch(&bomb.bytes[..], &describe(&bomb)).expect_err("a bomb");
    assert_eq!(error.class(), ErrorClass::InvalidArgument);
    assert!(bosun_types::Error::from(error).message.contains("bomb"));
    // Truncated before it was pushed: the digest is right, the layer is not.
    let whole = layer(Compression::Gzip);
    let bytes = whole.bytes[..whole.bytes.len() - 100].to_vec();
    let digest = crate::image::digest_of(&bytes);
    let cut = Layer { bytes, digest, ..whole };
    let error = world.fetch(&cut.bytes[..], &describe(&cut)).expect_err("truncated");
    assert_eq!(error.class(), ErrorClass::InvalidArgument);
}

#[test]
fn img_19_a_wrong_diff_id_is_named() {
    let (world, layer) = (World::new(), layer(Compression::Gzip));
    let outcome = world.fetch(&layer.bytes[..], &describe(&layer)).unwrap();
    outcome.expect_diff_id(&layer.diff_id).unwrap();
    let error = outcome.expect_diff_id(&layer.digest).expect_err("wrong");
    assert_eq!(error.class(), ErrorClass::FailedPrecondition);
    assert!(error.to_string().contains("wrong diff id calculated"));
}

#[test]
fn a_full_disk_under_the_target_keeps_the_ingest() {
    let (world, layer) = (World::new(), layer(Compression::Gzip));
    let target = world.directory.path().join("target");
    nix::mount::mount(Some("tmpfs"), &target, Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=128k"))
        .unwrap();
    let result = world.fetch(&layer.bytes[..], &describe(&layer));
    nix::mount::umount2(&target, nix::mount::MntFlags::MNT_DETACH).unwrap();
    assert_eq!(result.expect_err("no space").class(), ErrorClass::ResourceExhausted);
    let resumed = world.ingested();
    assert!(resumed > 0);
    let rest = &layer.bytes[usize::try_from(resumed).unwrap()..];
    assert_eq!(world.fetch(rest, &describe(&layer)).unwrap().diff_id, layer.diff_id);
}

#[test]
fn layers_unpacked_at_once_are_what_they_are_one_after_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let layers: Vec<Layer> = (0..4)
        .map(|n| {
            let noise = vec![n; 300_000];
            let mut builder = LayerBuilder::new().directory("d", 0o750).file("d/common", 0o640, &noise);
            builder = builder.file(&format!("d/own-{n}"), 0o600, &noise).hard_link("d/link", "d/common");
            if n > 0 {
                builder = builder.whiteout(&format!("d/own-{}", n - 1)).opaque(&format!("opaque-{n}"));
            }
            builder.build(Compression::Gzip).unwrap()
        })
        .collect();
    let unpack = |layer: &Layer, to: &str| {
        let target = directory.path().join(to);
        fs::create_dir(&target).unwrap();
        let options = UnpackOptions::default();
        fetch_and_unpack(&layer.bytes[..], None, &describe(layer), Some((&target, &options)), &|_| {})
            .unwrap()
    };
    std::thread::scope(|scope| {
        for (n, layer) in layers.iter().enumerate() {
            let unpack = &unpack;
            scope.spawn(move || unpack(layer, &format!("at-once-{n}")));
        }
    });
    for (n, layer) in layers.iter().enumerate() {
        unpack(layer, &format!("in-turn-{n}"));
        // Times of files alone: those of the root, of implied directories and of whiteouts are those of the unpacking.
        let picture = format!(
            "cd {0} && for t in at-once-{n} in-turn-{n}; do (cd $t && find . -type f -printf '%p %m %n %s %T@\\n' \\
             -o -printf '%p %y %m %n\\n' | sort) > $t.txt; done && \\
             cmp at-once-{n}.txt in-turn-{n}.txt && test -s in-turn-{n}.txt",
            directory.path().display()
        );
        let difference = std::process::Command::new("sh").arg("-c").arg(picture).output().unwrap();
        assert!(difference.status.success(), "{difference:?}");
    }
}

/// Not a check but a measurement: `cargo test -p bosun-storage measure -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn measure_one_pass_against_one_thread() {
    use crate::compression::{CompressionLimits, Decompressor};
    use sha2::{Digest as _, Sha256};

    struct Hashing<R>(R, Sha256);
    impl<R: Read> Read for Hashing<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.read(buffer)?;
            self.1.update(&buffer[..length]);
            Ok(length)
        }
    }

    let mut builder = LayerBuilder::new();
    let text: Vec<u8> = (0..200_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 12).to_string().into_bytes())
        .collect();
    for file in 0..4000 {
        let at = (file * 37) % 1_000_000;
        builder = builder.file(&format!("d{}/f{file}", file % 50), 0o644, &text[at..at + 20_000]);
    }
    let layer = builder.build(Compression::Gzip).unwrap();
    for _ in 0..3 {
        let world = World::new();
        let started = std::time::Instant::now();
        world.fetch(&layer.bytes[..], &describe(&layer)).unwrap();
        let both = started.elapsed();
        let world = World::new();
        let started = std::time::Instant::now();
        let source = Hashing(&layer.bytes[..], Sha256::new());
        let plain = Hashing(Decompressor::new(source, CompressionLimits::default()).unwrap(), Sha256::new());
        let target = world.directory.path().join("target");
        crate::archive::unpack(plain, &target, &UnpackOptions::default()).unwrap();
        eprintln!(
            "{} bytes: two threads {both:?} (with the ingest), one thread {:?}",
            layer.bytes.len(),
            started.elapsed()
        );
    }
}
