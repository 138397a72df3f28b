//! `bosun images`: list, import, remove.

use std::path::Path;

use anyhow::Context as _;
use bosun_types::ImageName;
use bosun_types::platform::Platform;
use bosun_types::transfer::ImportRequest;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{facts, image_mounts, pull, push, save};
use crate::arguments::{Filter, Images, ImagesCommand, LoadImages};
use crate::context::Context;
use crate::output;

/// Bytes sent at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Does what the words say.
pub async fn images(context: &Context, options: Images) -> anyhow::Result<()> {
    match options.command {
        None => list(context, options.quiet, &options.filter).await,
        Some(ImagesCommand::Ls { quiet, filter }) => list(context, quiet, &filter).await,
        Some(ImagesCommand::Import(options)) => load(context, &options).await,
        Some(ImagesCommand::Export(options)) => save::save(context, &options).await,
        Some(ImagesCommand::Pull(options)) => pull::pull(context, &options).await,
        Some(ImagesCommand::Push(options)) => push::push(context, &options).await,
        Some(ImagesCommand::Tag(options)) => facts::tag(context, &options).await,
        Some(ImagesCommand::Mount(options)) => image_mounts::mount(context, &options).await,
        Some(ImagesCommand::Unmount(options)) => image_mounts::unmount(context, &options).await,
        Some(ImagesCommand::Check(options)) => facts::check(context, options).await,
        Some(ImagesCommand::Label(options)) => facts::label(context, options).await,
        Some(ImagesCommand::Unpack(options)) => facts::unpack(context, options).await,
        Some(ImagesCommand::Rm { names, sync }) => {
            let images = context.namespace().images();
            for (name, left) in names.iter().zip((0..names.len()).rev()) {
                let image = ImageName::new(name.as_str())?;
                // One collection, after the last.
                match sync && left == 0 {
                    true => images.delete_sync(image).await?,
                    false => images.delete(image).await?,
                }
                output::line(name);
            }
            Ok(())
        }
    }
}

async fn list(context: &Context, quiet: bool, filter: &Filter) -> anyhow::Result<()> {
    let images = context.namespace().images().list_where(filter).await?;
    if quiet && !context.json {
        images.iter().for_each(|image| output::line(image.name.as_str()));
        return Ok(());
    }
    context.list(&images, &["NAME", "DIGEST", "TYPE", "AGE"], |image| {
        let digest = image.target.digest.to_string();
        vec![
            image.name.to_string(),
            digest[..19].to_owned(),
            image.target.media_type.clone(),
            output::age(image.created_at),
        ]
    })
}

/// Reads an archive, as the words say.
pub async fn load(context: &Context, options: &LoadImages) -> anyhow::Result<()> {
    let request = ImportRequest {
        base_name: options.base_name.clone(),
        platform: options.platform.as_deref().map(Platform::parse).transpose()?,
        unpack: pull::unpack(options.no_unpack, options.snapshotter.as_deref()),
        all_platforms: options.all_platforms,
        digests: options.digests,
    };
    import(context, &options.source, request).await
}

/// Streams the archive; a directory is packed on the fly.
async fn import(context: &Context, source: &Path, request: ImportRequest) -> anyhow::Result<()> {
    let mut sink = context.namespace().transfers().import(request).await?;
    let transfer = sink.transfer().clone();
    let mut packer = None;
    let mut input: Box<dyn AsyncRead + Unpin> = if source == Path::new("-") {
        Box::new(tokio::io::stdin())
    } else if source.is_dir() {
        let mut child = tokio::process::Command::new("tar")
            .arg("--create")
            .arg("--file=-")
            .arg("--directory")
            .arg(source)
            .arg(".")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .context("cannot start tar to pack the directory")?;
        let output = child.stdout.take().context("tar has an output")?;
        packer = Some(child);
        Box::new(output)
    } else {
        let file = tokio::fs::File::open(source).await;
        Box::new(file.with_context(|| format!("cannot read {}", source.display()))?)
    };
    let mut buffer = vec![0; CHUNK_BYTES];
    let sent = async move {
        loop {
            let count = input.read(&mut buffer).await.context("cannot read the archive")?;
            if count == 0 {
                return sink.finish().await.map(drop).map_err(anyhow::Error::new);
            }
            // Dropped before its end, the sink ends the transfer.
            sink.write(bytes::Bytes::copy_from_slice(&buffer[..count])).await?;
        }
    };
    let (sent, followed) = tokio::join!(sent, pull::follow(&transfer, context.json));
    if let Some(mut packer) = packer {
        let _ = packer.wait().await;
    }
    // A refused archive ends the transfer: its reason is better than our broken pipe. Our own failure shows there as a cancel.
    let images = match (sent, followed) {
        (Ok(()), followed) => followed?,
        (Err(_), Err(refused)) if !is_cancel(&refused) => return Err(refused),
        (Err(error), _) => return Err(error),
    };
    pull::show(context, &images, false)
}

fn is_cancel(error: &anyhow::Error) -> bool {
    let class = error.downcast_ref::<bosun_types::Error>().map(|error| error.class);
    class == Some(bosun_types::ErrorClass::Cancelled)
}
