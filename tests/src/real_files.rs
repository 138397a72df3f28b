//! Large images from this machine's own files: what a pull is measured with. Whole directories in the order of a walk, each layer with the directories above
//! its files, as image builders write them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use bosun_storage::compression::Compression;
use bosun_storage::image::writer::{BuiltImage, ImageBuilder, LayerBuilder, LayerEntry, LayerEntryKind};

/// Where files are taken from: what a build machine of Debian has.
const ROOTS: &[&str] = &[
    "/usr/lib/python3.11",
    "/usr/lib/gcc",
    "/usr/lib/git-core",
    "/usr/share/perl",
    "/usr/share/doc",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/llvm-14",
    "/usr/lib",
    "/usr/share",
    "/usr/bin",
];
/// Larger files are left out: one of them would be a layer of its own.
const FILE_BYTES_MAX: u64 = 30 << 20;
/// Less than this share of what was asked for is not what was asked for.
const ENOUGH: f64 = 0.8;

/// Files of about `sizes[i]` bytes for each layer.
fn pick(sizes: &[u64]) -> anyhow::Result<Vec<Vec<PathBuf>>> {
    let mut picker =
        Picker { sizes, bins: vec![Vec::new(); sizes.len()], filled: 0, at: 0, seen: BTreeSet::new() };
    for root in ROOTS {
        picker.walk(Path::new(root))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = (picker.at as f64) / (sizes.len() as f64);
    ensure!(share >= ENOUGH, "this machine has files for {} of {} layers only", picker.at, sizes.len());
    Ok(picker.bins)
}

struct Picker<'a> {
    sizes: &'a [u64],
    bins: Vec<Vec<PathBuf>>,
    filled: u64,
    at: usize,
    seen: BTreeSet<PathBuf>,
}

impl Picker<'_> {
    fn walk(&mut self, directory: &Path) -> anyhow::Result<()> {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            if self.at == self.sizes.len() {
                return Ok(());
            }
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                self.walk(&path)?;
                continue;
            }
            let fits = metadata.is_symlink() || (metadata.is_file() && metadata.len() <= FILE_BYTES_MAX);
            if !fits || path.to_str().is_none() || !self.seen.insert(path.clone()) {
                continue;
            }
            self.filled += if metadata.is_file() { metadata.len() } else { 0 };
            self.bins[self.at].push(path);
            if self.filled >= self.sizes[self.at] {
                (self.at, self.filled) = (self.at + 1, 0);
            }
        }
        Ok(())
    }
}

fn layer_of(files: &[PathBuf]) -> anyhow::Result<LayerBuilder> {
    let mut builder = LayerBuilder::new();
    let mut made = BTreeSet::new();
    for path in files {
        let inside = format!("data{}", path.display());
        for (slash, _) in inside.match_indices('/') {
            if made.insert(inside[..slash].to_owned()) {
                builder = builder.directory(&inside[..slash], 0o755);
            }
        }
        let metadata = fs::symlink_metadata(path)?;
        let kind = if metadata.is_symlink() {
            LayerEntryKind::Symlink(fs::read_link(path)?.to_string_lossy().into_owned())
        } else {
            LayerEntryKind::File(fs::read(path)?)
        };
        builder = builder.entry(&LayerEntry::new(&inside, kind, metadata.permissions().mode() & 0o7777));
    }
    Ok(builder)
}

/// An image with layers of about these sizes, uncompressed, once for each compression.
pub fn images(sizes: &[u64], compressions: &[Compression]) -> anyhow::Result<Vec<BuiltImage>> {
    let mut builders: Vec<ImageBuilder> = compressions.iter().map(|_| ImageBuilder::new()).collect();
    for files in pick(sizes)? {
        for (builder, compression) in builders.iter_mut().zip(compressions) {
            let layer = layer_of(&files)?.build(*compression)?;
            *builder = std::mem::take(builder).layer(layer);
        }
    }
    Ok(builders.into_iter().map(ImageBuilder::build).collect())
}
