//! `bosun push`.

use bosun_types::platform::Platform;
use bosun_types::reference::Reference;
use bosun_types::transfer::PushRequest;

use super::pull;
use crate::arguments::Push;
use crate::context::Context;
use crate::registry_access;

/// Asks the daemon to send; shows how it goes. The transfer is the daemon's: interrupting us does not stop it.
pub async fn push(context: &Context, options: &Push) -> anyhow::Result<()> {
    let reference = Reference::parse(&options.reference)?;
    let credential = registry_access::credential(&reference, options.access.user.as_deref()).await?;
    let request = PushRequest {
        reference,
        image: options.image.as_deref().map(str::parse).transpose()?,
        platform: options.platform.as_deref().map(Platform::parse).transpose()?,
        plain_http: options.access.plain_http,
        non_distributable: options.allow_non_distributable_artifacts,
    };
    let transfers = context.namespace().transfers().with_credential(credential);
    let transfer = transfers.push(request).await?;
    let images = pull::follow(&transfer, options.quiet || context.json).await?;
    pull::show(context, &images, options.quiet)
}
