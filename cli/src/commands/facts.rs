//! `bosun images check`, `tag`, `label`, `unpack`, and `bosun parts`.

use bosun_client::Image;
use bosun_types::image::{ImageDetail, ImageRecord};
use bosun_types::{ErrorClass, ImageName};

use crate::arguments::{CheckImages, LabelImage, Parts, TagImage, UnpackImages};
use crate::context::{self, Context};
use crate::output;

/// Shows what images are and what of them is here.
pub async fn check(context: &Context, options: CheckImages) -> anyhow::Result<()> {
    let namespace = context.namespace();
    let names = if options.names.is_empty() {
        namespace.images().list().await?.into_iter().map(|image| image.name).collect()
    } else {
        options.names.iter().map(|name| ImageName::new(name.as_str())).collect::<Result<Vec<_>, _>>()?
    };
    let (mut details, mut rows) = (Vec::new(), Vec::new());
    for name in names {
        match namespace.image(name.clone()).inspect(options.platform.clone(), &options.snapshotter).await {
            Ok(detail) => {
                rows.push(row(&detail));
                details.push(detail);
            }
            // Of a list of all, one that is for other platforms is no failure.
            Err(error) if error.class == ErrorClass::NotFound && options.names.is_empty() => {
                rows.push(vec![
                    name.to_string(),
                    "none".to_owned(),
                    String::new(),
                    String::new(),
                    String::new(),
                    String::new(),
                ]);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if context.json {
        return output::json(&details);
    }
    if options.quiet {
        let ready = details.iter().filter(|detail| detail.is_complete() && detail.unpacked);
        ready.for_each(|detail| output::line(detail.record.name.as_str()));
        return Ok(());
    }
    output::table(&["NAME", "STATUS", "HERE", "SIZE", "PLATFORMS", "UNPACKED"], &rows);
    Ok(())
}

fn row(detail: &ImageDetail) -> Vec<String> {
    let needed = detail.required().count();
    let missing = detail.required().filter(|part| detail.missing.contains(part)).count();
    let status = match (detail.is_available(), detail.is_complete()) {
        (false, _) => "unavailable",
        (true, false) => "incomplete",
        (true, true) => "complete",
    };
    let platforms: Vec<String> = detail.platforms.iter().map(ToString::to_string).collect();
    vec![
        detail.record.name.to_string(),
        status.to_owned(),
        format!("{}/{needed}", needed - missing),
        output::size(detail.size),
        platforms.join(","),
        if detail.unpacked { "yes" } else { "no" }.to_owned(),
    ]
}

/// Sets labels of an image, or prints them.
pub async fn label(context: &Context, options: LabelImage) -> anyhow::Result<()> {
    let image = image(context, &options.image)?;
    let labels = context::labels(&options.labels)?;
    if !options.replace_all {
        return context.labels(&image.set_labels(labels).await?);
    }
    let record = ImageRecord { labels, ..image.record().await? };
    context.labels(&context.namespace().images().update(record, &["labels"]).await?.labels)
}

/// Gives an image further names.
pub async fn tag(context: &Context, options: &TagImage) -> anyhow::Result<()> {
    let images = context.namespace().images();
    let source = image(context, &options.source)?.record().await?;
    for name in &options.targets {
        let made = ImageRecord { name: ImageName::new(name.as_str())?, ..source.clone() };
        match images.create(made.clone()).await {
            Err(error) if error.class == ErrorClass::AlreadyExists && options.force => {
                images.update(made, &["target", "labels"]).await.map(drop)?;
            }
            Err(error) if error.class == ErrorClass::AlreadyExists => {
                return Err(error.with_hint("--force lets it point here").into());
            }
            made => drop(made?),
        }
        output::line(name);
    }
    Ok(())
}

/// Makes snapshots of images' layers.
pub async fn unpack(context: &Context, options: UnpackImages) -> anyhow::Result<()> {
    for name in &options.names {
        image(context, name)?.unpack(&options.snapshotter).await?;
        output::line(name);
    }
    Ok(())
}

fn image(context: &Context, name: &str) -> anyhow::Result<Image> {
    Ok(context.namespace().image(ImageName::new(name)?))
}

/// Lists what the daemon is made of.
pub async fn parts(context: &Context, options: Parts) -> anyhow::Result<()> {
    let parts = context.client.parts_where(&options.filter).await?;
    context.list(&parts, &["TYPE", "ID", "PLATFORMS", "STATUS"], |part| {
        let platforms: Vec<String> = part.platforms.iter().map(ToString::to_string).collect();
        let status = part.failure.as_ref().map_or_else(|| "ok".to_owned(), ToString::to_string);
        vec![part.kind.clone(), part.id.clone(), platforms.join(","), status]
    })
}
