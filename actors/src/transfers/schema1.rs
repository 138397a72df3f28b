//! An image in docker's old schema 1 form becomes an OCI image on its way (REM-15): its layers' diff ids, which it does not name, are computed while the
//! bytes pass, and a config and a manifest are written for it. The image points at the result.

use bosun_storage::image::schema1::{Schema1, payload};
use bosun_storage::image::{digest_of, media_type};
use bosun_types::content::Descriptor;
use bosun_types::transfer::PullRequest;
use bosun_types::{Error, Result};

use super::layers::{self, Work};
use super::pull;

/// Whether the target is of that form.
pub(super) fn is_schema1(target: &Descriptor) -> bool {
    media_type::is_schema1(&target.media_type)
}

/// Fetches manifest and layers, and gives the target of the new image, whose documents are in content then.
pub(super) async fn convert(work: &Work, request: &PullRequest, target: &Descriptor) -> Result<Descriptor> {
    let reference = &request.reference;
    if !request.convert_schema1 {
        return Err(Error::not_implemented(format!("image {reference}: it is in docker's schema 1 form"))
            .with_hint("`bosun pull --convert-schema1` makes an OCI image of it"));
    }
    let repository = &work.remote()?.repository;
    let (_, bytes) = work.unless_cancelled(repository.fetch_document()).await?;
    // Its digest is that of what was signed.
    let signed = payload(&bytes)?;
    let digest = digest_of(&signed);
    if digest != target.digest {
        let promised = target.digest;
        return Err(Error::data_loss(format!("image {reference}: promised {promised}, received {digest}")));
    }
    let image = Schema1::parse(&signed)?;
    let mut layers = Vec::new();
    for digest in image.layers() {
        let size = work.unless_cancelled(repository.blob_size(digest)).await?;
        let layer =
            Descriptor { media_type: media_type::DOCKER_LAYER_GZIP.to_owned(), digest: *digest, size };
        let part = work.progress.part("layer", &layer);
        let diff_id = layers::diff_id_of(work, &layer, &part).await?;
        layers.push((layer, diff_id));
    }
    let converted = image.convert(&layers)?;
    pull::keep(work, "config", &converted.config.0, converted.config.1).await?;
    pull::keep(work, "manifest", &converted.manifest.0, converted.manifest.1).await?;
    Ok(converted.manifest.0)
}
