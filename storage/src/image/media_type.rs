//! The media types that are understood (IMG-7).

use crate::compression::Compression;

/// Docker: one image.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker: several platforms.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker: the old signed form, converted or refused by name.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// Docker: config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker: layer, plain.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker: layer, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// OCI: one image.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI: several platforms.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI: config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI: layer, plain.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI: layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI: layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Whether it is docker's old form, signed or not.
pub fn is_schema1(media_type: &str) -> bool {
    matches!(media_type, DOCKER_SCHEMA1 | "application/vnd.docker.distribution.manifest.v1+json")
}

/// Whether it names one image.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, DOCKER_MANIFEST | OCI_MANIFEST)
}

/// Whether it names several images.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, DOCKER_MANIFEST_LIST | OCI_INDEX)
}

/// Whether it names an image's config.
pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, DOCKER_CONFIG | OCI_CONFIG)
}

/// How a layer that is to be made is compressed, by its type (DIF-3); empty is [`OCI_LAYER_GZIP`]. `None`: not a type that
/// is made.
pub fn compression_of_new_layer(media_type: &str) -> Option<Compression> {
    match media_type {
        OCI_LAYER | DOCKER_LAYER => Some(Compression::None),
        "" | OCI_LAYER_GZIP | DOCKER_LAYER_GZIP => Some(Compression::Gzip),
        OCI_LAYER_ZSTD => Some(Compression::Zstd),
        _ => None,
    }
}

/// Whether it names a layer that may not be given on ("foreign"): who pulls it has it from addresses of its own.
pub fn is_non_distributable(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

/// Whether it names a layer that can be unpacked (DIF-2), the non-distributable ("foreign") ones included.
pub fn is_layer(media_type: &str) -> bool {
    let known = [
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ];
    known.iter().any(|base| {
        media_type
            .strip_prefix(base)
            .is_some_and(|rest| matches!(rest, "" | ".gzip" | "+gzip" | ".zstd" | "+zstd"))
    }) || [".tar", ".tar.gzip", ".tar+gzip"].iter().any(|end| media_type.ends_with(end))
}
