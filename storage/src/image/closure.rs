//! Everything that an image is made of: from its target down through indexes and manifests, whatever else an index may
//! name (a checkpoint's files) included.

use std::collections::BTreeSet;

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use bosun_types::platform::Platform;

use super::{
    ImageError, Index, IndexEntry, MANIFEST_BYTES_MAX, Parsed, children, choose, media_type,
    parse_manifest_or_index,
};

/// Indexes inside indexes; deeper than this is an attack.
pub const INDEX_DEPTH_MAX: usize = 4;

/// Whose manifests of an index are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// Those of every platform. Absent ones are left out (IEX-4), as long as one is there.
    All,
    /// The best one for each of these. Entries that name no platform come along where they are there.
    These(Vec<Platform>),
}

/// One blob of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The blob.
    pub descriptor: Descriptor,
    /// What it points at, there or not, wanted or not; empty for what is no document.
    pub children: Vec<Digest>,
    /// What it is: `index`, `manifest`, `config`, `layer`, `unknown` (REM-11).
    pub kind: &'static str,
}

/// What the walk stops at.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError<E> {
    /// A document is wrong, or has nothing for the platform.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A blob that is needed is not there.
    #[error("{by} points at {digest}, which is missing")]
    Missing {
        /// What points at it.
        by: String,
        /// The blob.
        digest: Digest,
    },
    /// A document could not be read.
    #[error(transparent)]
    Read(E),
}

/// Gives the bytes of a document, if they are at most so many.
pub type Read<'a, E> = &'a dyn Fn(&Digest, usize) -> Result<Vec<u8>, E>;

/// Walks from `target` down, each blob once, a document before what it points at. `has` tells whether a blob is
/// there. A layer that may not be given on is left out when it is not.
pub fn closure<E>(
    target: &Descriptor,
    platforms: &Platforms,
    has: &dyn Fn(&Digest) -> bool,
    read: Read<'_, E>,
) -> Result<Vec<Member>, ClosureError<E>> {
    let mut walk = Walk { platforms, has, read, seen: BTreeSet::new(), members: Vec::new() };
    walk.require(target, "the image")?;
    walk.document(target, INDEX_DEPTH_MAX)?;
    Ok(walk.members)
}

struct Walk<'a, E> {
    platforms: &'a Platforms,
    has: &'a dyn Fn(&Digest) -> bool,
    read: Read<'a, E>,
    seen: BTreeSet<Digest>,
    members: Vec<Member>,
}

impl<E> Walk<'_, E> {
    fn require(&self, descriptor: &Descriptor, by: &str) -> Result<(), ClosureError<E>> {
        if (self.has)(&descriptor.digest) {
            return Ok(());
        }
        Err(ClosureError::Missing { by: by.to_owned(), digest: descriptor.digest })
    }

    fn document(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), ClosureError<E>> {
        if !self.seen.insert(descriptor.digest) {
            return Ok(());
        }
        let bytes = (self.read)(&descriptor.digest, MANIFEST_BYTES_MAX).map_err(ClosureError::Read)?;
        let parsed = parse_manifest_or_index(&bytes, &descriptor.media_type)?;
        let kind = if matches!(parsed, Parsed::Index(_)) { "index" } else { "manifest" };
        let below = children(&parsed);
        self.members.push(Member {
            descriptor: descriptor.clone(),
            children: below.iter().map(|child| child.digest).collect(),
            kind,
        });
        let by = format!("{kind} {}", descriptor.digest);
        match parsed {
            Parsed::Manifest(_) => below.iter().enumerate().try_for_each(|(position, child)| {
                // Whoever has the manifest has the addresses of what may not be given on.
                if media_type::is_non_distributable(&child.media_type) && !(self.has)(&child.digest) {
                    return Ok(());
                }
                self.require(child, &by)?;
                self.leaf(child, if position == 0 { "config" } else { "layer" });
                Ok(())
            }),
            Parsed::Index(index) => {
                let Some(depth) = depth.checked_sub(1) else {
                    let why = format!("it lies in more than {INDEX_DEPTH_MAX} others");
                    return Err(ImageError::Invalid { what: by, why }.into());
                };
                self.wanted(&index, &by)?.into_iter().try_for_each(|entry| {
                    if entry.is_document() {
                        return self.document(&entry.descriptor, depth);
                    }
                    self.leaf(&entry.descriptor, "unknown");
                    Ok(())
                })
            }
        }
    }

    fn leaf(&mut self, descriptor: &Descriptor, kind: &'static str) {
        if self.seen.insert(descriptor.digest) {
            self.members.push(Member { descriptor: descriptor.clone(), children: Vec::new(), kind });
        }
    }

    /// The entries to go into; each is there.
    fn wanted<'i>(&self, index: &'i Index, by: &str) -> Result<Vec<&'i IndexEntry>, ClosureError<E>> {
        let here = |entry: &&IndexEntry| (self.has)(&entry.descriptor.digest);
        let mut wanted: Vec<&IndexEntry> = match self.platforms {
            Platforms::All => index.manifests.iter().collect(),
            Platforms::These(platforms) => {
                let serves = |entry: &&IndexEntry| match &entry.platform {
                    None => true,
                    // Of a manifest the best one counts, see below.
                    Some(theirs) => {
                        !entry.is_document() && platforms.iter().any(|it| it.rank(theirs).is_some())
                    }
                };
                let mut wanted: Vec<&IndexEntry> = index.manifests.iter().filter(serves).collect();
                if index.manifests.iter().any(|entry| entry.is_document() && entry.platform.is_some()) {
                    for platform in platforms {
                        let best = choose(index, platform)?;
                        self.require(&best, by)?;
                        let is_best = |entry: &&IndexEntry| entry.descriptor.digest == best.digest;
                        wanted.extend(index.manifests.iter().find(is_best));
                    }
                }
                wanted
            }
        };
        let first = wanted.first().map(|entry| entry.descriptor.digest);
        wanted.retain(here);
        match first {
            Some(digest) if wanted.is_empty() => Err(ClosureError::Missing { by: by.to_owned(), digest }),
            _ => Ok(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::compression::Compression;
    use crate::image::digest_of;
    use crate::image::writer::{BuiltImage, Dialect, ImageBuilder, LayerBuilder};

    fn image(platform: &str) -> BuiltImage {
        let layer = LayerBuilder::new().file(platform, 0o644, b"x").build(Compression::Gzip).unwrap();
        let common = LayerBuilder::new().file("common", 0o644, b"x").build(Compression::Gzip).unwrap();
        let platform = Platform::parse(platform).unwrap();
        ImageBuilder { platform, ..ImageBuilder::new() }.layer(common).layer(layer).build()
    }

    type Blobs = BTreeMap<Digest, Vec<u8>>;

    fn blobs(image: &BuiltImage) -> Blobs {
        image.blobs.iter().map(|(descriptor, bytes)| (descriptor.digest, bytes.clone())).collect()
    }

    fn walk(blobs: &Blobs, target: &Descriptor, platforms: &Platforms) -> Result<Vec<Member>, String> {
        let has = |digest: &Digest| blobs.contains_key(digest);
        let read = |digest: &Digest, most: usize| match blobs.get(digest) {
            Some(bytes) if bytes.len() <= most => Ok(bytes.clone()),
            _ => Err("unreadable".to_owned()),
        };
        closure(target, platforms, &has, &read).map_err(|error| error.to_string())
    }

    fn these(platform: &str) -> Platforms {
        Platforms::These(vec![Platform::parse(platform).unwrap()])
    }

    #[test]
    fn iex_1_one_platform_or_all_of_an_index() {
        let images = ["linux/amd64", "linux/arm64", "linux/riscv64"].map(image);
        let index = BuiltImage::index(images.to_vec(), Dialect::Oci);
        let all = blobs(&index);
        let members = walk(&all, &index.target, &Platforms::All).unwrap();
        assert_eq!(members.len(), all.len(), "each once, shared layers too");
        assert_eq!(members[0].descriptor, index.target);
        let one = walk(&all, &index.target, &these("linux/arm64")).unwrap();
        let kinds: Vec<&str> = one.iter().map(|member| member.kind).collect();
        assert_eq!(kinds, ["index", "manifest", "config", "layer", "layer"]);
        assert_eq!(one[0].children.len(), 3, "what the index points at, wanted or not");
        assert_eq!(one[1].descriptor.digest, images[1].target.digest);
        assert!(walk(&all, &index.target, &these("windows/amd64")).unwrap_err().contains("windows"));
        // Absent platforms are nothing to all of them, and everything to who asks for one.
        let mut some = all.clone();
        some.remove(&images[1].target.digest);
        assert!(walk(&some, &index.target, &Platforms::All).unwrap().len() < all.len());
        assert!(walk(&some, &index.target, &these("linux/arm64")).unwrap_err().contains("missing"));
        let none: Blobs = some.into_iter().filter(|(digest, _)| *digest == index.target.digest).collect();
        assert!(walk(&none, &index.target, &Platforms::All).unwrap_err().contains("missing"));
    }

    #[test]
    fn ckp_3_whatever_an_index_names_comes_along() {
        let inner = image("linux/amd64");
        let mut all = blobs(&inner);
        let (checkpoint, rw) = (b"criu".to_vec(), b"rw".to_vec());
        let entry = |media_type: &str, bytes: &[u8]| {
            json!({ "mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len(),
                    "platform": { "os": "linux", "architecture": "amd64" } })
        };
        let index = json!({ "schemaVersion": 2, "manifests": [
            entry("application/vnd.containerd.container.criu.checkpoint.criu.tar", &checkpoint),
            entry("application/vnd.oci.image.layer.v1.tar+gzip", &rw),
            json!(inner.target),
        ]});
        let bytes = serde_json::to_vec(&index).unwrap();
        let target = Descriptor {
            media_type: media_type::OCI_INDEX.to_owned(),
            digest: digest_of(&bytes),
            size: bytes.len() as u64,
        };
        for blob in [checkpoint, rw, bytes] {
            all.insert(digest_of(&blob), blob);
        }
        assert_eq!(walk(&all, &target, &Platforms::All).unwrap().len(), all.len());
        assert_eq!(walk(&all, &target, &these("linux/amd64")).unwrap().len(), all.len());
    }

    #[test]
    fn an_index_that_lies_in_too_many_others_is_refused_and_so_is_a_missing_layer() {
        let mut built = image("linux/amd64");
        let gone = built.blobs[0].0.digest;
        let mut all = blobs(&built);
        all.remove(&gone);
        let error = walk(&all, &built.target, &Platforms::All).unwrap_err();
        assert!(error.contains(&gone.to_string()) && error.contains("manifest"), "{error}");
        for _ in 0..=INDEX_DEPTH_MAX {
            built = BuiltImage::index(vec![built], Dialect::Oci);
        }
        let error = walk(&blobs(&built), &built.target, &Platforms::All).unwrap_err();
        assert!(error.contains("more than 4"), "{error}");
    }
}
