//! `bosun snapshots`: make, commit, show, remove; layers of their changes.

use std::path::Path;

use anyhow::Context as _;
use bosun_types::content::Descriptor;
use bosun_types::diff::DiffRequest;
use bosun_types::mount::Mount;
use bosun_types::snapshot::SnapshotKind;
use bosun_types::{Digest, SnapshotKey};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::arguments::{NewSnapshot as New, Snapshots, SnapshotsCommand};
use crate::context::{self, Context};
use crate::output;

pub mod looks;

/// Does what the words say.
pub async fn snapshots(context: &Context, options: Snapshots) -> anyhow::Result<()> {
    let snapshots = context.namespace().snapshots(&options.snapshotter);
    let key = |text: &str| SnapshotKey::new(text);
    match options.command.unwrap_or(SnapshotsCommand::Ls) {
        SnapshotsCommand::Ls => list(context, &snapshots).await,
        SnapshotsCommand::Tree => looks::tree(context, &snapshots).await,
        SnapshotsCommand::Info { key: name } => output::json(&snapshots.stat(key(&name)?).await?),
        SnapshotsCommand::Mounts { target, key: name } => {
            looks::mounts(context, &snapshots.mounts(key(&name)?).await?, &target)
        }
        SnapshotsCommand::Usage { keys, bytes } => {
            let keys = keys.iter().map(|name| key(name)).collect::<Result<_, _>>()?;
            looks::usage(context, &snapshots, keys, bytes).await
        }
        SnapshotsCommand::Prepare(new) => {
            let (parent, labels) =
                (new.parent.as_deref().map(key).transpose()?, context::labels(&new.label)?);
            let mounts = snapshots.prepare(key(&new.key)?, parent, labels).await?;
            made(context, &new, &mounts)
        }
        SnapshotsCommand::View(new) => {
            let (parent, labels) =
                (new.parent.as_deref().map(key).transpose()?, context::labels(&new.label)?);
            let mounts = snapshots.view(key(&new.key)?, parent, labels).await?;
            made(context, &new, &mounts)
        }
        SnapshotsCommand::Label { key: name, labels } => {
            let record = snapshots.update_labels(key(&name)?, context::labels(&labels)?, false).await?;
            context.labels(&record.labels)
        }
        SnapshotsCommand::Commit { target, key: name, label } => {
            snapshots.commit(key(&target)?, key(&name)?, context::labels(&label)?).await?;
            output::line(target);
            Ok(())
        }
        SnapshotsCommand::Rm { keys } => {
            for name in keys {
                snapshots.remove(key(&name)?).await?;
                output::line(name);
            }
            Ok(())
        }
        layer => layers(context, &snapshots, layer).await,
    }
}

fn made(context: &Context, new: &New, mounts: &[Mount]) -> anyhow::Result<()> {
    match &new.target {
        Some(target) => looks::mounts(context, mounts, target),
        None if context.json => output::json(&mounts),
        None => {
            output::line(&new.key);
            Ok(())
        }
    }
}

/// Layers of snapshots' changes.
async fn layers(
    context: &Context,
    snapshots: &bosun_client::Snapshots,
    command: SnapshotsCommand,
) -> anyhow::Result<()> {
    let key = |text: &str| SnapshotKey::new(text);
    match command {
        SnapshotsCommand::Diff { key: right, from, media_type, reference, label, output } => {
            let request = DiffRequest {
                left: from.as_deref().map(key).transpose()?,
                right: key(&right)?,
                media_type,
                reference,
                labels: context::labels(&label)?,
                freeze: None,
            };
            let made = snapshots.diff(request).await?;
            match &output {
                Some(path) => save(context, made.layer.digest, path).await?,
                None if context.json => output::json(&made)?,
                None => output::line(made.layer.digest.to_string()),
            }
            Ok(())
        }
        SnapshotsCommand::Apply { key: name, digest, media_type } => {
            let digest: Digest = digest.parse()?;
            let size = context.namespace().content().info(digest).await?.size;
            let applied = snapshots.apply(key(&name)?, Descriptor { media_type, digest, size }).await?;
            if context.json {
                return output::json(&applied);
            }
            output::line(applied.digest.to_string());
            Ok(())
        }
        _ => anyhow::bail!("no word about layers"),
    }
}

async fn list(context: &Context, snapshots: &bosun_client::Snapshots) -> anyhow::Result<()> {
    let all = snapshots.list().await?;
    context.list(&all, &["KEY", "PARENT", "KIND", "SIZE", "AGE"], |snapshot| {
        vec![
            snapshot.key.to_string(),
            snapshot.parent.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            match snapshot.kind {
                SnapshotKind::View => "view".to_owned(),
                SnapshotKind::Active => "active".to_owned(),
                SnapshotKind::Committed => "committed".to_owned(),
            },
            snapshot.usage.map_or_else(|| "-".to_owned(), |usage| output::size(usage.size_bytes)),
            output::age(snapshot.created_at),
        ]
    })
}

/// Writes a blob to a file, or to standard output for `-`.
async fn save(context: &Context, digest: Digest, path: &Path) -> anyhow::Result<()> {
    let mut output: Box<dyn AsyncWrite + Unpin> = if path == Path::new("-") {
        Box::new(tokio::io::stdout())
    } else {
        let file = tokio::fs::File::create(path).await;
        Box::new(file.with_context(|| format!("cannot write {}", path.display()))?)
    };
    let mut bytes = context.namespace().content().read(digest, 0, 0)?;
    while let Some(chunk) = bytes.next().await {
        output.write_all(&chunk?).await.with_context(|| format!("cannot write {}", path.display()))?;
    }
    output.flush().await.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
