//! Files of a container, running or not, as a tar stream: out of one place and into another.

use bosun_client::types::copy::{CopyIn, CopyOut, FileKind};
use bosun_client::types::spec::ContainerRequest;
use bosun_client::{Client, ErrorClass, ImageName, Result};

/// `image`: one that is here, with an `/etc`.
pub async fn example(client: &Client, image: &ImageName) -> Result<()> {
    let namespace = client.default_namespace();
    let request = ContainerRequest::of_image("example-files".parse()?, image.clone());
    namespace.containers().create(request).await?;
    let container = namespace.container("example-files".parse()?);

    let request = CopyOut { path: "/etc".to_owned(), rename: "copied".to_owned(), follow: false };
    let mut stream = container.copy_out(request).await?;
    let mut sink = container.copy_in(CopyIn { directory: "/".to_owned(), keep_owners: true }).await?;
    while let Some(chunk) = stream.next().await? {
        sink.write(chunk).await;
    }
    assert!(sink.finish().await?.entries > 0);
    assert_eq!(container.stat_path("/copied", false).await?.kind, FileKind::Directory);
    let nothing = container.stat_path("/nothing", false).await.expect_err("it is not there");
    assert_eq!(nothing.class, ErrorClass::NotFound);
    container.delete(true).await
}
