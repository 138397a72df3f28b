//! Leases: what one works on stays.

use bosun_client::types::gc::Object;
use bosun_client::types::lease::LeaseResource;
use bosun_client::{Client, Labels, Result};
use bytes::Bytes;

/// Works in a namespace of its own.
pub async fn example(client: &Client) -> Result<()> {
    let namespace = client.namespace("example-leases".parse()?);
    // Ends when it is done or dropped; a crash leaves it to expire after a day.
    let lease = namespace.begin_lease().await?;
    let mut writer = lease.namespace().content().writer("example".to_owned(), 0, None).await?;
    writer.write(Bytes::from_static(b"kept")).await?;
    let digest = writer.commit(0, None, Labels::new()).await?.digest;
    client.collect_garbage(false).await?;
    assert_eq!(namespace.why(Object::Blob(digest)).await?.len(), 1, "the lease keeps it");

    // One of one's own, under its own name, that holds the same.
    let leases = namespace.leases();
    let labels = bosun_client::expiring(std::time::Duration::from_secs(600));
    leases.create(Some("mine".parse()?), labels).await?;
    leases.add("mine".parse()?, LeaseResource::Object(Object::Blob(digest))).await?;
    lease.done().await?;
    assert_eq!(leases.list().await?.len(), 1);
    assert_eq!(leases.resources("mine".parse()?).await?, [LeaseResource::Object(Object::Blob(digest))]);

    // Answers when what it alone held is gone.
    leases.delete_sync("mine".parse()?).await?;
    assert!(namespace.content().list().await?.is_empty());
    client.delete_namespace("example-leases".parse()?).await
}
