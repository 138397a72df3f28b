//! Requests: to one host, over the right scheme, with deadlines, credentials, and repeats where they can help.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosun_types::Digest;
use bosun_types::reference::Reference;
use futures::StreamExt as _;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::auth::{Challenge, Credentials, NoCredentials, challenge, token};
use crate::error::{RegistryError, Result};
use crate::retry;

/// Largest manifest or config fetched whole, in bytes.
pub(crate) const SMALL_BYTES_MAX: usize = 8 << 20;
/// Largest part of an error's text that is shown.
const DETAIL_BYTES_MAX: usize = 512;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No byte for this long ends a transfer: a slow-loris registry holds nobody for ever.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Redirects followed; blobs are often served from another host.
const REDIRECTS_MAX: usize = 5;
/// A small object comes within this time or not at all: a byte now and then holds nobody for ever either.
const SMALL_DEADLINE: Duration = Duration::from_secs(60);

/// How to reach registries.
#[derive(Clone)]
pub struct RegistryOptions {
    /// Says who we are.
    pub user_agent: String,
    /// Secrets by host.
    pub credentials: Arc<dyn Credentials>,
    /// Tries of a request that may pass.
    pub tries_max: u32,
    /// How long one try of a small object may take as a whole.
    pub small_deadline: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        let user_agent = format!("bosun/{}", env!("CARGO_PKG_VERSION"));
        Self {
            user_agent,
            credentials: Arc::new(NoCredentials),
            tries_max: retry::TRIES_MAX,
            small_deadline: SMALL_DEADLINE,
        }
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
    /// Authorization by origin and scope.
    tokens: Mutex<HashMap<(String, String), HeaderValue>>,
}

/// A try that failed, and how long the registry asks to wait.
struct Failure {
    error: RegistryError,
    wait: Option<Duration>,
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self { error, wait: None }
    }
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

    /// Whose secrets may be used: scheme, host and port.
    fn origin(&self) -> url::Origin {
        // What is no url has an origin that equals no other.
        url::Url::parse(&self.url("")).map_or_else(|_| url::Origin::new_opaque(), |url| url.origin())
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

    /// Sends, answers a challenge once, repeats what may pass. Gives successes only.
    pub(crate) async fn send(
        &self,
        target: &Target<'_>,
        build: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response> {
        let mut tries = 0;
        loop {
            match self.attempt(target, &build).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.before_next(target, &mut tries, failure).await?,
            }
        }
    }

    /// As [`Registry::send`], with the whole body: small, complete within the deadline, fetched again when it is cut.
    pub(crate) async fn send_whole(
        &self,
        target: &Target<'_>,
        build: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<(HeaderMap, Vec<u8>)> {
        let mut tries = 0;
        loop {
            let whole = async {
                let answer = self.attempt(target, &build).await?;
                let headers = answer.headers().clone();
                let bytes = read_bounded(&target.what, answer, SMALL_BYTES_MAX).await;
                Ok((headers, bytes.map_err(Failure::from)?))
            };
            match self.in_time(target, whole).await.unwrap_or_else(|late| Err(late.into())) {
                Ok(whole) => return Ok(whole),
                Err(failure) => self.before_next(target, &mut tries, failure).await?,
            }
        }
    }

    /// Waits before the next try, or gives the error when there is none.
    async fn before_next(&self, target: &Target<'_>, tries: &mut u32, failure: Failure) -> Result<()> {
        let Failure { error, wait } = failure;
        *tries += 1;
        if *tries >= self.inner.options.tries_max || !error.is_passing() {
            return Err(error);
        }
        tracing::debug!(what = target.what, tries, %error, "trying again");
        tokio::time::sleep(retry::delay(*tries, wait)).await;
        Ok(())
    }

    async fn in_time<T>(&self, target: &Target<'_>, work: impl Future<Output = T>) -> Result<T> {
        let deadline = self.inner.options.small_deadline;
        tokio::time::timeout(deadline, work)
            .await
            .map_err(|_| RegistryError::TooSlow { what: target.what.clone(), deadline })
    }

    async fn attempt(
        &self,
        target: &Target<'_>,
        build: &impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let answer = self.send_once(target, build).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let wait = retry::retry_after(answer.headers());
        Err(Failure { error: self.refusal(target, answer).await, wait })
    }

    async fn send_once(
        &self,
        target: &Target<'_>,
        build: &impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response> {
        let connection = |source| RegistryError::Connection { what: target.what.clone(), source };
        let mut request = build(&self.inner.http).build().map_err(connection)?;
        // A secret belongs to an origin: the Location of an upload may be another's (CVE-2020-15157).
        let origin = target.origin();
        let key = (origin.ascii_serialization(), target.scope());
        let held = self.inner.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(authorization) = held.filter(|_| request.url().origin() == origin) {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        let answer = self.inner.http.execute(request).await.map_err(connection)?;
        // Only a challenge of the very origin that was meant counts: another's gets nothing.
        if answer.status() != StatusCode::UNAUTHORIZED || answer.url().origin() != origin {
            return Ok(answer);
        }
        let Some(authorization) = self.authorize(target, &answer).await? else { return Ok(answer) };
        self.inner.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, authorization.clone());
        let mut request = build(&self.inner.http).build().map_err(connection)?;
        if request.url().origin() == origin {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        self.inner.http.execute(request).await.map_err(connection)
    }

    /// The Authorization header that answers a challenge, if we can.
    async fn authorize(&self, target: &Target<'_>, answer: &Response) -> Result<Option<HeaderValue>> {
        let credential = self.inner.options.credentials.of(&target.reference.host);
        let text = match challenge(answer.headers()) {
            None => return Ok(None),
            Some(Challenge::Basic) => match credential {
                None => return Ok(None),
                Some(credential) => basic(&credential.user, &credential.secret),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = scope.unwrap_or_else(|| target.scope());
                let service = (realm.as_str(), service.as_deref(), scope.as_str());
                let token = token(&self.inner.http, &target.what, target.tls(), service, credential.as_ref());
                format!("Bearer {}", self.in_time(target, token).await??)
            }
        };
        let mut value = HeaderValue::try_from(text).map_err(|error| RegistryError::Malformed {
            what: target.what.clone(),
            why: format!("token: {error}"),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    async fn refusal(&self, target: &Target<'_>, answer: Response) -> RegistryError {
        let what = target.what.clone();
        match answer.status() {
            StatusCode::NOT_FOUND => RegistryError::NotFound { what },
            StatusCode::UNAUTHORIZED => RegistryError::Unauthenticated { what },
            StatusCode::FORBIDDEN => RegistryError::Denied { what },
            status => {
                let body = self.in_time(target, read_bounded(&what, answer, SMALL_BYTES_MAX)).await;
                let body = body.flatten().unwrap_or_default();
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

pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
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
