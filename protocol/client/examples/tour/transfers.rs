//! Transfers: images from and to registries and archives, in the daemon.

use bosun_client::types::reference::Reference;
use bosun_client::types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_client::types::transfer::{ExportRequest, ImportRequest, Platforms, PullRequest, PushRequest};
use bosun_client::{Client, Result};

/// `reference`: an image of a registry that one may also write to.
pub async fn example(client: &Client, reference: &Reference) -> Result<()> {
    let transfers = client.default_namespace().transfers();
    let pull = transfers.pull(PullRequest::new(reference.clone(), SNAPSHOTTER_DEFAULT)).await?;
    // Goes on without us; whoever likes follows.
    let mut progress = pull.watch().await?;
    while let Some(step) = progress.next().await {
        assert_eq!(step?.id, pull.id());
    }
    let image = pull.wait().await?.remove(0);

    let push = transfers.push(PushRequest::new(reference.clone())).await?;
    push.wait().await?;
    assert!(push.progress().await?.parts.iter().all(|part| part.offset == part.total || part.offset == 0));

    // An archive out, and in again.
    let request = ExportRequest {
        images: vec![image.name.clone()],
        platforms: Platforms::Host,
        docker: false,
        skip_non_distributable: false,
    };
    let mut export = transfers.export(request).await?;
    let mut import = transfers.import(ImportRequest::default()).await?;
    while let Some(bytes) = export.next().await? {
        import.write(bytes).await?;
    }
    let images = import.finish().await?.wait().await?;
    assert_eq!(images[0].target, image.target);
    assert!(transfers.list().await?.len() >= 4);
    Ok(())
}
