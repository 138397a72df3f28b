//! One image: what it is, what of it is here, its layers as snapshots.

use bosun_client::types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_client::{Client, ImageName, Labels, Result, field};

/// `name`: an image that is here.
pub async fn example(client: &Client, name: &ImageName) -> Result<()> {
    let image = client.default_namespace().image(name.clone());
    // The facts that people ask for one by one …
    assert!(image.size().await? > image.target().await?.size);
    assert_eq!(image.platforms().await?.len(), 1);
    // … and all of them at once, with what is missing.
    let detail = image.inspect(None, SNAPSHOTTER_DEFAULT).await?;
    assert!(detail.is_complete(), "missing: {:?}", detail.missing);
    assert_eq!(image.config().await?, detail.config.expect("it is complete"));
    assert_eq!(image.config_json().await?.first(), Some(&b'{'));
    assert_eq!(image.rootfs().await?.len(), detail.layers.len());

    image.unpack(SNAPSHOTTER_DEFAULT).await?;
    assert!(image.is_unpacked(SNAPSHOTTER_DEFAULT).await?);

    let labels = image.set_labels(Labels::from([("tier".to_owned(), "base".to_owned())])).await?;
    assert_eq!(labels, image.labels().await?);

    let images = client.default_namespace().images();
    assert_eq!(images.list_where(field("name").equals(name.as_str())).await?, [image.record().await?]);
    // Another name for the same target, and away with it.
    let mut copy = image.record().await?;
    copy.name = "example.local/copy:1".parse()?;
    images.create(copy.clone()).await?;
    images.delete(copy.name).await
}
