//! `bosun commit`.

use anyhow::Context as _;
use bosun_client::{CommitRequest, Task};
use bosun_types::ImageName;

use crate::arguments::Commit;
use crate::context::Context;
use crate::output;

/// Stores a container as an image; prints its name and digest.
pub async fn commit(context: &Context, options: &Commit) -> anyhow::Result<()> {
    let request = CommitRequest {
        image: ImageName::new(options.image.as_str())?,
        replace: options.force,
        author: options.author.clone().unwrap_or_default(),
        message: options.message.clone().unwrap_or_default(),
        changes: options.change.clone(),
    };
    let name = &options.container;
    let container = context.container(name)?;
    let about = || format!("container {name}");
    let task = container.task();
    if options.pause {
        task.pause().await.with_context(about)?;
    }
    let namespace = context.namespace();
    let image = tokio::select! {
        image = namespace.commit(container.id().clone(), request) => image.map_err(anyhow::Error::from),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if options.pause {
        resumed(&task).await?;
    }
    let image = image.with_context(about)?;
    if context.json {
        return output::json(&image);
    }
    output::line(format!("{} {}", image.name, image.target.digest));
    Ok(())
}

async fn resumed(task: &Task) -> anyhow::Result<()> {
    task.resume().await.context("the container is still paused: `bosun resume` lets it go on")
}
