//! Challenges and tokens (REM-5..7). A credential belongs to one host; it goes to that host, and to the token service that the host's own
//! challenge names over the same or a safer scheme, and nowhere else (CVE-2020-15157).

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use crate::error::{RegistryError, Result};

/// Largest token answer in bytes.
const TOKEN_BYTES_MAX: usize = 256 << 10;

/// A user's secret for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// User name.
    pub user: String,
    /// Password or token.
    pub secret: String,
}

/// Where credentials come from.
pub trait Credentials: Send + Sync {
    /// For `host[:port]`, if there are any.
    fn of(&self, host: &str) -> Option<Credential>;
}

/// Anonymous everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl Credentials for NoCredentials {
    fn of(&self, _: &str) -> Option<Credential> {
        None
    }
}

/// What a 401 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    Basic,
}

/// The challenges of an answer, bearer first (REM-5).
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let texts: Vec<&str> =
        headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
    texts.iter().find_map(|text| bearer(text)).or_else(|| texts.iter().find_map(|text| basic(text)))
}

fn bearer(text: &str) -> Option<Challenge> {
    let rest = text.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer "))?.1;
    let mut words = parameters(rest);
    Some(Challenge::Bearer {
        realm: words.remove("realm")?,
        service: words.remove("service"),
        scope: words.remove("scope"),
    })
}

fn basic(text: &str) -> Option<Challenge> {
    text.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("basic")).map(|_| Challenge::Basic)
}

/// `key="value", key="value"`; a comma inside quotes belongs to the value.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => match quoted.split_once('"') {
                Some((value, next)) => (value, next),
                None => break,
            },
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        rest = next.trim_start_matches([',', ' ']);
    }
    found
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// A token from the service that the challenge names, by GET, with the host's credential when there is one.
pub(crate) async fn token(
    http: &reqwest::Client,
    what: &str,
    origin_is_tls: bool,
    (realm, service, scope): (&str, Option<&str>, &str),
    credential: Option<&Credential>,
) -> Result<String> {
    let malformed = |why: String| RegistryError::Malformed { what: what.to_owned(), why };
    let url =
        url::Url::parse(realm).map_err(|error| malformed(format!("token service {realm:?}: {error}")))?;
    if origin_is_tls && url.scheme() != "https" {
        return Err(malformed(format!("a registry with TLS names a token service without: {realm}")));
    }
    let mut request = http.get(url).query(&[("scope", scope)]);
    if let Some(service) = service {
        request = request.query(&[("service", service)]);
    }
    if let Some(credential) = credential {
        request = request.basic_auth(&credential.user, Some(&credential.secret));
    }
    let answer =
        request.send().await.map_err(|source| RegistryError::Connection { what: what.to_owned(), source })?;
    if !answer.status().is_success() {
        return Err(RegistryError::Unauthenticated { what: what.to_owned() });
    }
    let bytes = crate::client::read_bounded(what, answer, TOKEN_BYTES_MAX).await?;
    let answer: TokenAnswer =
        serde_json::from_slice(&bytes).map_err(|error| malformed(format!("token: {error}")))?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    token.ok_or_else(|| malformed("the token service gave no token".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (WWW_AUTHENTICATE, value.parse().expect("a header"))).collect()
    }

    #[test]
    fn rem_5_bearer_before_basic() {
        let found = challenge(&headers(&[
            "Basic realm=\"x\"",
            "Bearer realm=\"https://t/\",service=\"r\",scope=\"repository:a:pull,push\"",
        ]));
        let wanted = Challenge::Bearer {
            realm: "https://t/".to_owned(),
            service: Some("r".to_owned()),
            scope: Some("repository:a:pull,push".to_owned()),
        };
        assert_eq!(found, Some(wanted));
        assert_eq!(challenge(&headers(&["basic realm=x"])), Some(Challenge::Basic));
        assert_eq!(challenge(&headers(&["Digest x", "Bearer service=\"no realm\""])), None);
        assert_eq!(challenge(&headers(&["Bearer realm=\"unterminated"])), None);
    }
}
