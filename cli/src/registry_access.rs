//! As whom registries are asked: `--user`, else docker's `config.json` with its credential stores and helpers. The secret goes to the daemon with the
//! request; it is never an argument of a helper, never in an error, never in a file of ours.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use bosun_types::reference::Reference;
use bosun_types::transfer::Credential;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Largest `config.json` in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Largest answer of a helper in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// A helper may ask its user something; longer than this it hangs.
const HELPER_DEADLINE: Duration = Duration::from_secs(60);
/// The public hub's key in `config.json`, for history's sake.
const HUB: (&str, &str) = ("docker.io", "https://index.docker.io/v1/");
/// The user name of a helper's answer that is an identity token.
const TOKEN_USER: &str = "<token>";
/// What helpers say when they know nothing.
const UNKNOWN: &str = "credentials not found";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// For a reference: `user` is `NAME[:SECRET]` of `--user`.
pub async fn credential(reference: &Reference, user: Option<&str>) -> anyhow::Result<Option<Credential>> {
    match user {
        Some(user) => Ok(Some(given(user)?)),
        None => of_config(&reference.host, config_path().as_deref()).await,
    }
}

/// `NAME:SECRET`, or `NAME` and a line of standard input.
fn given(user: &str) -> anyhow::Result<Credential> {
    let (user, secret) = match user.split_once(':') {
        Some((user, secret)) => (user, secret.to_owned()),
        None => (user, read_secret()?),
    };
    if user.is_empty() || secret.is_empty() {
        bail!("--user: use NAME:SECRET, or NAME and give the secret on standard input");
    }
    Ok(Credential { user: user.to_owned(), secret })
}

/// A line of standard input; on a terminal without showing it.
fn read_secret() -> anyhow::Result<String> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let shown = if stdin.is_terminal() { Some(tcgetattr(&stdin)?) } else { None };
    if let Some(shown) = &shown {
        crate::output::note("password:");
        let mut hidden = shown.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&stdin, SetArg::TCSANOW, &hidden)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = &shown {
        tcsetattr(&stdin, SetArg::TCSANOW, shown)?;
    }
    read.context("cannot read the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
fn config_path() -> Option<PathBuf> {
    let directory = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let directory = directory.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".docker")))?;
    Some(directory.join("config.json"))
}

async fn of_config(host: &str, path: Option<&Path>) -> anyhow::Result<Option<Credential>> {
    let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
    let name = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {name}"))?.len();
    if size > CONFIG_BYTES_MAX {
        bail!("{name} has {size} bytes, at most {CONFIG_BYTES_MAX} are read");
    }
    let text = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    // The parser's own words could quote a secret.
    let config: Config = serde_json::from_slice(&text)
        .map_err(|error| anyhow::anyhow!("{name} is malformed in line {}", error.line()))?;
    let keys = keys(host);
    let helper = keys.iter().find_map(|key| config.cred_helpers.get(key));
    let helper = helper.or(Some(&config.creds_store)).filter(|helper| !helper.is_empty());
    if let Some(helper) = helper
        && let Some(found) = ask(helper, keys.first().map_or(host, String::as_str)).await?
    {
        return Ok(Some(found));
    }
    let auth = keys.iter().find_map(|key| config.auths.get(key));
    auth.map(|auth| of_auth(auth, &name.to_string())).transpose().map(Option::flatten)
}

/// The spellings of a host in `config.json`, the usual one first.
fn keys(host: &str) -> Vec<String> {
    let mut keys = vec![host.to_owned()];
    if host == HUB.0 {
        keys.insert(0, HUB.1.to_owned());
    }
    for scheme in ["https://", "http://"] {
        keys.extend(["", "/", "/v1/", "/v2/"].map(|end| format!("{scheme}{host}{end}")));
    }
    keys
}

fn of_auth(auth: &Auth, name: &str) -> anyhow::Result<Option<Credential>> {
    if !auth.identitytoken.is_empty() {
        return Ok(Some(Credential { user: String::new(), secret: auth.identitytoken.clone() }));
    }
    if !auth.username.is_empty() {
        return Ok(Some(Credential { user: auth.username.clone(), secret: auth.password.clone() }));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(auth.auth.trim());
    let pair = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
    let (user, secret) = pair.with_context(|| format!("{name}: an auth is not base64 of user:password"))?;
    Ok(Some(Credential { user: user.to_owned(), secret: secret.trim_end_matches('\0').to_owned() }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks `docker-credential-<helper>`: the server goes in, a user and a secret come out, within limits.
async fn ask(helper: &str, server: &str) -> anyhow::Result<Option<Credential>> {
    if !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        bail!("credential helper {helper:?}: not the name of one");
    }
    let program = format!("docker-credential-{helper}");
    let mut command = tokio::process::Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let talk = async {
        if let Some(mut stdin) = stdin {
            // One that does not read its input may answer nonetheless.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut answer).await?;
        }
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            bail!("it says more than {ANSWER_BYTES_MAX} bytes");
        }
        Ok((child.wait().await?, answer))
    };
    let talked = tokio::time::timeout(HELPER_DEADLINE, talk).await;
    let (status, answer) = talked
        .unwrap_or_else(|_| bail!("it does not answer within {HELPER_DEADLINE:?}"))
        .with_context(|| format!("credential helper {program}"))?;
    if !status.success() {
        if String::from_utf8_lossy(&answer).contains(UNKNOWN) {
            return Ok(None);
        }
        bail!("credential helper {program} ended with {status}");
    }
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| anyhow::anyhow!("credential helper {program}: its answer is malformed"))?;
    let user = if answer.username == TOKEN_USER { String::new() } else { answer.username };
    Ok((!answer.secret.is_empty()).then_some(Credential { user, secret: answer.secret }))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(host: &str, text: &str) -> anyhow::Result<Option<Credential>> {
        let directory =
            std::env::temp_dir().join(format!("bosun-config-{}-{}", std::process::id(), text.len()));
        std::fs::create_dir_all(&directory)?;
        let path = directory.join("config.json");
        std::fs::write(&path, text)?;
        let found = of_config(host, Some(&path)).await;
        std::fs::remove_dir_all(&directory)?;
        found
    }

    fn credential(user: &str, secret: &str) -> Option<Credential> {
        Some(Credential { user: user.to_owned(), secret: secret.to_owned() })
    }

    #[tokio::test]
    async fn the_forms_of_dockers_config() {
        let text = r#"{"auths":{"r.io:5000":{"auth":"dTpzOjE="},"https://s.io/v1/":{"username":"a","password":"b"},
            "https://index.docker.io/v1/":{"identitytoken":"t"},"n.io":{}},"HttpHeaders":{"x":"y"}}"#;
        assert_eq!(found("r.io:5000", text).await.expect("reads"), credential("u", "s:1"));
        assert_eq!(found("s.io", text).await.expect("reads"), credential("a", "b"));
        assert_eq!(found("docker.io", text).await.expect("reads"), credential("", "t"));
        assert_eq!(found("n.io", text).await.expect("reads"), None);
        assert_eq!(found("other.io", text).await.expect("reads"), None);
        assert_eq!(of_config("r.io", Some(Path::new("/no/such"))).await.expect("reads"), None);
    }

    #[tokio::test]
    async fn no_error_says_a_secret() {
        for text in [r#"{"auths":{"r.io":{"auth":"hush!"}}}"#, r#"{"auths":{"r.io":"hush!"}}"#, "hush!"] {
            let error = found("r.io", text).await.expect_err(text);
            assert!(!format!("{error:#}").contains("hush"), "{error:#}");
        }
        let error = found("r.io", r#"{"credsStore":"../../bin/sh"}"#).await.expect_err("no name");
        assert!(error.to_string().contains("not the name"), "{error}");
    }

    #[test]
    fn a_user_with_its_secret() {
        assert_eq!(given("u:s:1").ok(), credential("u", "s:1"));
        assert!(given(":s").is_err());
        assert!(given("u:").is_err());
    }
}
