//! Pulling (REM-2, REM-3, REM-8, REM-9): what a reference points at, small objects whole, blobs as streams from an offset.

use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bosun_types::{Digest, ErrorClass};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Method, Response, StatusCode};

use crate::client::{IDLE_TIMEOUT, Registry, SMALL_BYTES_MAX, Target, digest_of, header};
use crate::error::{RegistryError, Result};

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

impl Registry {
    /// What a reference points at (REM-2): HEAD, or GET where HEAD is refused or says too little (REM-3).
    pub async fn resolve(&self, reference: &Reference, plain_http: bool) -> Result<Descriptor> {
        let object = object_of(reference)?;
        let target = Target::pull(reference, plain_http, reference);
        let url = target.url(&format!("manifests/{object}"));
        let head = self.send(&target, |http| http.request(Method::HEAD, &url).header(ACCEPT, ACCEPTED)).await;
        if let Ok(answer) = &head
            && let Some(descriptor) = descriptor_of(answer.headers(), reference)
        {
            return Ok(descriptor);
        }
        if let Err(error) = head
            && !matches!(&error, RegistryError::Status { status: 405, .. })
        {
            return Err(error);
        }
        let (headers, bytes) =
            self.send_whole(&target, |http| http.get(&url).header(ACCEPT, ACCEPTED)).await?;
        let media_type = header(&headers, CONTENT_TYPE.as_str()).unwrap_or_default();
        let digest = digest_of(&bytes);
        match reference.digest {
            Some(promised) if promised != digest => {
                Err(RegistryError::digest_mismatch(&target.what, &promised, &digest))
            }
            _ => Ok(Descriptor { media_type: bare(&media_type), digest, size: bytes.len() as u64 }),
        }
    }

    /// A small object whole; its size and digest are checked.
    pub async fn fetch_bytes(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        plain_http: bool,
    ) -> Result<Vec<u8>> {
        let what = format!("{reference} ({})", descriptor.digest);
        if descriptor.size > SMALL_BYTES_MAX as u64 {
            let why = format!("{} bytes, at most {SMALL_BYTES_MAX} are fetched whole", descriptor.size);
            return Err(RegistryError::Malformed { what, why });
        }
        let target = Target::pull(reference, plain_http, &what);
        let (_, bytes) = self
            .send_whole(&target, |http| {
                http.get(target.url(&path_of(descriptor))).header(ACCEPT, &descriptor.media_type)
            })
            .await?;
        let digest = digest_of(&bytes);
        if digest != descriptor.digest {
            return Err(RegistryError::digest_mismatch(&what, &descriptor.digest, &digest));
        }
        if bytes.len() as u64 != descriptor.size {
            let (promised, received) =
                (format!("{} bytes", descriptor.size), format!("{} bytes", bytes.len()));
            return Err(RegistryError::Mismatch { what, promised, received });
        }
        Ok(bytes)
    }

    /// A blob from `offset` on (REM-8, REM-9). The bytes are not checked here: who stores them hashes them.
    pub async fn fetch(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
        plain_http: bool,
    ) -> Result<Fetch> {
        let what = format!("{reference} ({})", descriptor.digest);
        if offset >= descriptor.size && offset > 0 {
            return Ok(Fetch { offset, stream: futures::stream::empty().boxed() });
        }
        let target = Target::pull(reference, plain_http, &what);
        let url = target.url(&path_of(descriptor));
        let ranged = match offset {
            0 => None,
            _ => self.part(&target, &url, offset).await?,
        };
        let (begin, answer) = match ranged {
            Some(ranged) => ranged,
            None => (0, self.send(&target, |http| http.get(&url)).await?),
        };
        let promised = descriptor.size - begin;
        if let Some(length) = answer.content_length().filter(|length| *length != promised) {
            return Err(RegistryError::Mismatch {
                what,
                promised: format!("{promised} bytes"),
                received: format!("{length} bytes"),
            });
        }
        Ok(Fetch { offset: begin, stream: limited(what, answer, promised) })
    }

    /// From `offset` on, or the whole where ranges are ignored. `None`: neither, so ask for the whole.
    async fn part(&self, target: &Target<'_>, url: &str, offset: u64) -> Result<Option<(u64, Response)>> {
        let range = format!("bytes={offset}-");
        let answer = match self.send(target, |http| http.get(url).header(RANGE, &range)).await {
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
}

fn object_of(reference: &Reference) -> Result<String> {
    reference.object().map_err(|error| {
        debug_assert_eq!(error.class, ErrorClass::InvalidArgument);
        RegistryError::Malformed { what: reference.to_string(), why: error.message }
    })
}

/// Manifests have an endpoint of their own (REM-8).
fn path_of(descriptor: &Descriptor) -> String {
    let manifest = descriptor.media_type.contains("manifest") || descriptor.media_type.contains("index");
    format!("{}/{}", if manifest { "manifests" } else { "blobs" }, descriptor.digest)
}

/// A media type without its parameters.
fn bare(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_owned()
}

/// What a HEAD says, when it says everything and does not contradict the reference.
fn descriptor_of(headers: &HeaderMap, reference: &Reference) -> Option<Descriptor> {
    let digest: Digest = header(headers, DIGEST_HEADER)?.parse().ok()?;
    let size: u64 = header(headers, CONTENT_LENGTH.as_str())?.parse().ok()?;
    let media_type = bare(&header(headers, CONTENT_TYPE.as_str())?);
    let agrees = reference.digest.is_none_or(|promised| promised == digest);
    (agrees && size > 0 && !media_type.is_empty()).then_some(Descriptor { media_type, digest, size })
}

/// A body that must not be longer than promised, nor stall.
fn limited(what: String, answer: Response, promised: u64) -> BoxStream<'static, Result<Bytes>> {
    let mut seen = 0_u64;
    answer
        .bytes_stream()
        .map(move |chunk| {
            let chunk = chunk.map_err(|source| match source.is_timeout() {
                true => RegistryError::Stalled { what: what.clone(), seconds: IDLE_TIMEOUT.as_secs() },
                false => RegistryError::Connection { what: what.clone(), source },
            })?;
            seen += chunk.len() as u64;
            if seen > promised {
                let (promised, received) = (format!("{promised} bytes"), format!("at least {seen} bytes"));
                return Err(RegistryError::Mismatch { what: what.clone(), promised, received });
            }
            Ok(chunk)
        })
        .boxed()
}
