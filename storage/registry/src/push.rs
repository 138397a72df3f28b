//! Pushing (REM-17..21): blobs that are not there yet, mounted from another repository or uploaded; manifests under a tag or their digest.
//!
//! ```text
//!   HEAD ─▶ there
//!    └▶ POST ?mount&from ─▶ mounted                        (201)
//!        └▶ PUT, the whole ─▶ uploaded                     most registries' fastest way
//!            └▶ cut, or too large for one request:
//!               GET the upload ─▶ so far ─▶ PATCH a chunk ─▶ … ─▶ PUT, empty ─▶ uploaded
//!                  └▶ unknown to the registry: POST, from the start
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use crate::client::{Call, Endpoint, Failure, Repository, before_next, digest_of, header, location, nobody};
use crate::error::{RegistryError, Result};
use crate::hosts::Capability;
use crate::pull::DIGEST_HEADER;

/// Bytes of one PATCH unless the registry wants more at a time.
const CHUNK_BYTES: u64 = 16 << 20;
/// A registry that wants larger chunks than this gets the rest in one.
const CHUNK_BYTES_MAX: u64 = 1 << 30;
/// Repositories that are asked to share a blob.
const MOUNTS_MAX: usize = 3;
/// The least bytes of a chunk, as the registry says.
const CHUNK_MINIMUM: &str = "oci-chunk-min-length";

/// Gives a blob's bytes from an offset on; asked again when the way was cut.
pub type BlobSource = Arc<dyn Fn(u64) -> BoxStream<'static, io::Result<Bytes>> + Send + Sync>;

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Exists,
    /// The registry took it from another repository.
    Mounted,
    /// We sent it.
    Uploaded,
}

impl Repository {
    fn pushes_to(&self) -> Result<&Endpoint> {
        let mut endpoints = self.endpoints(Capability::Push);
        endpoints.next().ok_or_else(|| nobody(self.reference(), Capability::Push))
    }

    /// Makes the repository have a blob. `from`: repositories of the same registry that may share it.
    pub async fn push_blob(
        &self,
        descriptor: &Descriptor,
        source: BlobSource,
        from: &[String],
    ) -> Result<Pushed> {
        let endpoint = self.pushes_to()?;
        let call = Call::push(endpoint, self.name_of(descriptor));
        let url = endpoint.url(&format!("blobs/{}", descriptor.digest));
        match endpoint.send(&call, |http| http.request(Method::HEAD, url.clone())).await {
            Ok(_) => return Ok(Pushed::Exists),
            Err(RegistryError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        for repository in from.iter().filter(|path| **path != self.reference().path).take(MOUNTS_MAX) {
            if mount(endpoint, &call, descriptor, repository).await {
                return Ok(Pushed::Mounted);
            }
        }
        Upload { endpoint, call, descriptor, source }.run().await?;
        Ok(Pushed::Uploaded)
    }

    /// REM-17: whether this manifest is there under this tag or digest.
    pub async fn has_manifest(&self, object: &str, descriptor: &Descriptor) -> Result<bool> {
        let endpoint = self.pushes_to()?;
        let call = Call::push(endpoint, self.name_of(descriptor));
        let url = endpoint.url(&format!("manifests/{object}"));
        let build = |http: &reqwest::Client| {
            http.request(Method::HEAD, url.clone()).header(ACCEPT, &descriptor.media_type)
        };
        match endpoint.send(&call, build).await {
            Ok(answer) => Ok(digest_in(&answer) == Some(descriptor.digest)),
            Err(RegistryError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts a manifest or index under a tag or its digest; the registry's word on its digest must be ours (REM-19).
    pub async fn push_manifest(&self, object: &str, media_type: &str, bytes: Vec<u8>) -> Result<Digest> {
        let digest = digest_of(&bytes);
        let endpoint = self.pushes_to()?;
        let what = format!("{} ({digest})", self.reference());
        let call = Call::push(endpoint, &what);
        let bytes = Bytes::from(bytes);
        let url = endpoint.url(&format!("manifests/{object}"));
        let put = endpoint
            .send(&call, |http| http.put(url.clone()).header(CONTENT_TYPE, media_type).body(bytes.clone()));
        let answer = match put.await {
            // REM-21.
            Err(RegistryError::Status { what, status: 400, detail })
                if media_type.contains("list") || media_type.contains("index") =>
            {
                return Err(RegistryError::MissingChildren { what, detail });
            }
            answer => answer?,
        };
        match digest_in(&answer) {
            Some(said) if said == digest => Ok(digest),
            Some(said) => Err(RegistryError::digest_mismatch(&what, &digest, &said)),
            None => Err(RegistryError::Malformed {
                what,
                why: format!("it does not confirm the digest {digest} (no {DIGEST_HEADER})"),
            }),
        }
    }
}

fn digest_in(answer: &Response) -> Option<Digest> {
    header(answer.headers(), DIGEST_HEADER)?.parse().ok()
}

/// Asks the registry to share a blob of another repository. Whatever it says but yes: it is uploaded.
async fn mount(endpoint: &Endpoint, call: &Call, descriptor: &Descriptor, from: &str) -> bool {
    let mut url = endpoint.url("blobs/uploads/");
    url.query_pairs_mut().append_pair("mount", &descriptor.digest.to_string()).append_pair("from", from);
    let mut scopes = call.scopes.clone();
    scopes.push(format!("repository:{from}:pull"));
    let call = Call { what: call.what.clone(), scopes, tries_max: 1, moved: Arc::clone(&call.moved) };
    let answer = endpoint.send(&call, |http| http.post(url.clone()).header(CONTENT_LENGTH, 0)).await;
    match answer {
        Ok(answer) if answer.status() == StatusCode::CREATED => true,
        Ok(answer) => {
            // It has opened an upload instead: not ours to use, a fresh one is asked for with the usual scope.
            if let Ok(opened) = location(&call.what, &answer) {
                let _ = endpoint.send(&call, |http| http.delete(opened.clone())).await;
            }
            false
        }
        Err(error) => {
            tracing::debug!(from, %error, "no mount");
            false
        }
    }
}

/// One blob on its way.
struct Upload<'a> {
    endpoint: &'a Endpoint,
    call: Call,
    descriptor: &'a Descriptor,
    source: BlobSource,
}

impl Upload<'_> {
    async fn run(&self) -> Result<()> {
        let (opened, _) = self.open().await?;
        let failure = match self.put(&opened, 0).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let too_large = matches!(&failure.error, RegistryError::Status { status: 413, .. });
        let mut tries = 0;
        if !too_large {
            before_next(&self.call, &mut tries, failure).await?;
        }
        let mut at = opened;
        loop {
            match self.chunks(&mut at, &mut tries).await {
                Ok(()) => return Ok(()),
                Err(failure) => before_next(&self.call, &mut tries, failure).await?,
            }
        }
    }

    /// Opens an upload; gives where it is and the least bytes of a chunk.
    async fn open(&self) -> Result<(Url, u64)> {
        let url = self.endpoint.url("blobs/uploads/");
        let answer =
            self.endpoint.send(&self.call, |http| http.post(url.clone()).header(CONTENT_LENGTH, 0)).await?;
        if !matches!(answer.status(), StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            let why = format!("an upload was opened with {}", answer.status());
            return Err(RegistryError::Malformed { what: self.call.what.clone(), why });
        }
        let least = header(answer.headers(), CHUNK_MINIMUM).and_then(|least| least.parse().ok()).unwrap_or(0);
        Ok((location(&self.call.what, &answer)?, least))
    }

    /// The rest of the blob, from `offset` on, which completes it.
    async fn put(&self, at: &Url, offset: u64) -> Result<(), Failure> {
        let mut url = at.clone();
        url.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        let rest = self.descriptor.size - offset;
        self.endpoint
            .attempt(&self.call, &|http: &reqwest::Client| {
                let request = http.put(url.clone()).header(CONTENT_TYPE, "application/octet-stream");
                request.header(CONTENT_LENGTH, rest).body(self.body(offset, rest))
            })
            .await
            .map(drop)
    }

    fn body(&self, offset: u64, length: u64) -> reqwest::Body {
        if length == 0 {
            return reqwest::Body::from(Bytes::new());
        }
        reqwest::Body::wrap_stream(counted((self.source)(offset), length, Arc::clone(&self.call.moved)))
    }

    /// Chunk after chunk from where the registry is. What moves takes its tries back.
    async fn chunks(&self, at: &mut Url, tries: &mut u32) -> Result<(), Failure> {
        let mut least = 0;
        let mut done = match self.so_far(at).await? {
            Some(done) => done,
            None => {
                (*at, least) = self.open().await?;
                0
            }
        };
        while done < self.descriptor.size {
            let chunk = CHUNK_BYTES.max(least).min(CHUNK_BYTES_MAX).min(self.descriptor.size - done);
            let (last, url) = (done + chunk - 1, at.clone());
            let answer = self
                .endpoint
                .attempt(&self.call, &|http: &reqwest::Client| {
                    let request = http.patch(url.clone()).header(CONTENT_TYPE, "application/octet-stream");
                    let request = request.header(CONTENT_RANGE, format!("{done}-{last}"));
                    request.header(CONTENT_LENGTH, chunk).body(self.body(done, chunk))
                })
                .await?;
            *at = location(&self.call.what, &answer)?;
            // It may have taken less than it was given.
            done = received(&answer).unwrap_or(done + chunk).min(done + chunk);
            *tries = 0;
        }
        self.put(at, done).await
    }

    /// How far an upload is; `None`: it is not known any more.
    async fn so_far(&self, at: &mut Url) -> Result<Option<u64>, Failure> {
        let url = at.clone();
        match self.endpoint.attempt(&self.call, &|http: &reqwest::Client| http.get(url.clone())).await {
            Ok(answer) => {
                if let Ok(moved) = location(&self.call.what, &answer) {
                    *at = moved;
                }
                Ok(Some(received(&answer).unwrap_or(0).min(self.descriptor.size)))
            }
            Err(Failure { error: RegistryError::NotFound { .. }, .. }) => Ok(None),
            Err(Failure { error: RegistryError::Status { status, .. }, .. }) if status < 429 => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// `Range: 0-<last>` of an upload, as the number of its bytes; `0-0` is how registries write none.
fn received(answer: &Response) -> Option<u64> {
    let range = header(answer.headers(), RANGE.as_str())?;
    let last: u64 = range.trim_start_matches("bytes=").split_once('-')?.1.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

/// At most `length` bytes of a stream; each that goes out is told.
fn counted(
    stream: BoxStream<'static, io::Result<Bytes>>,
    length: u64,
    moved: Arc<AtomicU64>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let mut left = length;
    stream
        .map_ok(move |mut chunk| {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= chunk.len() as u64;
            moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            chunk
        })
        .try_take_while(|chunk| std::future::ready(Ok(!chunk.is_empty())))
        .boxed()
}
