//! `bosun gc`: collect garbage now, or show what would go.

use bosun_types::gc::{Collection, Object};

use crate::arguments::Gc;
use crate::context::Context;
use crate::output;

/// Waits for a collection and says what went.
pub async fn gc(context: &Context, options: &Gc) -> anyhow::Result<()> {
    let collection = context.client.collect_garbage(options.dry_run).await?;
    if context.json {
        return output::json(&collection);
    }
    if options.dry_run {
        show_objects(&collection);
    }
    output::line(summary(&collection, options.dry_run));
    Ok(())
}

fn show_objects(collection: &Collection) {
    let rows: Vec<Vec<String>> = collection
        .objects
        .iter()
        .map(|(namespace, object)| match object {
            Object::Blob(digest) => vec![namespace.to_string(), "blob".to_owned(), digest.to_string()],
            Object::Snapshot { snapshotter, key } => {
                vec![namespace.to_string(), format!("snapshot/{snapshotter}"), key.to_string()]
            }
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    output::table(&["NAMESPACE", "KIND", "ID"], &rows);
    let more = (collection.blobs + collection.snapshots).saturating_sub(rows.len() as u64);
    if more > 0 {
        output::note(format!("and {more} more"));
    }
}

fn summary(collection: &Collection, dry_run: bool) -> String {
    let Collection { blobs, blob_bytes, snapshots, snapshot_bytes, leases, ingests, examined, .. } =
        collection;
    let verb = if dry_run { "would remove" } else { "removed" };
    let (blob_bytes, snapshot_bytes) = (output::size(*blob_bytes), output::size(*snapshot_bytes));
    format!(
        "{verb} {blobs} blobs ({blob_bytes}), {snapshots} snapshots ({snapshot_bytes}), {leases} expired leases, {ingests} stale ingests; {examined} objects examined"
    )
}
