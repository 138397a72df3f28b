//! Pulling (REM-2, REM-3, REM-8, REM-9): what a reference points at, small objects whole, blobs as streams from an offset.

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use crate::client::{
    Call, Endpoint, IDLE_TIMEOUT, Repository, SMALL_BYTES_MAX, digest_of, first_of, header, stalled,
};
use crate::error::{RegistryError, Result};
use crate::hosts::Capability;

/// Manifest types that we understand, in the order of preference (REM-2).
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";
/// The registry's word on a manifest's digest.
pub(crate) const DIGEST_HEADER: &str = "docker-content-digest";

/// Bytes of a blob.
pub struct Fetch {
    /// Where they begin: what was asked, or 0 when the registry does not do ranges (REM-9).
    pub offset: u64,
    /// In order; ends with an error when cut, stalled, or longer than promised.
    pub stream: BoxStream<'static, Result<Bytes>>,
}

impl Repository {
    /// What the reference points at (REM-2): HEAD, or GET where HEAD is refused or says too little (REM-3).
    pub async fn resolve(&self) -> Result<Descriptor> {
        let object = self.object()?;
        first_of!(self, Capability::Resolve, |endpoint| resolve(endpoint, self.reference(), &object))
    }

    /// What a digest names: a blob, else a manifest. In this order: registries fail over a blob that is asked for as a manifest.
    pub async fn find(&self, digest: &Digest) -> Result<Descriptor> {
        match self.blob_size(digest).await {
            Ok(size) => Ok(Descriptor { media_type: OCTETS.to_owned(), digest: *digest, size }),
            Err(RegistryError::NotFound { .. }) => {
                let reference = Reference { tag: None, digest: Some(*digest), ..self.reference().clone() };
                let object = digest.to_string();
                first_of!(self, Capability::Resolve, |endpoint| resolve(endpoint, &reference, &object))
            }
            Err(error) => Err(error),
        }
    }

    /// The manifest or index that the reference points at, as it is, with its type: for documents whose digest is not that of their bytes.
    pub async fn fetch_document(&self) -> Result<(String, Vec<u8>)> {
        let object = self.object()?;
        first_of!(self, Capability::Pull, |endpoint| document(endpoint, self.reference(), &object))
    }

    /// How large a blob is.
    pub async fn blob_size(&self, digest: &Digest) -> Result<u64> {
        first_of!(self, Capability::Pull, |endpoint| blob_size(endpoint, digest))
    }

    /// A small object whole; its size and digest are checked.
    pub async fn fetch_bytes(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > SMALL_BYTES_MAX as u64 {
            let why = format!("{} bytes, at most {SMALL_BYTES_MAX} are fetched whole", descriptor.size);
            return Err(RegistryError::Malformed { what: self.name_of(descriptor), why });
        }
        let what = self.name_of(descriptor);
        first_of!(self, Capability::Pull, |endpoint| small(endpoint, &what, descriptor))
    }

    /// A blob from `offset` on (REM-8, REM-9). The bytes are not checked here: who stores them hashes them.
    pub async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<Fetch> {
        if offset >= descriptor.size && offset > 0 {
            return Ok(Fetch { offset, stream: futures::stream::empty().boxed() });
        }
        let what = self.name_of(descriptor);
        first_of!(self, Capability::Pull, |endpoint| blob(endpoint, &what, descriptor, offset))
    }

    /// The same from an address that a manifest names for a layer that may not be given on (REM-8). Nothing of ours goes there: no secret, no header of
    /// the registry's settings, no client certificate; a challenge is not answered (CVE-2020-15157).
    pub async fn fetch_elsewhere(&self, url: &str, descriptor: &Descriptor, offset: u64) -> Result<Fetch> {
        if offset >= descriptor.size && offset > 0 {
            return Ok(Fetch { offset, stream: futures::stream::empty().boxed() });
        }
        let what = self.name_of(descriptor);
        let (endpoint, url) = self.stranger(&what, url)?;
        let what = format!("{what} at {}", endpoint.name());
        stream(&endpoint, &what, descriptor, &url, offset).await
    }

    fn object(&self) -> Result<String> {
        let reference = self.reference();
        reference
            .object()
            .map_err(|error| RegistryError::Malformed { what: reference.to_string(), why: error.message })
    }

    pub(crate) fn name_of(&self, descriptor: &Descriptor) -> String {
        format!("{} ({})", self.reference(), descriptor.digest)
    }
}

async fn resolve(endpoint: &Endpoint, reference: &Reference, object: &str) -> Result<Descriptor> {
    let call = Call::pull(endpoint, reference);
    let url = endpoint.url(&format!("manifests/{object}"));
    let head =
        endpoint.send(&call, |http| http.request(Method::HEAD, url.clone()).header(ACCEPT, ACCEPTED)).await;
    if let Ok(answer) = &head
        && let Some(descriptor) = descriptor_of(answer.headers(), reference)
    {
        return Ok(descriptor);
    }
    match head {
        Ok(_) | Err(RegistryError::Status { status: 405, .. }) => {}
        // REM-2: what a digest names may be a blob.
        Err(RegistryError::NotFound { what }) => {
            let Some(digest) = reference.digest else { return Err(RegistryError::NotFound { what }) };
            let size = blob_size(endpoint, &digest).await?;
            return Ok(Descriptor { media_type: OCTETS.to_owned(), digest, size });
        }
        Err(error) => return Err(error),
    }
    let (media_type, bytes) = document(endpoint, reference, object).await?;
    let digest = digest_of(&bytes);
    match reference.digest {
        Some(promised) if promised != digest => {
            Err(RegistryError::digest_mismatch(&call.what, &promised, &digest))
        }
        _ => Ok(Descriptor { media_type, digest, size: bytes.len() as u64 }),
    }
}

/// The type of what is known by its digest alone.
const OCTETS: &str = "application/octet-stream";

async fn document(endpoint: &Endpoint, reference: &Reference, object: &str) -> Result<(String, Vec<u8>)> {
    let call = Call::pull(endpoint, reference);
    let url = endpoint.url(&format!("manifests/{object}"));
    let (headers, bytes) =
        endpoint.send_whole(&call, |http| http.get(url.clone()).header(ACCEPT, ACCEPTED)).await?;
    Ok((bare(&header(&headers, CONTENT_TYPE.as_str()).unwrap_or_default()), bytes))
}

async fn blob_size(endpoint: &Endpoint, digest: &Digest) -> Result<u64> {
    let call = Call::pull(endpoint, digest);
    let url = endpoint.url(&format!("blobs/{digest}"));
    let answer = endpoint.send(&call, |http| http.request(Method::HEAD, url.clone())).await?;
    header(answer.headers(), CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok()).ok_or_else(
        || RegistryError::Malformed {
            what: call.what,
            why: "it does not say how large the blob is".to_owned(),
        },
    )
}

/// Manifests have an endpoint of their own, and may be blobs too (REM-8).
async fn small(endpoint: &Endpoint, what: &str, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let call = Call::pull(endpoint, what);
    let get = async |path: String| {
        let url = endpoint.url(&path);
        let build = |http: &reqwest::Client| http.get(url.clone()).header(ACCEPT, &descriptor.media_type);
        Ok(endpoint.send_whole(&call, build).await?.1)
    };
    let as_blob = format!("blobs/{}", descriptor.digest);
    let bytes = if is_document(&descriptor.media_type) {
        match get(format!("manifests/{}", descriptor.digest)).await {
            Err(RegistryError::NotFound { .. }) => get(as_blob).await?,
            answer => answer?,
        }
    } else {
        get(as_blob).await?
    };
    let digest = digest_of(&bytes);
    if digest != descriptor.digest {
        return Err(RegistryError::digest_mismatch(what, &descriptor.digest, &digest));
    }
    if bytes.len() as u64 != descriptor.size {
        let (promised, received) = (format!("{} bytes", descriptor.size), format!("{} bytes", bytes.len()));
        return Err(RegistryError::Mismatch { what: what.to_owned(), promised, received });
    }
    Ok(bytes)
}

async fn blob(endpoint: &Endpoint, what: &str, descriptor: &Descriptor, offset: u64) -> Result<Fetch> {
    let kind = if is_document(&descriptor.media_type) { "manifests" } else { "blobs" };
    let url = endpoint.url(&format!("{kind}/{}", descriptor.digest));
    stream(endpoint, what, descriptor, &url, offset).await
}

async fn stream(
    endpoint: &Endpoint,
    what: &str,
    descriptor: &Descriptor,
    url: &Url,
    offset: u64,
) -> Result<Fetch> {
    let call = Call::pull(endpoint, what);
    let ranged = match offset {
        0 => None,
        _ => part(endpoint, &call, url, offset).await?,
    };
    let (begin, answer) = match ranged {
        Some(ranged) => ranged,
        None => (0, endpoint.send(&call, |http| http.get(url.clone())).await?),
    };
    let promised = descriptor.size - begin;
    if let Some(length) = answer.content_length().filter(|length| *length != promised) {
        return Err(RegistryError::Mismatch {
            what: call.what,
            promised: format!("{promised} bytes"),
            received: format!("{length} bytes"),
        });
    }
    Ok(Fetch { offset: begin, stream: limited(call.what, answer, promised) })
}

/// From `offset` on, or the whole where ranges are ignored. `None`: neither, so ask for the whole.
async fn part(endpoint: &Endpoint, call: &Call, url: &Url, offset: u64) -> Result<Option<(u64, Response)>> {
    let range = format!("bytes={offset}-");
    let answer = match endpoint.send(call, |http| http.get(url.clone()).header(RANGE, &range)).await {
        Err(RegistryError::Status { status: 416, .. }) => return Ok(None),
        answer => answer?,
    };
    // A 200 to a ranged request is the whole blob: noticed, not appended.
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(Some((0, answer)));
    }
    // A part that says that it begins elsewhere is not the one that was asked for.
    let begin = header(answer.headers(), CONTENT_RANGE.as_str())
        .and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse::<u64>().ok());
    Ok(begin.is_none_or(|begin| begin == offset).then_some((offset, answer)))
}

/// Whether it is a manifest or an index.
pub(crate) fn is_document(media_type: &str) -> bool {
    media_type.contains("manifest") || media_type.contains("index")
}

/// A media type without its parameters.
fn bare(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_owned()
}

/// What a HEAD says, when it says everything and does not contradict the reference.
pub(crate) fn descriptor_of(headers: &HeaderMap, reference: &Reference) -> Option<Descriptor> {
    let digest: Digest = header(headers, DIGEST_HEADER)?.parse().ok()?;
    let size: u64 = header(headers, CONTENT_LENGTH.as_str())?.parse().ok()?;
    let media_type = bare(&header(headers, CONTENT_TYPE.as_str())?);
    let agrees = reference.digest.is_none_or(|promised| promised == digest);
    (agrees && size > 0 && !media_type.is_empty()).then_some(Descriptor { media_type, digest, size })
}

/// A body that must not be longer than promised, nor stall.
fn limited(what: String, answer: Response, promised: u64) -> BoxStream<'static, Result<Bytes>> {
    let start = (Box::pin(answer.bytes_stream()), 0_u64, what, false);
    futures::stream::unfold(start, move |(mut body, seen, what, over)| async move {
        if over {
            return None;
        }
        let next = match tokio::time::timeout(IDLE_TIMEOUT, body.next()).await {
            Err(_) => Err(stalled(&what)),
            Ok(None) => return None,
            Ok(Some(Err(source))) => Err(RegistryError::Connection { what: what.clone(), source }),
            Ok(Some(Ok(chunk))) => Ok(chunk),
        };
        let seen = seen + next.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let next = if seen > promised {
            let (promised, received) = (format!("{promised} bytes"), format!("at least {seen} bytes"));
            Err(RegistryError::Mismatch { what: what.clone(), promised, received })
        } else {
            next
        };
        let over = next.is_err();
        Some((next, (body, seen, what, over)))
    })
    .boxed()
}
