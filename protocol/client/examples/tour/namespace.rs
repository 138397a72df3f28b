//! Namespaces: made, labelled, used, removed; and services of elsewhere in one.

use bosun_client::{Client, Labels, Result, Services};

/// Works in a namespace of its own.
pub async fn example(client: &Client) -> Result<()> {
    let tier = Labels::from([("tier".to_owned(), "test".to_owned())]);
    client.create_namespace("example".parse()?, tier).await?;
    let zone = Labels::from([("zone".to_owned(), "a".to_owned())]);
    let record = client.update_namespace("example".parse()?, zone, false).await?;
    assert_eq!(record.labels.len(), 2);

    // A noun is an address: nothing is asked for here …
    let namespace = client.namespace("example".parse()?);
    // … and here for the first time.
    assert_eq!(namespace.record().await?, record);
    assert_eq!(client.namespaces_where("labels.tier==test").await?, [record]);
    assert!(namespace.tasks().await?.is_empty());

    // Any subset of its services may come from elsewhere.
    let elsewhere = client.default_namespace();
    let mixed = namespace.with_services(Services::new().images(elsewhere.images()));
    assert_eq!(mixed.images().list().await?, elsewhere.images().list().await?);
    assert!(mixed.containers().list().await?.is_empty());

    client.delete_namespace("example".parse()?).await
}
