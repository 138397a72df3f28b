//! `bosun content fetch`, `fetch-object`, `push-object`: content from and to registries.

use bosun_client::Transfer;
use bosun_types::Digest;
use bosun_types::reference::Reference;
use bosun_types::transfer::{ObjectRequest, PullRequest};

use super::pull;
use crate::arguments::{Fetch, FetchObject, PushObject, RegistryAccess};
use crate::context::{self, Context};
use crate::output;
use crate::registry_access;

/// An image's content, without unpacking it.
pub async fn fetch(context: &Context, options: &Fetch) -> anyhow::Result<()> {
    let reference = Reference::parse(&options.reference)?;
    let credential = registry_access::credential(&reference, options.access.user.as_deref()).await?;
    let request = PullRequest {
        reference,
        platforms: pull::platforms(&options.platform, options.all_platforms)?,
        unpack: None,
        plain_http: options.access.plain_http,
        labels: context::labels(&options.label)?,
        convert_schema1: false,
    };
    let transfers = context.namespace().transfers().with_credential(credential);
    let transfer = transfers.pull(request).await?;
    let images = pull::follow(&transfer, options.quiet || context.json).await?;
    pull::show(context, &images, options.quiet)
}

/// Blobs or manifests of a repository, without what they name.
pub async fn fetch_objects(context: &Context, options: &FetchObject) -> anyhow::Result<()> {
    for digest in &options.digests {
        let (request, transfers) =
            object(context, &options.reference, *digest, String::new(), &options.access).await?;
        finish(context, &transfers.fetch_object(request).await?, *digest).await?;
    }
    Ok(())
}

/// A blob or manifest of ours to a repository.
pub async fn push_object(context: &Context, options: &PushObject) -> anyhow::Result<()> {
    let media_type = options.media_type.clone().unwrap_or_default();
    let (request, transfers) =
        object(context, &options.reference, options.digest, media_type, &options.access).await?;
    finish(context, &transfers.push_object(request).await?, options.digest).await
}

async fn object(
    context: &Context,
    reference: &str,
    digest: Digest,
    media_type: String,
    access: &RegistryAccess,
) -> anyhow::Result<(ObjectRequest, bosun_client::Transfers)> {
    let reference = Reference::parse(reference)?;
    let credential = registry_access::credential(&reference, access.user.as_deref()).await?;
    let request = ObjectRequest { reference, digest, media_type, plain_http: access.plain_http };
    Ok((request, context.namespace().transfers().with_credential(credential)))
}

async fn finish(context: &Context, transfer: &Transfer, digest: Digest) -> anyhow::Result<()> {
    pull::follow(transfer, context.json).await?;
    if context.json {
        return output::json(&digest);
    }
    output::line(digest.to_string());
    Ok(())
}
