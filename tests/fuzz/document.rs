//! Manifests, indexes, configs.

use bosun_storage::image::{
    self, CONFIG_BYTES_MAX, Parsed, media_type, parse_config, parse_manifest_or_index,
};
use bosun_types::platform::Platform;

use super::engine::{Target, as_it_is};

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "null",
    "true",
    "\"\"",
    "\"mediaType\":",
    "\"manifests\":[]",
    "\"layers\":[]",
    "\"config\":{}",
    "\"schemaVersion\":1",
    "\"fsLayers\":[]",
    "\"platform\":{\"os\":\"linux\"}",
    "\"digest\":\"sha256:",
    "\"size\":",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
];

#[test]
fn a_document_is_one_thing_or_refused() {
    let target = Target { name: "document", inputs: Vec::new(), words: WORDS, mend: as_it_is, change: None };
    let kinds =
        ["", media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, "text/plain"];
    let host = Platform::host();
    target.run(|input| {
        for kind in kinds {
            let Ok(parsed) = parse_manifest_or_index(input, kind) else { continue };
            let children = image::children(&parsed);
            match &parsed {
                Parsed::Manifest(manifest) => {
                    assert!(!media_type::is_index(kind), "a manifest where an index was promised");
                    assert_eq!(children.len(), manifest.layers.len() + 1);
                }
                Parsed::Index(index) => {
                    assert!(!media_type::is_manifest(kind), "an index where a manifest was promised");
                    if let Ok(chosen) = image::choose(index, &host) {
                        assert!(children.contains(&chosen));
                    }
                }
            }
        }
        if let Ok(config) = parse_config(input) {
            assert!(input.len() <= CONFIG_BYTES_MAX);
            assert_eq!(image::chain_ids(&config.diff_ids).len(), config.diff_ids.len());
        }
    });
}
