//! Snapshots: layers of a file system, and the layer blobs that they become and come from.

use bosun_client::types::diff::DiffRequest;
use bosun_client::{Client, Labels, Result, SnapshotKey};

/// Works in a namespace of its own.
pub async fn example(client: &Client) -> Result<()> {
    let namespace = client.namespace("example-snapshots".parse()?);
    // What is made under a lease stays while that does.
    let lease = namespace.begin_lease().await?;
    let snapshots = lease.namespace().default_snapshots();
    let key = |text: &str| text.parse::<SnapshotKey>();

    let mounts = snapshots.prepare(key("work")?, None, Labels::new()).await?;
    assert_eq!(snapshots.mounts(key("work")?).await?, mounts);
    snapshots.commit(key("base")?, key("work")?, Labels::new()).await?;
    snapshots.prepare(key("child")?, Some(key("base")?), Labels::new()).await?;
    let view = snapshots.view(key("look")?, Some(key("base")?), Labels::new()).await?;
    assert!(view[0].options.iter().any(|word| word == "ro"));
    assert_eq!(snapshots.stat(key("child")?).await?.parent, Some(key("base")?));
    assert_eq!(snapshots.list().await?.len(), 3);
    snapshots.usage(key("base")?).await?;

    // What the child changed (nothing yet) as a layer, and that layer into another snapshot.
    let made = snapshots.diff(DiffRequest::of(key("child")?)).await?;
    snapshots.prepare(key("copy")?, Some(key("base")?), Labels::new()).await?;
    assert_eq!(snapshots.apply(key("copy")?, made.layer).await?.digest, made.diff_id);

    let labels = Labels::from([("tier".to_owned(), "test".to_owned())]);
    snapshots.update_labels(key("base")?, labels, false).await?;
    assert!(snapshots.remove(key("base")?).await.is_err(), "it has children");
    for name in ["copy", "child", "look", "base"] {
        snapshots.remove(key(name)?).await?;
    }
    lease.done().await
}
