//! Content: bytes by their digest; unfinished writes by a reference of one's own.

use bosun_client::{Client, ErrorClass, Labels, Result};
use bytes::Bytes;

/// Works in a namespace of its own.
pub async fn example(client: &Client) -> Result<()> {
    let content = client.namespace("example-content".parse()?).content();
    // A write that is left keeps its bytes …
    let mut writer = content.writer("example".to_owned(), 11, None).await?;
    writer.write(Bytes::from_static(b"hello ")).await?;
    assert_eq!(writer.status().await?.offset, 6);
    drop(writer);
    assert_eq!(content.status("example".to_owned()).await?.total, 11);
    // … and goes on where it was.
    let mut writer = content.open_writer("example".to_owned(), 11, None).await?;
    assert_eq!(writer.offset(), 6);
    writer.write(Bytes::from_static(b"world")).await?;
    let root = Labels::from([("containerd.io/gc.root".to_owned(), "example".to_owned())]);
    let record = writer.commit(11, None, root).await?;

    assert_eq!(content.read_all(record.digest, 1024).await?, b"hello world");
    let mut part = content.read(record.digest, 6, 3)?;
    assert_eq!(part.next().await.expect("some bytes")?, "wor");
    assert_eq!(content.list().await?, [content.info(record.digest).await?]);
    assert!(content.verify(record.digest, false).await?.damage.is_empty());

    // From any source, as often as it takes; what is here already is not read.
    let source = std::io::Cursor::new(b"hello world".to_vec());
    content.write_blob("again".to_owned(), source, 11, Some(record.digest), Labels::new()).await?;

    let labels = Labels::from([("tier".to_owned(), "test".to_owned())]);
    content.update_labels(record.digest, labels, false).await?;
    content.delete(record.digest).await?;
    let gone = content.info(record.digest).await.expect_err("it is gone");
    assert_eq!(gone.class, ErrorClass::NotFound);
    client.delete_namespace("example-content".parse()?).await
}
