//! `bosun commit`.

use anyhow::Context as _;
use bosun_client::CommitRequest;
use bosun_types::ImageName;

use crate::arguments::Commit;
use crate::context::Context;
use crate::output;

/// Stores a container as an image; prints its name and digest. Freezing it, and letting it go on, is the daemon's: also when we are killed.
pub async fn commit(context: &Context, options: &Commit) -> anyhow::Result<()> {
    let request = CommitRequest {
        image: ImageName::new(options.image.as_str())?,
        replace: options.force,
        author: options.author.clone().unwrap_or_default(),
        message: options.message.clone().unwrap_or_default(),
        changes: options.change.clone(),
        pause: options.pause,
    };
    let container = context.container(&options.container)?;
    let image = context.namespace().commit(container.id().clone(), request).await;
    let image = image.with_context(|| format!("container {}", options.container))?;
    if context.json {
        return output::json(&image);
    }
    output::line(format!("{} {}", image.name, image.target.digest));
    Ok(())
}
