//! `bosun content prune`: blobs of layers that are unpacked are let go of. Their files stay, and the manifests say so no more.

use std::collections::{BTreeMap, BTreeSet};

use bosun_types::content::ContentRecord;
use bosun_types::image::{LABEL_GC_REF_CONTENT, LABEL_GC_REF_SNAPSHOT};
use bosun_types::{Digest, Labels};
use serde::Serialize;
use serde_json::Value;

use crate::arguments::PruneContent;
use crate::context::Context;
use crate::output;

/// Largest manifest, in bytes.
const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// What one manifest refers to and need not.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Release {
    manifest: Digest,
    /// Labels that go.
    labels: Vec<String>,
    layers: Vec<Digest>,
}

/// Takes the labels away, and lets the collection take the blobs.
pub async fn prune(context: &Context, options: &PruneContent) -> anyhow::Result<()> {
    let content = context.namespace().content();
    let records: BTreeMap<Digest, ContentRecord> =
        content.list().await?.into_iter().map(|record| (record.digest, record)).collect();
    let unpacked = format!("{LABEL_GC_REF_SNAPSHOT}.{}", options.snapshotter);
    let mut releases = Vec::new();
    for record in records.values().filter(|record| may_be_manifest(record)) {
        let bytes = content.read_all(record.digest, MANIFEST_BYTES_MAX).await?;
        let Ok(manifest) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let Some(config) = digest_of(&manifest["config"]) else { continue };
        if records.get(&config).is_some_and(|config| config.labels.contains_key(&unpacked)) {
            releases.extend(release(record, &manifest));
        }
    }
    let layers: BTreeSet<Digest> =
        releases.iter().flat_map(|release| release.layers.iter().copied()).collect();
    let bytes: u64 = layers.iter().filter_map(|layer| records.get(layer)).map(|record| record.size).sum();
    if !options.dry_run {
        for release in &releases {
            let gone: Labels = release.labels.iter().map(|label| (label.clone(), String::new())).collect();
            content.update_labels(release.manifest, gone, false).await?;
        }
        if !options.not_now {
            context.client.collect_garbage(false).await?;
        }
    }
    if context.json {
        return output::json(&releases);
    }
    layers.iter().for_each(|layer| output::line(layer.to_string()));
    let verb = if options.dry_run { "would let go of" } else { "let go of" };
    output::note(format!("{verb} {} layers' blobs ({})", layers.len(), output::size(bytes)));
    Ok(())
}

/// It refers to something, and is small.
fn may_be_manifest(record: &ContentRecord) -> bool {
    record.size <= MANIFEST_BYTES_MAX as u64
        && record.labels.keys().any(|label| label.starts_with(LABEL_GC_REF_CONTENT))
}

/// The labels by which a manifest keeps its layers; `None`: it keeps none.
fn release(record: &ContentRecord, manifest: &Value) -> Option<Release> {
    let layers: BTreeSet<Digest> = manifest["layers"].as_array()?.iter().filter_map(digest_of).collect();
    let (labels, layers): (Vec<String>, Vec<Digest>) = record
        .labels
        .iter()
        .filter(|(label, _)| label.starts_with(LABEL_GC_REF_CONTENT))
        .filter_map(|(label, value)| Some((label.clone(), value.parse::<Digest>().ok()?)))
        .filter(|(_, digest)| layers.contains(digest))
        .unzip();
    (!labels.is_empty()).then_some(Release { manifest: record.digest, labels, layers })
}

fn digest_of(descriptor: &Value) -> Option<Digest> {
    descriptor["digest"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use bosun_types::{NamespaceName, Timestamp};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_manifest_lets_go_of_its_layers_and_keeps_its_config() {
        let digest = |byte| Digest::from_bytes([byte; 32]);
        let label = |at: u32| format!("{LABEL_GC_REF_CONTENT}.{at}");
        let record = ContentRecord {
            namespace: NamespaceName::default_name(),
            digest: digest(1),
            size: 100,
            labels: Labels::from([
                (label(0), digest(2).to_string()),
                (label(1), digest(3).to_string()),
                ("team".to_owned(), digest(3).to_string()),
            ]),
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
        };
        let manifest = json!({"config": {"digest": digest(2)}, "layers": [{"digest": digest(3)}]});
        let wanted = Release { manifest: digest(1), labels: vec![label(1)], layers: vec![digest(3)] };
        assert_eq!(release(&record, &manifest), Some(wanted));
        assert_eq!(release(&record, &json!({"manifests": []})), None);
        assert_eq!(release(&record, &json!({"layers": []})), None);
    }
}
