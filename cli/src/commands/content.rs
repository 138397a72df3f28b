//! `bosun content`.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use bosun_types::content::ContentRecord;
use bosun_types::{Digest, Error, ErrorClass, Labels};

use super::{content_prune, content_transfer, scrub};
use crate::arguments::{Content, ContentCommand, Filter};
use crate::context::{self, Context};
use crate::output;

/// Largest blob that is edited, in bytes.
const EDIT_BYTES_MAX: usize = 8 << 20;

/// Does what the words say.
pub async fn content(context: &Context, options: Content) -> anyhow::Result<()> {
    let content = context.namespace().content();
    match options.command {
        ContentCommand::Fetch(options) => content_transfer::fetch(context, &options).await,
        ContentCommand::FetchObject(options) => content_transfer::fetch_objects(context, &options).await,
        ContentCommand::PushObject(options) => content_transfer::push_object(context, &options).await,
        ContentCommand::Ls { quiet, filter } => list(context, quiet, &filter).await,
        ContentCommand::Active { filter } => active(context, &filter).await,
        ContentCommand::Verify { digests } => scrub::scrub(context, digests, false).await,
        ContentCommand::Repair { digests } => scrub::scrub(context, digests, true).await,
        ContentCommand::Get { digest, offset, size } => {
            let mut incoming = content.read(digest, offset, size)?;
            while let Some(chunk) = incoming.next().await {
                output::bytes(&chunk?);
            }
            Ok(())
        }
        ContentCommand::Ingest { reference, file, expected_size, expected_digest, label } => {
            let labels = context::labels(&label)?;
            let promise = Promise { size: expected_size, digest: expected_digest };
            ingest(context, reference, file.as_deref(), promise, labels).await
        }
        ContentCommand::Edit { digest, editor } => edit(context, digest, &editor).await,
        ContentCommand::Label { digest, labels } => {
            let record = content.update_labels(digest, context::labels(&labels)?, false).await?;
            context.labels(&record.labels)
        }
        ContentCommand::Rm { digests } => {
            for digest in digests {
                content.delete(digest).await?;
                output::line(digest.to_string());
            }
            Ok(())
        }
        ContentCommand::Prune(options) => content_prune::prune(context, &options).await,
        ContentCommand::Abort { reference } => Ok(content.abort(reference).await?),
    }
}

async fn list(context: &Context, quiet: bool, filter: &Filter) -> anyhow::Result<()> {
    let records = context.namespace().content().list_where(filter).await?;
    if quiet && !context.json {
        records.iter().for_each(|record| output::line(record.digest.to_string()));
        return Ok(());
    }
    context.list(&records, &["DIGEST", "SIZE", "AGE", "LABELS"], |record| {
        let labels: Vec<String> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(",") };
        vec![record.digest.to_string(), output::size(record.size), output::age(record.created_at), labels]
    })
}

async fn active(context: &Context, filter: &Filter) -> anyhow::Result<()> {
    let statuses = context.namespace().content().statuses_where(filter).await?;
    context.list(&statuses, &["REF", "SIZE", "TOTAL", "AGE", "IDLE"], |status| {
        let total = if status.total == 0 { "?".to_owned() } else { output::size(status.total) };
        vec![
            status.reference.clone(),
            output::size(status.offset),
            total,
            output::age(status.started_at),
            output::age(status.updated_at),
        ]
    })
}

/// What the bytes must turn out to be.
struct Promise {
    size: u64,
    digest: Option<Digest>,
}

async fn ingest(
    context: &Context,
    reference: String,
    file: Option<&Path>,
    promise: Promise,
    labels: Labels,
) -> anyhow::Result<()> {
    let content = context.namespace().content();
    let opened = content.open_writer(reference, promise.size, promise.digest).await;
    let mut writer = match opened {
        Err(error) if error.class == ErrorClass::AlreadyExists => {
            return there_already(context, error, promise.digest, labels).await;
        }
        opened => opened?,
    };
    match file {
        Some(path) => {
            let file = tokio::fs::File::open(path).await;
            let mut file = file.with_context(|| format!("cannot read {}", path.display()))?;
            writer.copy_from_seekable(&mut file).await?;
        }
        None => {
            if writer.offset() > 0 {
                output::note(format!("the first {} are here already", output::size(writer.offset())));
            }
            writer.copy_from(&mut tokio::io::stdin()).await?;
        }
    }
    let written = writer.status().await?.digest;
    let record = match writer.commit(promise.size, promise.digest, labels.clone()).await {
        Err(error) if error.class == ErrorClass::AlreadyExists => {
            return there_already(context, error, promise.digest.or(written), labels).await;
        }
        committed => committed?,
    };
    ingested(context, &record)
}

/// What is wanted is there: that is no failure.
async fn there_already(
    context: &Context,
    error: Error,
    digest: Option<Digest>,
    labels: Labels,
) -> anyhow::Result<()> {
    let Some(digest) = digest else { return Err(error.into()) };
    let content = context.namespace().content();
    let record = match labels.is_empty() {
        true => content.info(digest).await?,
        false => content.update_labels(digest, labels, false).await?,
    };
    ingested(context, &record)
}

fn ingested(context: &Context, record: &ContentRecord) -> anyhow::Result<()> {
    if context.json {
        return output::json(record);
    }
    output::line(record.digest.to_string());
    Ok(())
}

async fn edit(context: &Context, digest: Digest, editor: &str) -> anyhow::Result<()> {
    let content = context.namespace().content();
    let record = content.info(digest).await?;
    let before = content.read_all(digest, EDIT_BYTES_MAX).await?;
    let path =
        std::env::temp_dir().join(format!("bosun-edit-{}-{}", std::process::id(), &digest.hex()[..12]));
    let edited = run_editor(editor, &path, &before);
    let _ = std::fs::remove_file(&path);
    let after = edited?;
    if after == before {
        output::line(digest.to_string());
        return Ok(());
    }
    let mut writer = content.open_writer(format!("edit-{}", digest.hex()), 0, None).await?;
    // Of an edit that did not end.
    writer.restart().await?;
    writer.write(after.into()).await?;
    let committed = writer.commit(0, None, record.labels).await?;
    output::line(committed.digest.to_string());
    Ok(())
}

fn run_editor(editor: &str, path: &Path, before: &[u8]) -> anyhow::Result<Vec<u8>> {
    use std::io::Write as _;
    // New and ours alone: the folder is everybody's.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(before).with_context(|| format!("cannot write {}", path.display()))?;
    // As git does it: the editor may have arguments.
    let status = Command::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(path).status();
    let status = status.with_context(|| format!("cannot start {editor}"))?;
    if !status.success() {
        bail!("{editor} ended with {status}: nothing was changed");
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
