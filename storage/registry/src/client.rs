//! Requests: to one host, over the right scheme, with deadlines, credentials, and repeats where they can help.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosun_types::Digest;
use bosun_types::reference::Reference;
use bosun_types::transfer::Credential;
use futures::StreamExt as _;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::auth::{Challenge, TokenRequest, challenge, scopes};
use crate::error::{RegistryError, Result};
use crate::hosts::{Capability, Host, Tls, hosts_of};
use crate::{places, retry};

/// Largest manifest or config fetched whole, in bytes.
pub(crate) const SMALL_BYTES_MAX: usize = 8 << 20;
/// Largest part of an error's text that is shown.
const DETAIL_BYTES_MAX: usize = 512;
/// REM-22.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No byte for this long ends a transfer: a slow-loris registry holds nobody for ever.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that nobody uses is closed after this time (REM-22).
const POOL_IDLE: Duration = Duration::from_secs(30);
const POOL_PER_HOST: usize = 10;
/// Redirects followed; blobs are often served from another host.
const REDIRECTS_MAX: usize = 5;
/// A small object comes within this time or not at all: a byte now and then holds nobody for ever either.
const SMALL_DEADLINE: Duration = Duration::from_secs(60);
/// Tries at a mirror: there is another host to ask.
const MIRROR_TRIES: u32 = 2;

/// How to reach registries.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Says who we are.
    pub user_agent: String,
    /// Directory of per-host settings, `<host>/hosts.toml`; `None`: there are none.
    pub hosts_directory: Option<PathBuf>,
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
            hosts_directory: None,
            tries_max: retry::TRIES_MAX,
            small_deadline: SMALL_DEADLINE,
        }
    }
}

/// As whom a repository is asked, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Speak http where no settings say otherwise. Loopback hosts speak http without being asked.
    pub plain_http: bool,
    /// For the registry that the reference names; mirrors get nothing.
    pub credential: Option<Credential>,
}

/// A client of registries; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    http: reqwest::Client,
    options: Arc<RegistryOptions>,
}

/// One repository as one user sees it; cheap to clone. Tokens are its own: what one user was given serves no other.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

struct Inner {
    reference: Reference,
    endpoints: Vec<Endpoint>,
    registry: Registry,
}

/// One host that may be asked about the repository.
pub(crate) struct Endpoint {
    http: reqwest::Client,
    options: Arc<RegistryOptions>,
    host: Host,
    /// The repository's path on it.
    path: String,
    /// What a mirror is told of whom it stands for.
    stands_for: Option<String>,
    /// Nobody that was asked for: its challenges are not answered.
    is_stranger: bool,
    credential: Option<Credential>,
    /// Authorization by scopes.
    held: Mutex<HashMap<String, HeaderValue>>,
    /// What the token service gave to be used instead of the secret.
    refresh: Mutex<Option<String>>,
}

/// A request: for messages, for tokens, for repeats.
pub(crate) struct Call {
    pub what: String,
    pub scopes: Vec<String>,
    pub tries_max: u32,
    /// Grows while an upload moves.
    pub moved: Arc<AtomicU64>,
}

/// A try that failed, and how long the registry asks to wait.
pub(crate) struct Failure {
    pub error: RegistryError,
    pub wait: Option<Duration>,
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self { error, wait: None }
    }
}

impl Registry {
    /// A client. The process's TLS provider must be installed before ([`crate::install_crypto_provider`]).
    pub fn new(options: RegistryOptions) -> Result<Self> {
        let http = build_http(&options, &Tls::default())?;
        Ok(Self { http, options: Arc::new(options) })
    }

    /// A repository, with its host's settings as they are now.
    pub fn repository(&self, reference: &Reference, access: &Access) -> Result<Repository> {
        let hosts = hosts_of(self.options.hosts_directory.as_deref(), reference, access.plain_http)?;
        let endpoints = hosts.into_iter().map(|host| self.endpoint(reference, access, host));
        let endpoints = endpoints.collect::<Result<_>>()?;
        let (reference, registry) = (reference.clone(), self.clone());
        Ok(Repository { inner: Arc::new(Inner { reference, endpoints, registry }) })
    }

    /// A host that somebody else named: known by nothing but its authorities. No secret, no certificate, no header goes there.
    fn stranger(&self, url: &Url) -> Result<Endpoint> {
        let name = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let reference = Reference { host, path: String::new(), tag: None, digest: None };
        let hosts = hosts_of(self.options.hosts_directory.as_deref(), &reference, url.scheme() == "http")?;
        let mut tls = hosts.into_iter().find(|host| !host.is_mirror).map(|host| host.tls).unwrap_or_default();
        tls.identity = None;
        let endpoint = self.endpoint(&reference, &Access::default(), Host::new(url.clone(), tls))?;
        Ok(Endpoint { is_stranger: true, ..endpoint })
    }

    fn endpoint(&self, reference: &Reference, access: &Access, host: Host) -> Result<Endpoint> {
        let http = if host.tls == Tls::default() {
            self.http.clone()
        } else {
            build_http(&self.options, &host.tls)?
        };
        Ok(Endpoint {
            http,
            options: Arc::clone(&self.options),
            path: reference.path.clone(),
            stands_for: host.is_mirror.then(|| reference.host.clone()),
            is_stranger: false,
            credential: access.credential.clone().filter(|_| !host.is_mirror),
            host,
            held: Mutex::default(),
            refresh: Mutex::default(),
        })
    }
}

fn build_http(options: &RegistryOptions, tls: &Tls) -> Result<reqwest::Client> {
    let wrong = |source: reqwest::Error| RegistryError::Client { source };
    // Redirects are followed by us: what a host's settings add to requests must not go along either.
    let mut builder = reqwest::Client::builder()
        .user_agent(&options.user_agent)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_PER_HOST)
        .tcp_keepalive(IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false);
    for roots in &tls.roots {
        builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(roots).map_err(wrong)?);
    }
    if let Some(identity) = &tls.identity {
        builder = builder.identity(reqwest::Identity::from_pem(identity).map_err(wrong)?);
    }
    if tls.skip_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(wrong)
}

impl Repository {
    /// What it was opened for.
    pub(crate) fn reference(&self) -> &Reference {
        &self.inner.reference
    }

    /// Whom to ask at an address that this repository's manifests name, if it may lead there at all.
    pub(crate) fn stranger(&self, what: &str, url: &str) -> Result<(Endpoint, Url)> {
        let malformed = |why: String| RegistryError::Malformed { what: what.to_owned(), why };
        let to = Url::parse(url).map_err(|error| malformed(format!("address {url:?}: {error}")))?;
        if !to.username().is_empty() || to.password().is_some() {
            return Err(malformed(format!(
                "an address with a secret in it, at {}",
                to.host_str().unwrap_or_default()
            )));
        }
        let itself = self.inner.endpoints.iter().find(|endpoint| !endpoint.host.is_mirror);
        if let Some(itself) = itself {
            places::may_lead(&itself.host.base, &to).map_err(malformed)?;
        }
        Ok((self.inner.registry.stranger(&to)?, to))
    }

    /// Whom to ask, in order.
    pub(crate) fn endpoints(&self, capability: Capability) -> impl Iterator<Item = &Endpoint> {
        self.inner.endpoints.iter().filter(move |endpoint| endpoint.host.capabilities.contains(&capability))
    }
}

/// Asks one endpoint after the other; gives the first success, else what the last one said.
macro_rules! first_of {
    ($repository:expr, $capability:expr, |$endpoint:ident| $ask:expr) => {{
        let mut refused = None;
        for $endpoint in $repository.endpoints($capability) {
            match $ask.await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    tracing::debug!(host = %$endpoint.name(), %error, "asking the next host");
                    refused = Some(error);
                }
            }
        }
        Err(refused.unwrap_or_else(|| $crate::client::nobody($repository.reference(), $capability)))
    }};
}
pub(crate) use first_of;

pub(crate) fn nobody(reference: &Reference, capability: Capability) -> RegistryError {
    RegistryError::Nobody {
        what: reference.to_string(),
        capability: format!("{capability:?}").to_lowercase(),
    }
}

impl Call {
    fn new(endpoint: &Endpoint, actions: &str, what: impl ToString) -> Self {
        let tries = endpoint.options.tries_max;
        Self {
            what: what.to_string(),
            scopes: vec![format!("repository:{}:{actions}", endpoint.path)],
            tries_max: if endpoint.host.is_mirror { tries.min(MIRROR_TRIES) } else { tries },
            moved: Arc::default(),
        }
    }

    /// Reads.
    pub(crate) fn pull(endpoint: &Endpoint, what: impl ToString) -> Self {
        Self::new(endpoint, "pull", what)
    }

    /// Writes.
    pub(crate) fn push(endpoint: &Endpoint, what: impl ToString) -> Self {
        Self::new(endpoint, "pull,push", what)
    }
}

impl Endpoint {
    /// For messages.
    pub(crate) fn name(&self) -> &str {
        self.host.base.host_str().unwrap_or_default()
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.host.base.clone();
        url.set_path(&format!("{}/{}/{path}", self.host.base.path(), self.path));
        if let Some(host) = &self.stands_for {
            url.query_pairs_mut().append_pair("ns", host);
        }
        url
    }

    /// Sends, answers a challenge once, repeats what may pass. Gives successes only.
    pub(crate) async fn send(
        &self,
        call: &Call,
        build: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response> {
        let mut tries = 0;
        loop {
            match self.attempt(call, &build).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => before_next(call, &mut tries, failure).await?,
            }
        }
    }

    /// As [`Endpoint::send`], with the whole body: small, complete within the deadline, fetched again when it is cut.
    pub(crate) async fn send_whole(
        &self,
        call: &Call,
        build: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<(HeaderMap, Vec<u8>)> {
        let mut tries = 0;
        loop {
            let whole = async {
                let answer = self.attempt(call, &build).await?;
                let headers = answer.headers().clone();
                let bytes = read_bounded(&call.what, answer, SMALL_BYTES_MAX).await;
                Ok((headers, bytes.map_err(Failure::from)?))
            };
            match self.in_time(call, whole).await.unwrap_or_else(|late| Err(late.into())) {
                Ok(whole) => return Ok(whole),
                Err(failure) => before_next(call, &mut tries, failure).await?,
            }
        }
    }

    async fn in_time<T>(&self, call: &Call, work: impl Future<Output = T>) -> Result<T> {
        let deadline = self.options.small_deadline;
        tokio::time::timeout(deadline, work)
            .await
            .map_err(|_| RegistryError::TooSlow { what: call.what.clone(), deadline })
    }

    /// One try, challenge included.
    pub(crate) async fn attempt(
        &self,
        call: &Call,
        build: &impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let (answer, authorized) = self.send_once(call, build).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let wait = retry::retry_after(answer.headers());
        Err(Failure { error: self.refusal(call, answer, authorized).await, wait })
    }

    /// The answer, and whether it is one to a fresh authorization.
    async fn send_once(
        &self,
        call: &Call,
        build: &impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<(Response, bool)> {
        let key = call.scopes.join(" ");
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let answer = self.follow(call, self.request(call, build, held)?).await?;
        // Only a challenge of the very origin that was meant counts: another's gets nothing.
        if answer.status() != StatusCode::UNAUTHORIZED || !self.is_ours(answer.url()) || self.is_stranger {
            return Ok((answer, false));
        }
        let Some(authorization) = self.authorize(call, &answer).await? else { return Ok((answer, false)) };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(key, authorization.clone());
        let request = self.request(call, build, Some(authorization))?;
        Ok((self.follow(call, request).await?, true))
    }

    /// A secret belongs to an origin, scheme, host and port: the Location of an upload may be another's (CVE-2020-15157).
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.host.base.origin()
    }

    fn request(
        &self,
        call: &Call,
        build: &impl Fn(&reqwest::Client) -> RequestBuilder,
        authorization: Option<HeaderValue>,
    ) -> Result<Request> {
        let mut request = build(&self.http)
            .build()
            .map_err(|source| RegistryError::Connection { what: call.what.clone(), source })?;
        if self.is_ours(request.url()) {
            for (name, value) in &self.host.headers {
                request.headers_mut().append(name.clone(), value.clone());
            }
            if let Some(authorization) = authorization {
                request.headers_mut().insert(AUTHORIZATION, authorization);
            }
        }
        Ok(request)
    }

    /// Executes, and goes where reads are sent on to, if that may be: to another origin without anything that belongs to this one.
    async fn follow(&self, call: &Call, request: Request) -> Result<Response> {
        let malformed = |why: String| RegistryError::Malformed { what: call.what.clone(), why };
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let mut answer = execute(&self.http, &call.what, request, Some(&call.moved)).await?;
        let mut count = 0;
        while reads && answer.status().is_redirection() && answer.headers().contains_key(LOCATION) {
            count += 1;
            if count > REDIRECTS_MAX {
                return Err(malformed(format!("more than {REDIRECTS_MAX} redirects")));
            }
            let to = location(&call.what, &answer)?;
            let mut next = Request::new(method.clone(), to.clone());
            *next.headers_mut() = headers.clone();
            if !self.is_ours(&to) {
                next.headers_mut().remove(AUTHORIZATION);
                self.host.headers.keys().for_each(|name| drop(next.headers_mut().remove(name)));
            }
            answer = execute(&self.http, &call.what, next, None).await?;
        }
        Ok(answer)
    }

    /// The Authorization header that answers a challenge, if we can.
    async fn authorize(&self, call: &Call, answer: &Response) -> Result<Option<HeaderValue>> {
        let text = match challenge(answer.headers()) {
            None => return Ok(None),
            Some(Challenge::Basic) => match &self.credential {
                Some(credential) if !credential.user.is_empty() => basic(credential),
                _ => return Ok(None),
            },
            Some(Challenge::Bearer { realm, service, scope, .. }) => {
                let refresh = self.refresh.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let request = TokenRequest {
                    http: &self.http,
                    what: &call.what,
                    from: &self.host.base,
                    realm: &realm,
                    service: service.as_deref(),
                    scopes: &scopes(&call.scopes, scope.as_deref()),
                    credential: self.credential.as_ref(),
                    refresh: refresh.as_deref(),
                };
                let token = self.in_time(call, request.send()).await??;
                if token.refresh.is_some() {
                    *self.refresh.lock().unwrap_or_else(PoisonError::into_inner) = token.refresh;
                }
                format!("Bearer {}", token.bearer)
            }
        };
        let mut value = HeaderValue::try_from(text).map_err(|error| RegistryError::Malformed {
            what: call.what.clone(),
            why: format!("token: {error}"),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    async fn refusal(&self, call: &Call, answer: Response, authorized: bool) -> RegistryError {
        let what = call.what.clone();
        match answer.status() {
            StatusCode::NOT_FOUND => RegistryError::NotFound { what },
            StatusCode::UNAUTHORIZED => match challenge(answer.headers()) {
                // REM-5: who we are is known by now; it is not enough.
                Some(Challenge::Bearer { error: Some(_), .. }) if authorized => {
                    RegistryError::Denied { what }
                }
                _ => RegistryError::Unauthenticated { what },
            },
            StatusCode::FORBIDDEN => RegistryError::Denied { what },
            status => {
                let body = self.in_time(call, read_bounded(&what, answer, SMALL_BYTES_MAX)).await;
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

/// Waits before the next try, or gives the error when there is none.
pub(crate) async fn before_next(call: &Call, tries: &mut u32, failure: Failure) -> Result<()> {
    let Failure { error, wait } = failure;
    *tries += 1;
    if *tries >= call.tries_max || !error.is_passing() {
        return Err(error);
    }
    tracing::debug!(what = call.what, tries, %error, "trying again");
    tokio::time::sleep(retry::delay(*tries, wait)).await;
    Ok(())
}

/// Waits for an answer as long as something moves.
pub(crate) async fn execute(
    http: &reqwest::Client,
    what: &str,
    request: Request,
    moved: Option<&AtomicU64>,
) -> Result<Response> {
    let mut answer = pin!(http.execute(request));
    let mut seen = moved.map_or(0, |moved| moved.load(Ordering::Relaxed));
    loop {
        if let Ok(answer) = tokio::time::timeout(IDLE_TIMEOUT, &mut answer).await {
            return answer.map_err(|source| RegistryError::Connection { what: what.to_owned(), source });
        }
        let now = moved.map_or(seen, |moved| moved.load(Ordering::Relaxed));
        if now == seen {
            return Err(stalled(what));
        }
        seen = now;
    }
}

pub(crate) fn stalled(what: &str) -> RegistryError {
    RegistryError::Stalled { what: what.to_owned(), seconds: IDLE_TIMEOUT.as_secs() }
}

/// Where an answer points, if it may: a Location without a host is of the host that was asked; its query is kept.
pub(crate) fn location(what: &str, answer: &Response) -> Result<Url> {
    let text = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let malformed = |why: String| RegistryError::Malformed {
        what: what.to_owned(),
        why: format!("Location {text:?}: {why}"),
    };
    if text.is_empty() {
        return Err(malformed("it is not there".to_owned()));
    }
    let to = answer.url().join(text).map_err(|error| malformed(error.to_string()))?;
    places::may_lead(answer.url(), &to).map_err(malformed)?;
    Ok(to)
}

fn basic(credential: &Credential) -> String {
    use base64::Engine as _;
    let pair = format!("{}:{}", credential.user, credential.secret);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
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
    while let Some(chunk) =
        tokio::time::timeout(IDLE_TIMEOUT, stream.next()).await.map_err(|_| stalled(what))?
    {
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
