//! A container: made of an image, looked at, labelled, removed with its snapshot.

use bosun_client::types::container::Any;
use bosun_client::types::spec::{ContainerRequest, SpecOptions};
use bosun_client::{Client, ErrorClass, ImageName, Labels, Result};

/// `image`: one that is here.
pub async fn example(client: &Client, image: &ImageName) -> Result<()> {
    let containers = client.default_namespace().containers();
    let spec = SpecOptions::default().args(["/bin/sh", "-c", "exit 0"]).env("TIER=web").hostname("example");
    let note = Any { type_url: "example.local/note".to_owned(), value: b"hello".to_vec() };
    let request = ContainerRequest::of_image("example".parse()?, image.clone())
        .label("tier", "web")
        .extension("note", note.clone())
        .spec(spec);
    // The snapshot and the record: all of it or nothing.
    let record = containers.create(request).await?;

    let container = containers.load("example".parse()?).await?;
    assert_eq!(container.record().await?, record);
    assert_eq!(container.image().await?.name(), image);
    assert_eq!(container.spec().await?.hostname().as_deref(), Some("example"));
    assert_eq!(container.extensions().await?["note"], note);
    let labels = container.set_labels(Labels::from([("zone".to_owned(), "a".to_owned())])).await?;
    assert_eq!((labels.len(), labels), (2, container.labels().await?));
    assert_eq!(containers.list_where("labels.zone==a").await?.len(), 1);

    // Any field that may change, by its path.
    let mut changed = container.record().await?;
    changed.extensions.clear();
    container.update(changed, &["extensions"]).await?;
    assert!(container.extensions().await?.is_empty());

    container.delete(true).await?;
    let gone = containers.load("example".parse()?).await.err().expect("it is gone");
    assert_eq!(gone.class, ErrorClass::NotFound);
    Ok(())
}
