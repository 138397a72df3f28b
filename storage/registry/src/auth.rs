//! Challenges and tokens (REM-5..7). A credential belongs to one host; it goes to that host, and to the token service that the host's own
//! challenge names over the same or a safer scheme, and nowhere else (CVE-2020-15157).

use std::collections::{BTreeMap, BTreeSet};

use bosun_types::transfer::Credential;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::client::{execute, read_bounded};
use crate::error::{RegistryError, Result};
use crate::places;

/// Largest token answer in bytes.
const TOKEN_BYTES_MAX: usize = 256 << 10;
/// Largest challenge in bytes, and how many are looked at.
const CHALLENGE_BYTES_MAX: usize = 8 << 10;
const CHALLENGES_MAX: usize = 8;
/// Who we are to a token service.
const CLIENT_ID: &str = "bosun";

/// What a 401 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Bearer { realm: String, service: Option<String>, scope: Option<String>, error: Option<String> },
    Basic,
}

/// The challenges of an answer, bearer first (REM-5).
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let texts: Vec<&str> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .take(CHALLENGES_MAX)
        .filter_map(|value| value.to_str().ok())
        .filter(|text| text.len() <= CHALLENGE_BYTES_MAX)
        .collect();
    texts.iter().find_map(|text| bearer(text)).or_else(|| texts.iter().find_map(|text| basic(text)))
}

fn bearer(text: &str) -> Option<Challenge> {
    let rest = text.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer "))?.1;
    let mut words = parameters(rest);
    Some(Challenge::Bearer {
        realm: words.remove("realm")?,
        service: words.remove("service"),
        scope: words.remove("scope"),
        error: words.remove("error"),
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

/// REM-7: ours and the challenge's, sorted, each once.
pub(crate) fn scopes(ours: &[String], challenged: Option<&str>) -> Vec<String> {
    let theirs = challenged.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty());
    let all: BTreeSet<String> = ours.iter().cloned().chain(theirs.map(str::to_owned)).collect();
    all.into_iter().collect()
}

/// What a token service gave.
pub(crate) struct Token {
    /// For the registry.
    pub bearer: String,
    /// For the token service, instead of the secret, next time.
    pub refresh: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

/// A request for a token.
pub(crate) struct TokenRequest<'a> {
    pub http: &'a reqwest::Client,
    /// For messages.
    pub what: &'a str,
    /// Who sent us.
    pub from: &'a Url,
    pub realm: &'a str,
    pub service: Option<&'a str>,
    pub scopes: &'a [String],
    pub credential: Option<&'a Credential>,
    /// From an earlier answer.
    pub refresh: Option<&'a str>,
}

impl TokenRequest<'_> {
    /// REM-6: with a secret by POST, else, or where that is not known, by GET; without a secret anonymously.
    pub(crate) async fn send(&self) -> Result<Token> {
        let realm = Url::parse(self.realm).map_err(|error| self.malformed(error))?;
        places::may_lead(self.from, &realm).map_err(|why| self.malformed(why))?;
        if let Some(form) = self.form() {
            let answer = self.execute(self.http.post(realm.clone()).form(&form)).await?;
            let by_get = matches!(
                answer.status(),
                StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED
            );
            // A refresh token has no form in a GET.
            if !by_get || self.password().is_none() {
                return self.read(answer).await;
            }
        }
        let scopes: Vec<(&str, &str)> = self.scopes.iter().map(|scope| ("scope", scope.as_str())).collect();
        let mut request = self.http.get(realm).query(&scopes);
        if let Some(service) = self.service {
            request = request.query(&[("service", service)]);
        }
        if let Some(credential) = self.password() {
            request = request
                .query(&[("account", &credential.user)])
                .basic_auth(&credential.user, Some(&credential.secret));
        }
        let answer = self.execute(request).await?;
        self.read(answer).await
    }

    /// The user's name and password, if it is not an identity token.
    fn password(&self) -> Option<&Credential> {
        self.credential.filter(|credential| !credential.user.is_empty())
    }

    fn form(&self) -> Option<Vec<(&'static str, String)>> {
        let mut form = match (self.refresh, self.credential) {
            (None, None) => return None,
            (Some(refresh), _) => {
                vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh.to_owned())]
            }
            (None, Some(credential)) if credential.user.is_empty() => {
                vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", credential.secret.clone())]
            }
            (None, Some(credential)) => vec![
                ("grant_type", "password".to_owned()),
                ("username", credential.user.clone()),
                ("password", credential.secret.clone()),
                ("access_type", "offline".to_owned()),
            ],
        };
        form.push(("client_id", CLIENT_ID.to_owned()));
        form.push(("service", self.service.unwrap_or_default().to_owned()));
        form.push(("scope", self.scopes.join(" ")));
        Some(form)
    }

    async fn execute(&self, request: RequestBuilder) -> Result<Response> {
        let request = request
            .build()
            .map_err(|source| RegistryError::Connection { what: self.what.to_owned(), source })?;
        execute(self.http, self.what, request, None).await
    }

    async fn read(&self, answer: Response) -> Result<Token> {
        let status = answer.status();
        if status.as_u16() == 429 || status.is_server_error() {
            let detail = " for a token".to_owned();
            return Err(RegistryError::Status {
                what: self.what.to_owned(),
                status: status.as_u16(),
                detail,
            });
        }
        if !status.is_success() {
            return Err(RegistryError::Unauthenticated { what: self.what.to_owned() });
        }
        let bytes = read_bounded(self.what, answer, TOKEN_BYTES_MAX).await?;
        let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|error| self.malformed(error))?;
        let bearer = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let bearer = bearer.ok_or_else(|| self.malformed("it gave no token"))?;
        Ok(Token { bearer, refresh: answer.refresh_token.filter(|token| !token.is_empty()) })
    }

    fn malformed(&self, why: impl ToString) -> RegistryError {
        let why = format!("token service {:?}: {}", self.realm, why.to_string());
        RegistryError::Malformed { what: self.what.to_owned(), why }
    }
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
            error: None,
        };
        assert_eq!(found, Some(wanted));
        assert_eq!(challenge(&headers(&["basic realm=x"])), Some(Challenge::Basic));
        assert_eq!(challenge(&headers(&["Digest x", "Bearer service=\"no realm\""])), None);
        assert_eq!(challenge(&headers(&["Bearer realm=\"unterminated"])), None);
        assert_eq!(challenge(&headers(&["B\u{e4}arer"])), None);
    }

    #[test]
    fn an_endless_challenge_is_no_challenge() {
        let long = format!("Bearer realm=\"https://t/{}\"", "x".repeat(CHALLENGE_BYTES_MAX));
        assert_eq!(challenge(&headers(&[&long])), None);
        let many: Vec<&str> = std::iter::repeat_n("Digest x", 100).chain(["Basic realm=\"x\""]).collect();
        assert_eq!(challenge(&headers(&many)), None);
    }

    #[test]
    fn rem_7_scopes_are_sorted_and_each_is_once() {
        let ours = ["repository:b:pull".to_owned(), "repository:a:pull,push".to_owned()];
        assert_eq!(
            scopes(&ours, Some("repository:b:pull  repository:a:pull")),
            ["repository:a:pull", "repository:a:pull,push", "repository:b:pull"]
        );
        assert_eq!(scopes(&ours[..1], None), ["repository:b:pull"]);
    }
}
