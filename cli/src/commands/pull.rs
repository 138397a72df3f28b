//! `bosun pull`.

use bosun_client::Transfer;
use bosun_types::image::ImageRecord;
use bosun_types::platform::Platform;
use bosun_types::reference::Reference;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::transfer::{Platforms, PullRequest, TransferState};

use crate::arguments::Pull;
use crate::context::{self, Context};
use crate::output;
use crate::progress::Display;
use crate::registry_access;

/// Asks the daemon to fetch; shows how it goes. The transfer is the daemon's: interrupting us does not stop it.
pub async fn pull(context: &Context, options: &Pull) -> anyhow::Result<()> {
    let reference = Reference::parse(&options.reference)?;
    let credential = registry_access::credential(&reference, options.access.user.as_deref()).await?;
    let request = PullRequest {
        reference,
        platforms: platforms(&options.platform, options.all_platforms)?,
        unpack: unpack(options.no_unpack, options.snapshotter.as_deref()),
        plain_http: options.access.plain_http,
        labels: context::labels(&options.label)?,
        convert_schema1: options.convert_schema1,
    };
    let transfers = context.namespace().transfers().with_credential(credential);
    let transfer = transfers.pull(request).await?;
    let images = follow(&transfer, options.quiet || context.json).await?;
    show(context, &images, options.quiet)
}

/// The images of an index that are wanted.
pub fn platforms(words: &[String], all: bool) -> anyhow::Result<Platforms> {
    if all {
        return Ok(Platforms::All);
    }
    if words.is_empty() {
        return Ok(Platforms::Host);
    }
    let platforms = words.iter().map(|word| Platform::parse(word)).collect::<Result<_, _>>()?;
    Ok(Platforms::Only(platforms))
}

/// The snapshotter to unpack into.
pub fn unpack(no_unpack: bool, snapshotter: Option<&str>) -> Option<String> {
    (!no_unpack).then(|| snapshotter.unwrap_or(SNAPSHOTTER_DEFAULT).to_owned())
}

/// Draws progress until the transfer ends; gives the images it recorded.
pub async fn follow(transfer: &Transfer, quiet: bool) -> anyhow::Result<Vec<ImageRecord>> {
    let mut display = Display::new(quiet);
    let mut states = transfer.watch().await?;
    while let Some(progress) = states.next().await {
        let progress = progress?;
        match progress.state {
            TransferState::Running => display.update(&progress),
            TransferState::Done(_) | TransferState::Failed(_) => display.finish(&progress),
        }
    }
    Ok(transfer.wait().await?)
}

/// The images of a finished transfer.
pub fn show(context: &Context, images: &[ImageRecord], quiet: bool) -> anyhow::Result<()> {
    if context.json {
        return output::json(&images);
    }
    for image in images {
        if quiet {
            output::line(image.target.digest.to_string());
        } else {
            output::line(format!("{} {}", image.name, image.target.digest));
        }
    }
    Ok(())
}
