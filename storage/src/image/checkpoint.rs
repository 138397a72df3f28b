//! The index of a checkpoint (CKP-3, CKP-5) and the container's spec in it, as bytes and back.
//!
//! An OCI index whose manifests are, in this order: CRIU's image files, the container's spec, the image that the container was made from,
//! the layer of what the container wrote. When it is read the order is no matter: each is known by its media type.

use std::collections::BTreeMap;

use bosun_types::checkpoint::{ANNOTATION_IMAGE, MEDIA_CONFIG, MEDIA_CRIU};
use bosun_types::container::Any;
use bosun_types::content::Descriptor;
use bosun_types::platform::Platform;
use bosun_types::{ImageName, Labels};
use protobuf::Message as _;
use protobuf::well_known_types::any;
use serde::{Deserialize, Serialize};

use super::{ImageError, MANIFEST_BYTES_MAX, Result, media_type};

/// OCI's version of an index.
const SCHEMA_VERSION: u32 = 2;
/// What was missing, in the words that clients know (CKP-10).
const NOT_FOUND: &str = "checkpoint not found in index";

/// What a checkpoint consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// CRIU's image files, a tar.
    pub criu: Descriptor,
    /// The container's spec.
    pub config: Descriptor,
    /// The image that the container was made from: its name and its target then.
    pub image: Option<(ImageName, Descriptor)>,
    /// What the container wrote, a layer.
    pub layer: Option<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    manifests: Vec<Entry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: bosun_types::Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<EntryPlatform>,
}

#[derive(Serialize, Deserialize)]
struct EntryPlatform {
    os: String,
    architecture: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    variant: String,
}

impl Entry {
    fn of(descriptor: &Descriptor, platform: Option<&Platform>) -> Self {
        let Descriptor { media_type, digest, size } = descriptor.clone();
        let platform = platform.map(|it| EntryPlatform {
            os: it.os.clone(),
            architecture: it.architecture.clone(),
            variant: it.variant.clone(),
        });
        Self { media_type, digest, size, platform }
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor { media_type: self.media_type.clone(), digest: self.digest, size: self.size }
    }
}

impl Checkpoint {
    /// The index's bytes; `platform` is that of the host whose memory this is.
    pub fn to_json(&self, platform: &Platform) -> Result<Vec<u8>> {
        let mut manifests =
            vec![Entry::of(&self.criu, Some(platform)), Entry::of(&self.config, Some(platform))];
        let mut annotations = BTreeMap::new();
        if let Some((name, target)) = &self.image {
            manifests.push(Entry::of(target, None));
            annotations.insert(ANNOTATION_IMAGE.to_owned(), name.to_string());
        }
        manifests.extend(self.layer.iter().map(|layer| Entry::of(layer, Some(platform))));
        let media_type = Some(media_type::OCI_INDEX.to_owned());
        let document = Document { schema_version: SCHEMA_VERSION, media_type, manifests, annotations };
        serde_json::to_vec(&document).map_err(|error| invalid(error.to_string()))
    }

    /// Reads an index. Images of docker's media types and of OCI's are recognised alike, layers compressed or not (CKP-9).
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(invalid(format!(
                "the index has {} bytes, at most {MANIFEST_BYTES_MAX} are read",
                bytes.len()
            )));
        }
        // An image's manifest has no such list.
        let document: Document = serde_json::from_slice(bytes).map_err(|_| invalid(NOT_FOUND))?;
        let find = |is: &dyn Fn(&str) -> bool| {
            document.manifests.iter().find(|entry| is(&entry.media_type)).map(Entry::descriptor)
        };
        let criu = find(&|kind| kind == MEDIA_CRIU).ok_or_else(|| invalid(NOT_FOUND))?;
        let config = find(&|kind| kind == MEDIA_CONFIG).ok_or_else(|| invalid("it has no spec"))?;
        let target = find(&|kind| media_type::is_manifest(kind) || media_type::is_index(kind));
        let name = document.annotations.get(ANNOTATION_IMAGE);
        let name = name.map(|name| ImageName::new(name.as_str()).map_err(|error| invalid(error.message)));
        let layer = find(&|kind| media_type::is_layer(kind) && !bosun_types::checkpoint::is_part(kind));
        Ok(Self { criu, config, image: name.transpose()?.zip(target), layer })
    }

    /// Every part, in the index's order.
    pub fn parts(&self) -> Vec<&Descriptor> {
        let image = self.image.as_ref().map(|(_, target)| target);
        [Some(&self.criu), Some(&self.config), image, self.layer.as_ref()].into_iter().flatten().collect()
    }

    /// CKP-5: what keeps the parts as long as the index is kept.
    pub fn gc_labels(&self) -> Labels {
        let label = |(at, part): (usize, &&Descriptor)| {
            (format!("containerd.io/gc.ref.content.{at}"), part.digest.to_string())
        };
        self.parts().iter().enumerate().map(label).collect()
    }
}

/// The container's spec, as protobuf's `Any`.
pub fn config_to_bytes(spec: &Any) -> Result<Vec<u8>> {
    let message =
        any::Any { type_url: spec.type_url.clone(), value: spec.value.clone(), ..any::Any::default() };
    message.write_to_bytes().map_err(|error| invalid(error.to_string()))
}

/// The way back.
pub fn config_from_bytes(bytes: &[u8]) -> Result<Any> {
    let message = any::Any::parse_from_bytes(bytes).map_err(|error| invalid(format!("its spec: {error}")))?;
    Ok(Any { type_url: message.type_url, value: message.value })
}

fn invalid(why: impl Into<String>) -> ImageError {
    ImageError::Invalid { what: "checkpoint".to_owned(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest_of;

    fn descriptor(media_type: &str) -> Descriptor {
        Descriptor { media_type: media_type.to_owned(), digest: digest_of(media_type.as_bytes()), size: 7 }
    }

    fn checkpoint(image: &str, layer: &str) -> Checkpoint {
        Checkpoint {
            criu: descriptor(MEDIA_CRIU),
            config: descriptor(MEDIA_CONFIG),
            image: Some((ImageName::new("reg.local/app:1").unwrap(), descriptor(image))),
            layer: Some(descriptor(layer)),
        }
    }

    #[test]
    fn ckp_3_the_index_has_its_parts_in_order_and_says_whose_memory_it_is() {
        let host = Platform::new("linux", "arm64", "v8");
        let made = checkpoint(media_type::OCI_MANIFEST, media_type::OCI_LAYER_GZIP).to_json(&host).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&made).unwrap();
        let kinds: Vec<&str> = json["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["mediaType"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            [
                "application/vnd.containerd.container.criu.checkpoint.criu.tar",
                "application/vnd.containerd.container.checkpoint.config.v1+proto",
                "application/vnd.oci.image.manifest.v1+json",
                "application/vnd.oci.image.layer.v1.tar+gzip"
            ]
        );
        assert_eq!(json["schemaVersion"], 2);
        assert_eq!(json["annotations"]["image.name"], "reg.local/app:1");
        assert_eq!(json["manifests"][0]["platform"]["architecture"], "arm64");
        assert!(json["manifests"][2].get("platform").is_none());
    }

    #[test]
    fn ckp_9_every_kind_of_image_and_layer_comes_back() {
        for image in [
            media_type::OCI_MANIFEST,
            media_type::OCI_INDEX,
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_MANIFEST_LIST,
        ] {
            for layer in [media_type::OCI_LAYER, media_type::OCI_LAYER_GZIP, media_type::DOCKER_LAYER_GZIP] {
                let whole = checkpoint(image, layer);
                assert_eq!(Checkpoint::from_json(&whole.to_json(&Platform::host()).unwrap()).unwrap(), whole);
            }
        }
        let bare = Checkpoint { image: None, layer: None, ..checkpoint("", "") };
        assert_eq!(Checkpoint::from_json(&bare.to_json(&Platform::host()).unwrap()).unwrap(), bare);
    }

    #[test]
    fn ckp_10_what_is_no_checkpoint_says_so() {
        for other in
            [&b"{\"schemaVersion\":2,\"manifests\":[]}"[..], b"{\"schemaVersion\":2,\"layers\":[]}", b"no"]
        {
            let error = Checkpoint::from_json(other).unwrap_err();
            assert!(error.to_string().contains("checkpoint not found in index"), "{error}");
        }
    }

    #[test]
    fn ckp_5_the_index_keeps_its_parts() {
        let whole = checkpoint(media_type::OCI_MANIFEST, media_type::OCI_LAYER);
        let labels = whole.gc_labels();
        assert_eq!(labels.len(), 4);
        assert_eq!(labels["containerd.io/gc.ref.content.0"], whole.criu.digest.to_string());
        assert_eq!(labels["containerd.io/gc.ref.content.3"], whole.layer.unwrap().digest.to_string());
    }

    #[test]
    fn ckp_3_the_spec_is_protobuf_s_any() {
        let spec = Any { type_url: "u/Spec".into(), value: b"{}".to_vec() };
        let bytes = config_to_bytes(&spec).unwrap();
        // Field 1, six bytes of text; field 2, two bytes.
        assert_eq!(bytes, b"\x0a\x06u/Spec\x12\x02{}");
        assert_eq!(config_from_bytes(&bytes).unwrap(), spec);
        assert!(config_from_bytes(b"\x0a\xff").is_err());
    }
}
