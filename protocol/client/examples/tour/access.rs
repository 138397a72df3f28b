//! Who may reach what, and who did what: a socket that yields one namespace, and the audit log.

use bosun_client::types::access::{Access, AuditQuery, SocketRecord};
use bosun_client::{Client, ConnectOptions, ErrorClass, Result};

/// Makes a socket and takes it away.
pub async fn example(client: &Client) -> Result<()> {
    let socket =
        SocketRecord::new("example".parse()?, client.default_namespace().name().clone(), Access::ReadOnly);
    let (record, path) = client.create_socket(socket).await?;
    assert_eq!(client.sockets().await?, [record]);

    let guest = Client::connect(ConnectOptions { address: path, ..ConnectOptions::default() }).await?;
    assert_eq!(guest.reach().await?.access, Access::ReadOnly);
    guest.default_namespace().containers().list().await?;
    let refused = guest.namespace("other".parse()?).containers().list().await.expect_err("it is another's");
    assert_eq!(refused.class, ErrorClass::PermissionDenied);

    // Its connections end with it.
    client.remove_socket("example".parse()?).await?;
    let query = AuditQuery { call: Some("socket".to_owned()), ..AuditQuery::default() };
    let entries = client.audit(query, 0, 2).await?;
    assert_eq!(entries[0].call, "socket.remove");
    Ok(())
}
