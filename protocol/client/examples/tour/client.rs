//! A client: its connection, and what the daemon says of itself.

use bosun_client::{Client, ConnectOptions, Result, Version};

/// Makes further clients of its own with these options.
pub async fn example(options: ConnectOptions) -> Result<()> {
    // Waits for a daemon that is not there yet, up to the connect deadline.
    let client = Client::connect(options.clone()).await?;
    assert_eq!(client.version().await?.protocol, Version::client_protocol());
    let status = client.status().await?;
    assert!(status.read_only.is_none(), "it refuses writes: {:?}", status.read_only);
    assert_eq!(client.tree().await?.name, "root");
    assert_eq!(client.reach().await?.namespace, None, "everything");
    let snapshotters = client.parts_where("type==snapshotter").await?;
    assert!(snapshotters.iter().any(|part| part.id == "overlayfs" && part.failure.is_none()));

    // A lost connection is made again by itself; this does it on purpose.
    client.reconnect().await?;
    assert_eq!(client.default_namespace().name().as_str(), "default");

    // Over any connection: a stream through ssh, a pair in memory.
    let stream = tokio::net::UnixStream::connect(&options.address).await.expect("bosund listens");
    let over = Client::over(stream, options.namespace("other".parse()?)).await?;
    assert_eq!(over.status().await?.pid, status.pid);
    assert_eq!(over.default_namespace().name().as_str(), "other");
    assert!(over.reconnect().await.is_err(), "there is one connection, and no other");
    Ok(())
}
