//! Requests: to one host, over the right scheme, with deadlines, credentials, and repeats where they can help.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosun_types::content::Descriptor;
use bosun_types::reference::Reference;
use bosun_types::{Digest, ErrorClass};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::auth::{Challenge, Credentials, NoCredentials, challenge, token};
use crate::error::{RegistryError, Result};
use crate::retry;

/// Manifest types that we understand, in the order of preference (REM-2).
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";
/// Largest manifest or config fetched whole, in bytes.
const SMALL_BYTES_MAX: usize = 8 << 20;
/// Largest part of an error's text that is shown.
const DETAIL_BYTES_MAX: usize = 512;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No byte for this long ends a transfer: a slow-loris registry holds nobody for ever.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Redirects followed; blobs are often served from another host.
const REDIRECTS_MAX: usize = 5;
const DIGEST_HEADER: &str = "docker-content-digest";

/// How to reach registries.
#[derive(Clone)]
pub struct RegistryOptions {
    /// Says who we are.
    pub user_agent: String,
    /// Secrets by host.
    pub credentials: Arc<dyn Credentials>,
    /// Tries of a request that may pass.
    pub tries_max: u32,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        let user_agent = format!("bosun/{}", env!("CARGO_PKG_VERSION"));
        Self { user_agent, credentials: Arc::new(NoCredentials), tries_max: retry::TRIES_MAX }
    }
}

/// A client of registries; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    http: reqwest::Client,
    options: RegistryOptions,
    /// Authorization by host and scope.
    tokens: Mutex<HashMap<(String, String), String>>,
}

/// Bytes of a blob.
pub struct Fetch {
    /// Where they begin: what was asked, or 0 when the registry does not do ranges (REM-9).
    pub offset: u64,
    /// In order; ends with an error when cut, stalled, or longer than promised.
    pub stream: BoxStream<'static, Result<Bytes>>,
}

/// Where a request goes, and in which name.
pub(crate) struct Target<'a> {
    pub reference: &'a Reference,
    pub plain_http: bool,
    /// `pull` or `pull,push`.
    pub actions: &'static str,
    /// For messages.
    pub what: String,
}

impl<'a> Target<'a> {
    pub(crate) fn pull(reference: &'a Reference, plain_http: bool, what: impl ToString) -> Self {
        Self { reference, plain_http, actions: "pull", what: what.to_string() }
    }

    fn tls(&self) -> bool {
        !(self.plain_http || is_loopback(&self.reference.host))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.tls() { "https" } else { "http" };
        format!("{scheme}://{}/v2/{}/{path}", self.reference.host, self.reference.path)
    }

    fn scope(&self) -> String {
        format!("repository:{}:{}", self.reference.path, self.actions)
    }
}

/// Loopback registries speak plain http without being asked (REM-4).
fn is_loopback(host: &str) -> bool {
    let name = host
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or_else(|| host.split(':').next().unwrap_or(host), |(inner, _)| inner);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Registry {
    /// A client. The process's TLS provider must be installed before ([`crate::install_crypto_provider`]).
    pub fn new(options: RegistryOptions) -> Result<Self> {
        // Redirects to another host lose the Authorization header: reqwest strips it (and cookies) when host or port change.
        let http = reqwest::Client::builder()
            .user_agent(&options.user_agent)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .build()
            .map_err(|source| RegistryError::Connection { what: "the http client".to_owned(), source })?;
        Ok(Self { inner: Arc::new(Inner { http, options, tokens: Mutex::default() }) })
    }

    /// What a reference points at (REM-2): HEAD, or GET where HEAD is refused or says too little (REM-3).
    pub async fn resolve(&self, reference: &Reference, plain_http: bool) -> Result<Descriptor> {
        let object = object_of(reference)?;
        let target = Target::pull(reference, plain_http, reference);
        let url = target.url(&format!("manifests/{object}"));
        let head = self.send(&target, |http| http.request(Method::HEAD, &url).header(ACCEPT, ACCEPTED)).await;
        if let Ok(answer) = &head
            && let Some(descriptor) = descriptor_of(answer, reference)
        {
            return Ok(descriptor);
        }
        if let Err(error) = head
            && !matches!(&error, RegistryError::Status { status: 405, .. })
        {
            return Err(error);
        }
        let answer = self.send(&target, |http| http.get(&url).header(ACCEPT, ACCEPTED)).await?;
        let media_type = header(&answer, CONTENT_TYPE.as_str()).unwrap_or_default();
        let bytes = read_bounded(&target.what, answer, SMALL_BYTES_MAX).await?;
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
        let answer = self
            .send(&target, |http| {
                http.get(target.url(&path_of(descriptor))).header(ACCEPT, &descriptor.media_type)
            })
            .await?;
        let bytes = read_bounded(&what, answer, SMALL_BYTES_MAX).await?;
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
        let answer = self
            .send(&target, |http| {
                let request = http.get(target.url(&path_of(descriptor)));
                if offset > 0 { request.header(RANGE, format!("bytes={offset}-")) } else { request }
            })
            .await?;
        // A 200 to a ranged request is the whole blob: noticed, not appended.
        let begin = if answer.status() == StatusCode::PARTIAL_CONTENT { offset } else { 0 };
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

    /// Sends, answers a challenge once, repeats what may pass. Gives successes only.
    pub(crate) async fn send(
        &self,
        target: &Target<'_>,
        build: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, wait) = match self.send_once(target, &build).await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let wait = retry::retry_after(answer.headers());
                    (self.refusal(target, answer).await, wait)
                }
                Err(error) => (error, None),
            };
            if tries >= self.inner.options.tries_max || !error.is_passing() {
                return Err(error);
            }
            tracing::debug!(what = target.what, tries, %error, "trying again");
            tokio::time::sleep(retry::delay(tries, wait)).await;
        }
    }

    async fn send_once(
        &self,
        target: &Target<'_>,
        build: &impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response> {
        let connection = |source| RegistryError::Connection { what: target.what.clone(), source };
        let key = (target.reference.host.clone(), target.scope());
        let held = self.inner.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let mut request = build(&self.inner.http);
        if let Some(authorization) = held {
            request = request.header(AUTHORIZATION, authorization);
        }
        let answer = request.send().await.map_err(connection)?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let Some(authorization) = self.authorize(target, &answer).await? else { return Ok(answer) };
        self.inner.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, authorization.clone());
        build(&self.inner.http).header(AUTHORIZATION, authorization).send().await.map_err(connection)
    }

    /// The Authorization header that answers a challenge, if we can.
    async fn authorize(&self, target: &Target<'_>, answer: &Response) -> Result<Option<String>> {
        let credential = self.inner.options.credentials.of(&target.reference.host);
        // Only a challenge of the very host that was asked counts: a redirect's host gets nothing.
        let asked = url::Url::parse(&target.url("")).ok();
        if asked.as_ref().map(url::Url::origin) != Some(answer.url().origin()) {
            return Ok(None);
        }
        match challenge(answer.headers()) {
            None => Ok(None),
            Some(Challenge::Basic) => {
                Ok(credential.map(|credential| basic(&credential.user, &credential.secret)))
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = scope.unwrap_or_else(|| target.scope());
                let service = (realm.as_str(), service.as_deref(), scope.as_str());
                let token =
                    token(&self.inner.http, &target.what, target.tls(), service, credential.as_ref()).await?;
                Ok(Some(format!("Bearer {token}")))
            }
        }
    }

    async fn refusal(&self, target: &Target<'_>, answer: Response) -> RegistryError {
        let what = target.what.clone();
        match answer.status() {
            StatusCode::NOT_FOUND => RegistryError::NotFound { what },
            StatusCode::UNAUTHORIZED => RegistryError::Unauthenticated { what },
            StatusCode::FORBIDDEN => RegistryError::Denied { what },
            status => {
                let body = read_bounded(&what, answer, SMALL_BYTES_MAX).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&body[..body.len().min(DETAIL_BYTES_MAX)])
                    .replace(char::is_control, " ");
                let detail =
                    if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) };
                RegistryError::Status { what, status: status.as_u16(), detail }
            }
        }
    }
}

fn basic(user: &str, secret: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}")))
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

fn header(answer: &Response, name: &str) -> Option<String> {
    answer.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// A media type without its parameters.
fn bare(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_owned()
}

/// What a HEAD says, when it says everything and does not contradict the reference.
fn descriptor_of(answer: &Response, reference: &Reference) -> Option<Descriptor> {
    let digest: Digest = header(answer, DIGEST_HEADER)?.parse().ok()?;
    let size: u64 = header(answer, CONTENT_LENGTH.as_str())?.parse().ok()?;
    let media_type = bare(&header(answer, CONTENT_TYPE.as_str())?);
    let agrees = reference.digest.is_none_or(|promised| promised == digest);
    (agrees && size > 0 && !media_type.is_empty()).then_some(Descriptor { media_type, digest, size })
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// A body of at most `bytes_max`, however long it claims to be.
pub(crate) async fn read_bounded(what: &str, answer: Response, bytes_max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|source| RegistryError::Connection { what: what.to_owned(), source })?;
        if bytes.len() + chunk.len() > bytes_max {
            return Err(RegistryError::Malformed {
                what: what.to_owned(),
                why: format!("more than {bytes_max} bytes"),
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
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

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn rem_4_loopback_hosts() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.org", "10.0.0.1", "registry.local:5000", "[::2]"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
