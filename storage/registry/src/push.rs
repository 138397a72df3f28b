//! Pushing (REM-17..19): blobs that are not there yet, in one PUT each; manifests under a tag or their digest.

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Method, StatusCode};

use crate::client::{Registry, Target, digest_of, header};
use crate::error::{RegistryError, Result};
use crate::pull::DIGEST_HEADER;

impl Registry {
    /// Uploads a blob unless the repository has it; gives whether it was uploaded.
    pub async fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        bytes: Bytes,
        plain_http: bool,
    ) -> Result<bool> {
        let what = format!("{reference} ({})", descriptor.digest);
        let target = Target { actions: "pull,push", ..Target::pull(reference, plain_http, &what) };
        let there = self
            .send(&target, |http| {
                http.request(Method::HEAD, target.url(&format!("blobs/{}", descriptor.digest)))
            })
            .await;
        match there {
            Ok(_) => return Ok(false),
            Err(RegistryError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let opened = self
            .send(&target, |http| http.post(target.url("blobs/uploads/")).header(CONTENT_LENGTH, 0))
            .await?;
        if !matches!(opened.status(), StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            let why = format!("an upload was opened with {}", opened.status());
            return Err(RegistryError::Malformed { what, why });
        }
        let location =
            opened.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // A Location without a host is of the host that was asked; its query is kept.
        let mut url = opened.url().join(location).map_err(|error| RegistryError::Malformed {
            what: what.clone(),
            why: format!("Location {location:?}: {error}"),
        })?;
        url.query_pairs_mut().append_pair("digest", &descriptor.digest.to_string());
        self.send(&target, |http| {
            http.put(url.clone()).header(CONTENT_TYPE, "application/octet-stream").body(bytes.clone())
        })
        .await?;
        Ok(true)
    }

    /// Puts a manifest or index under the reference's tag or digest; the registry's word on its digest must be ours.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Vec<u8>,
        plain_http: bool,
    ) -> Result<Digest> {
        let digest = digest_of(&bytes);
        let object = reference.object().unwrap_or_else(|_| digest.to_string());
        let target = Target { actions: "pull,push", ..Target::pull(reference, plain_http, reference) };
        let bytes = Bytes::from(bytes);
        let url = target.url(&format!("manifests/{object}"));
        let answer = self
            .send(&target, |http| http.put(&url).header(CONTENT_TYPE, media_type).body(bytes.clone()))
            .await?;
        match header(answer.headers(), DIGEST_HEADER).and_then(|said| said.parse::<Digest>().ok()) {
            Some(said) if said == digest => Ok(digest),
            Some(said) => Err(RegistryError::digest_mismatch(&target.what, &digest, &said)),
            None => Err(RegistryError::Malformed {
                what: target.what,
                why: format!("it does not confirm the digest {digest} (no {DIGEST_HEADER})"),
            }),
        }
    }
}
