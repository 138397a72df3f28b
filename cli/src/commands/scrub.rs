//! `bosun content verify` and `repair`: one thing after the other, so that what is looked at can be shown.

use anyhow::bail;
use bosun_types::content::Finding;
use bosun_types::gc::Object;
use bosun_types::snapshot::SnapshotKind;
use bosun_types::{Digest, ErrorClass, Result};
use serde::Serialize;

use crate::context::Context;
use crate::output;

/// Snapshotters that every daemon has or may have.
const SNAPSHOTTERS: [&str; 3] = ["overlayfs", "native", "btrfs"];

/// A line of the report.
#[derive(Serialize)]
struct Found {
    object: Object,
    #[serde(flatten)]
    finding: Finding,
    /// Why it could not be looked at or mended.
    error: Option<String>,
}

/// Blobs first: layers are compared with them.
pub async fn scrub(context: &Context, digests: Vec<Digest>, repair: bool) -> anyhow::Result<()> {
    let content = context.namespace().content();
    let all = digests.is_empty();
    let digests = match all {
        true => content.list().await?.iter().map(|blob| blob.digest).collect(),
        false => digests,
    };
    let (mut found, mut looked) = (Vec::new(), 0);
    for digest in digests {
        looked += 1;
        note(&mut found, Object::Blob(digest), content.verify(digest, repair).await);
    }
    if all {
        looked += layers(context, repair, &mut found).await?;
    }
    report(context, &found, looked)
}

async fn layers(context: &Context, repair: bool, found: &mut Vec<Found>) -> anyhow::Result<usize> {
    let mut looked = 0;
    for snapshotter in SNAPSHOTTERS {
        let snapshots = context.namespace().snapshots(snapshotter);
        let mut all = match snapshots.list().await {
            Ok(all) => all,
            // This daemon has no such snapshotter.
            Err(error) if matches!(error.class, ErrorClass::InvalidArgument | ErrorClass::NotFound) => {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        all.retain(|snapshot| snapshot.kind == SnapshotKind::Committed);
        for snapshot in all {
            match snapshots.verify(snapshot.key.clone(), repair).await {
                // No image says what is to be in it: somebody's own.
                Err(error) if error.class == ErrorClass::NotFound => {}
                outcome => {
                    looked += 1;
                    let object = Object::Snapshot { snapshotter: snapshotter.to_owned(), key: snapshot.key };
                    note(found, object, outcome);
                }
            }
        }
    }
    Ok(looked)
}

fn note(found: &mut Vec<Found>, object: Object, outcome: Result<Finding>) {
    match outcome {
        Ok(finding) if finding.damage.is_empty() => {}
        Ok(finding) => found.push(Found { object, finding, error: None }),
        Err(error) => {
            found.push(Found { object, finding: Finding::default(), error: Some(error.to_string()) })
        }
    }
}

fn report(context: &Context, found: &[Found], looked: usize) -> anyhow::Result<()> {
    let left = found.iter().filter(|found| !found.finding.repaired).count();
    if context.json {
        output::json(&found)?;
    } else {
        for Found { object, finding, error } in found {
            let state = if finding.repaired { "repaired" } else { "DAMAGED" };
            output::line(format!("{object}: {state}"));
            finding.damage.iter().chain(error).for_each(|what| output::line(format!("  {what}")));
        }
        output::line(format!("{looked} looked at, {} damaged, {} repaired", found.len(), found.len() - left));
    }
    if left > 0 {
        bail!("{left} are damaged");
    }
    Ok(())
}
