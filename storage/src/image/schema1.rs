//! Docker's schema 1 manifests: read, and made into an OCI config and manifest (REM-15). The signature is taken off and not checked: trust comes from the
//! digest, as everywhere.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bosun_types::Digest;
use bosun_types::content::Descriptor;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::document::{check_size, from_json, invalid};
use super::{LAYERS_MAX, MANIFEST_BYTES_MAX, Result, digest_of, media_type};

const WHAT: &str = "schema 1 manifest";
/// Most entries of its history, layers without files included.
const HISTORY_MAX: usize = 1024;
/// The gzip of an empty archive: what old docker wrote for a layer without files.
const EMPTY_LAYER: &str = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";

#[derive(Deserialize)]
struct Signed {
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    protected: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protected {
    format_length: usize,
    format_tail: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: i64,
    fs_layers: Vec<RawLayer>,
    history: Vec<RawHistory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLayer {
    blob_sum: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHistory {
    v1_compatibility: String,
}

/// What was signed: the document without its signatures; one without any is itself.
pub fn payload(bytes: &[u8]) -> Result<Vec<u8>> {
    check_size(WHAT, bytes, MANIFEST_BYTES_MAX)?;
    let signed: Signed = from_json(WHAT, bytes)?;
    let Some(signature) = signed.signatures.first() else { return Ok(bytes.to_vec()) };
    let decode = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|error| invalid(WHAT, format!("signature: {error}")))
    };
    let protected: Protected = from_json(WHAT, &decode(&signature.protected)?)?;
    let head = bytes.get(..protected.format_length).ok_or_else(|| {
        invalid(WHAT, format!("signature: {} of {} bytes are signed", protected.format_length, bytes.len()))
    })?;
    Ok([head, &decode(&protected.format_tail)?].concat())
}

/// An image in that form.
#[derive(Debug)]
pub struct Schema1 {
    /// Those with files, lowest first.
    layers: Vec<Digest>,
    /// Lowest first.
    history: Vec<Value>,
    /// What the topmost entry says of the image as a whole.
    top: Map<String, Value>,
}

/// An image made of one, each document with its descriptor.
#[derive(Debug)]
pub struct Converted {
    /// The config.
    pub config: (Descriptor, Vec<u8>),
    /// The manifest.
    pub manifest: (Descriptor, Vec<u8>),
}

impl Schema1 {
    /// Reads what [`payload`] gave.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        check_size(WHAT, bytes, MANIFEST_BYTES_MAX)?;
        let raw: Raw = from_json(WHAT, bytes)?;
        if raw.schema_version != 1 || raw.fs_layers.len() != raw.history.len() || raw.history.is_empty() {
            let (layers, entries) = (raw.fs_layers.len(), raw.history.len());
            return Err(invalid(WHAT, format!("{layers} layers and {entries} entries of history")));
        }
        if raw.history.len() > HISTORY_MAX {
            return Err(invalid(WHAT, format!("more than {HISTORY_MAX} entries of history")));
        }
        let (mut layers, mut history, mut top) = (Vec::new(), Vec::new(), Map::new());
        // The topmost is written first.
        for (layer, entry) in raw.fs_layers.iter().zip(&raw.history).rev() {
            let entry: Map<String, Value> = from_json(WHAT, entry.v1_compatibility.as_bytes())?;
            let digest: Digest =
                layer.blob_sum.parse().map_err(|error: bosun_types::Error| invalid(WHAT, error.message))?;
            let thrown_away = entry.get("throwaway").and_then(Value::as_bool).unwrap_or(false);
            let empty = thrown_away || layer.blob_sum == EMPTY_LAYER;
            if !empty {
                layers.push(digest);
            }
            history.push(history_of(&entry, empty));
            top = entry;
        }
        if layers.len() > LAYERS_MAX {
            return Err(invalid(WHAT, format!("it has {} layers, at most {LAYERS_MAX} work", layers.len())));
        }
        Ok(Self { layers, history, top })
    }

    /// The layers with files, lowest first.
    pub fn layers(&self) -> &[Digest] {
        &self.layers
    }

    /// The image, with its layers and the diff ids that they turned out to have.
    pub fn convert(&self, layers: &[(Descriptor, Digest)]) -> Result<Converted> {
        let mut config = self.top.clone();
        for key in ["id", "parent", "parent_id", "layer_id", "throwaway", "Size"] {
            config.remove(key);
        }
        let diff_ids: Vec<String> = layers.iter().map(|(_, diff_id)| diff_id.to_string()).collect();
        config.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
        config.insert("history".to_owned(), Value::Array(self.history.clone()));
        let config = described(media_type::OCI_CONFIG, &Value::Object(config))?;
        let layers: Vec<Value> = layers
            .iter()
            .map(|(layer, _)| {
                entry_of(&Descriptor { media_type: media_type::OCI_LAYER_GZIP.to_owned(), ..layer.clone() })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": entry_of(&config.0),
            "layers": layers,
        });
        Ok(Converted { config, manifest: described(media_type::OCI_MANIFEST, &manifest)? })
    }
}

fn history_of(entry: &Map<String, Value>, empty: bool) -> Value {
    let mut history = Map::new();
    for key in ["created", "author", "comment"] {
        if let Some(value) =
            entry.get(key).filter(|value| value.as_str().is_some_and(|text| !text.is_empty()))
        {
            history.insert(key.to_owned(), value.clone());
        }
    }
    let words = entry.get("container_config").and_then(|config| config.get("Cmd")).and_then(Value::as_array);
    if let Some(words) = words {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        history.insert("created_by".to_owned(), words.join(" ").into());
    }
    if empty {
        history.insert("empty_layer".to_owned(), true.into());
    }
    Value::Object(history)
}

fn entry_of(descriptor: &Descriptor) -> Value {
    json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest.to_string(),
        "size": descriptor.size,
    })
}

fn described(media_type: &str, value: &Value) -> Result<(Descriptor, Vec<u8>)> {
    let bytes = serde_json::to_vec(value).map_err(|error| invalid(WHAT, error.to_string()))?;
    let (digest, size) = (digest_of(&bytes), bytes.len() as u64);
    Ok((Descriptor { media_type: media_type.to_owned(), digest, size }, bytes))
}

#[cfg(test)]
mod tests {
    use super::super::{parse_config, parse_manifest_or_index};
    use super::*;

    /// As registries sign: the signature is cut into the document before its last brace.
    fn sign(payload: &str) -> String {
        let length = payload.rfind("\n}").expect("ends with a brace on its own line");
        let tail = URL_SAFE_NO_PAD.encode(&payload[length..]);
        let protected =
            URL_SAFE_NO_PAD.encode(json!({ "formatLength": length, "formatTail": tail }).to_string());
        format!("{},\n   \"signatures\": [{{\"protected\": \"{protected}\"}}]\n}}", &payload[..length])
    }

    fn document() -> String {
        let layer = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let top = json!({"id":"c","parent":"b","os":"linux","architecture":"amd64","config":{"Cmd":["sh"]},"throwaway":true});
        let middle = json!({"id":"b","parent":"a","container_config":{"Cmd":["/bin/sh","-c","make"]}});
        let lowest = json!({"id":"a","created":"2015-01-01T00:00:00Z"});
        let history: Vec<Value> =
            [top, middle, lowest].iter().map(|it| json!({"v1Compatibility": it.to_string()})).collect();
        let layers: Vec<Value> = [EMPTY_LAYER.to_owned(), layer("2"), layer("1")]
            .iter()
            .map(|it| json!({"blobSum": it}))
            .collect();
        let value = json!({"schemaVersion":1,"fsLayers":layers,"history":history});
        serde_json::to_string_pretty(&value).expect("prints")
    }

    #[test]
    fn rem_15_the_signature_is_taken_off_and_the_layers_are_turned_round() {
        let document = document();
        assert_eq!(payload(sign(&document).as_bytes()).expect("reads"), document.as_bytes());
        assert_eq!(payload(document.as_bytes()).expect("reads"), document.as_bytes());
        let image = Schema1::parse(document.as_bytes()).expect("parses");
        let letters: Vec<String> = image.layers().iter().map(|it| it.hex()[..1].to_owned()).collect();
        assert_eq!(letters, ["1", "2"]);
        let layers: Vec<(Descriptor, Digest)> = image
            .layers()
            .iter()
            .map(|digest| (Descriptor { media_type: String::new(), digest: *digest, size: 7 }, *digest))
            .collect();
        let converted = image.convert(&layers).expect("converts");
        let config = parse_config(&converted.config.1).expect("a config");
        assert_eq!(config.diff_ids, image.layers());
        assert_eq!(config.process.cmd, ["sh"]);
        let manifest = parse_manifest_or_index(&converted.manifest.1, media_type::OCI_MANIFEST);
        assert!(manifest.is_ok(), "{manifest:?}");
        let text = String::from_utf8(converted.config.1).expect("text");
        assert!(text.contains("/bin/sh -c make") && text.contains("empty_layer"), "{text}");
        assert!(!text.contains("throwaway"), "{text}");
    }

    #[test]
    fn rem_15_what_contradicts_itself_is_refused() {
        let protected = URL_SAFE_NO_PAD.encode(r#"{"formatLength":999999,"formatTail":""}"#);
        let beyond = format!(r#"{{"signatures":[{{"protected":"{protected}"}}]}}"#);
        assert!(payload(beyond.as_bytes()).is_err());
        assert!(payload(br#"{"signatures":[{"protected":"!"}]}"#).is_err());
        assert!(payload(&vec![b' '; MANIFEST_BYTES_MAX + 1]).is_err());
        for bad in [
            r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#,
            r#"{"schemaVersion":2,"fsLayers":[],"history":[]}"#,
            r#"{"schemaVersion":1,"fsLayers":[{"blobSum":"../../x"}],"history":[{"v1Compatibility":"{}"}]}"#,
            r#"{"schemaVersion":1,"fsLayers":[{"blobSum":"x"}],"history":[{"v1Compatibility":"["}]}"#,
        ] {
            assert!(Schema1::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
