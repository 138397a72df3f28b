//! Per-host settings in the form that containerd's users have: `<directory>/<host>/hosts.toml`, else docker's bare certificates beside
//! it (`*.crt`, `*.cert` with `*.key`), else `<directory>/_default`, else nothing.
//!
//! ```toml
//! server = "https://registry.example"          # the registry itself; asked last
//! [host."https://mirror.example:5000/proxy"]   # mirrors, asked in this order
//!   capabilities = ["pull", "resolve"]         # default: pull, resolve, push
//!   ca = "mirror.pem"                          # or a list; added to the system's
//!   client = [["client.cert", "client.key"]]   # or one file with both
//!   skip_verify = false
//!   override_path = false                      # true: `/v2` is not appended
//!   [host."https://mirror.example:5000/proxy".header]
//!     x-token = ["secret"]
//! ```
//!
//! Read anew for each transfer: a change needs no restart. What no one can read or understand is an error that names the file: a registry must not
//! be asked with other settings than those that were meant.

use std::fs;
use std::path::{Path, PathBuf};

use bosun_types::reference::Reference;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use toml::{Table, Value};
use url::Url;

use crate::error::{RegistryError, Result};

/// Largest file of settings or certificates, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Hosts of one registry, itself included.
const HOSTS_MAX: usize = 16;
/// The public hub's name in references, and where its API is (REM-4).
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capability {
    /// Tags to digests.
    Resolve,
    /// Blobs and manifests.
    Pull,
    /// Uploads.
    Push,
}

/// Certificates of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Further roots, PEM.
    pub roots: Vec<Vec<u8>>,
    /// Client certificate and key in one PEM text.
    pub identity: Option<Vec<u8>>,
    /// Believe anyone.
    pub skip_verify: bool,
}

/// One host to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Up to and with `/v2`, without a slash at the end.
    pub base: Url,
    /// What it is asked for.
    pub capabilities: Vec<Capability>,
    /// Sent with each request to it.
    pub headers: HeaderMap,
    /// Its certificates.
    pub tls: Tls,
    /// Not the registry that the reference names, but one that has copies.
    pub is_mirror: bool,
}

/// Everyone to ask about a reference, in order: mirrors first, the registry itself last.
pub(crate) fn hosts_of(
    directory: Option<&Path>,
    reference: &Reference,
    plain_http: bool,
) -> Result<Vec<Host>> {
    let itself = own_url(reference, plain_http)?;
    let Some(found) = directory.and_then(|directory| find(directory, &reference.host)) else {
        return Ok(vec![Host::new(itself, Tls::default())]);
    };
    let file = found.join("hosts.toml");
    if !file.exists() {
        return Ok(vec![Host::new(itself, bare_certificates(&found)?)]);
    }
    let bytes = read(&file)?;
    let text = String::from_utf8(bytes).map_err(|error| settings(&file, error))?;
    let table: Table = toml::from_str(&text).map_err(|error| settings(&file, error))?;
    parse(&table, itself).map_err(|why| settings(&file, why)).and_then(|drafts| {
        drafts.into_iter().map(|draft| draft.load(&found).map_err(|why| settings(&file, why))).collect()
    })
}

fn settings(file: &Path, why: impl ToString) -> RegistryError {
    RegistryError::Settings { file: file.to_owned(), why: why.to_string() }
}

/// Scheme and API host of the registry that a reference names (REM-4): https, or http where it is asked for or the host is loopback.
fn own_url(reference: &Reference, plain_http: bool) -> Result<Url> {
    let host = if reference.host == HUB.0 { HUB.1 } else { &reference.host };
    let scheme = if plain_http || crate::places::is_loopback_host(host) { "http" } else { "https" };
    Url::parse(&format!("{scheme}://{host}/v2")).map_err(|error| RegistryError::Malformed {
        what: reference.to_string(),
        why: format!("host {host:?}: {error}"),
    })
}

/// The directory of a host's settings, in the spellings of the field: `host:port`, `host_port_`, `_default`.
fn find(directory: &Path, host: &str) -> Option<PathBuf> {
    if host.bytes().all(|byte| byte == b'.') {
        return None;
    }
    let mut names = vec![host.to_owned()];
    if let Some((name, port)) = host.rsplit_once(':') {
        names.push(format!("{name}_{port}_"));
    }
    names.push("_default".to_owned());
    names.into_iter().map(|name| directory.join(name)).find(|path| path.is_dir())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let size = fs::metadata(path).map_err(|error| settings(path, error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(settings(path, format!("{size} bytes, at most {FILE_BYTES_MAX} are read")));
    }
    fs::read(path).map_err(|error| settings(path, error))
}

/// A host as the file says, before its files are read.
struct Draft {
    host: Host,
    roots: Vec<String>,
    /// Certificate and key; one name: both are in it.
    identity: Option<(String, Option<String>)>,
}

type Said<T> = std::result::Result<T, String>;

fn parse(table: &Table, itself: Url) -> Said<Vec<Draft>> {
    let mut drafts = Vec::new();
    if let Some(hosts) = table.get("host") {
        for (name, entry) in hosts.as_table().ok_or("host is no table")? {
            let entry = entry.as_table().ok_or_else(|| format!("host {name:?} is no table"))?;
            drafts.push(draft(url_of(name)?, true, entry)?);
        }
    }
    let server = match table.get("server") {
        None => itself.clone(),
        Some(server) => url_of(server.as_str().ok_or("server is no text")?)?,
    };
    // The settings outside of any host are the server's own.
    let server = draft(server, false, table)?;
    for draft in &mut drafts {
        // Many write the registry itself as a host, to give it certificates: it is no mirror, whoever else is asked.
        let is_itself = |other: &Url| same_place(&draft.host.base, other);
        draft.host.is_mirror = !(is_itself(&server.host.base) || is_itself(&itself));
    }
    if !drafts.iter().any(|draft| draft.host.base == server.host.base) {
        drafts.push(server);
    }
    if drafts.len() > HOSTS_MAX {
        return Err(format!("{} hosts, at most {HOSTS_MAX} are asked", drafts.len()));
    }
    Ok(drafts)
}

/// Host and port: whose secrets may be used.
fn same_place(one: &Url, other: &Url) -> bool {
    one.host() == other.host() && one.port_or_known_default() == other.port_or_known_default()
}

/// `https://host[:port][/path]`; without a scheme https, as containerd takes it.
fn url_of(text: &str) -> Said<Url> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&with_scheme).map_err(|error| format!("{text:?}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(format!("{text:?} is no http or https address"));
    }
    Ok(url)
}

fn draft(mut base: Url, is_mirror: bool, entry: &Table) -> Said<Draft> {
    let flag = |key: &str| match entry.get(key) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| format!("{key} is neither true nor false")),
    };
    let path = base.path().trim_end_matches('/').to_owned();
    let overridden = flag("override_path")?;
    if overridden || path.ends_with("/v2") {
        base.set_path(&path);
    } else {
        base.set_path(&format!("{path}/v2"));
    }
    base.set_query(None);
    let capabilities = match entry.get("capabilities") {
        None => vec![Capability::Pull, Capability::Resolve, Capability::Push],
        Some(value) => {
            texts("capabilities", value)?.iter().map(|word| capability(word)).collect::<Said<_>>()?
        }
    };
    let tls = Tls { skip_verify: flag("skip_verify")?, ..Tls::default() };
    Ok(Draft {
        host: Host { base, capabilities, headers: headers(entry.get("header"))?, tls, is_mirror },
        roots: entry.get("ca").map(|value| texts("ca", value)).transpose()?.unwrap_or_default(),
        identity: entry.get("client").map(identity).transpose()?.flatten(),
    })
}

fn capability(word: &str) -> Said<Capability> {
    match word {
        "pull" => Ok(Capability::Pull),
        "resolve" => Ok(Capability::Resolve),
        "push" => Ok(Capability::Push),
        _ => Err(format!("capability {word:?} is unknown: there is pull, resolve, push")),
    }
}

/// One text or a list of them.
fn texts(key: &str, value: &Value) -> Said<Vec<String>> {
    let wrong = || format!("{key} is neither a text nor a list of texts");
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(list) => {
            list.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

/// A file with certificate and key, or a pair of files; of several the first is used.
fn identity(value: &Value) -> Said<Option<(String, Option<String>)>> {
    let wrong = || "client is neither a file nor a list of files or [certificate, key] pairs".to_owned();
    match value {
        Value::String(both) => Ok(Some((both.clone(), None))),
        Value::Array(list) => match list.first() {
            None => Ok(None),
            Some(Value::String(both)) => Ok(Some((both.clone(), None))),
            Some(pair) => match texts("client", pair).map_err(|_| wrong())?.as_slice() {
                [both] => Ok(Some((both.clone(), None))),
                [certificate, key] if key.is_empty() => Ok(Some((certificate.clone(), None))),
                [certificate, key] => Ok(Some((certificate.clone(), Some(key.clone())))),
                _ => Err(wrong()),
            },
        },
        _ => Err(wrong()),
    }
}

fn headers(value: Option<&Value>) -> Said<HeaderMap> {
    let mut headers = HeaderMap::new();
    let Some(value) = value else { return Ok(headers) };
    for (key, value) in value.as_table().ok_or("header is no table")? {
        let name = HeaderName::try_from(key).map_err(|error| format!("header {key:?}: {error}"))?;
        for text in texts(key, value)? {
            let mut value =
                HeaderValue::try_from(text).map_err(|error| format!("header {key:?}: {error}"))?;
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
    }
    Ok(headers)
}

impl Draft {
    /// Reads the files it names, relative to its own directory.
    fn load(mut self, directory: &Path) -> Said<Host> {
        let read = |name: &str| read(&directory.join(name)).map_err(|error| error.to_string());
        self.host.tls.roots = self.roots.iter().map(|name| read(name)).collect::<Said<_>>()?;
        if let Some((certificate, key)) = &self.identity {
            self.host.tls.identity = Some(match key {
                None => read(certificate)?,
                Some(key) => joined(&read(certificate)?, &read(key)?),
            });
        }
        Ok(self.host)
    }
}

impl Host {
    pub(crate) fn new(base: Url, tls: Tls) -> Self {
        let capabilities = vec![Capability::Pull, Capability::Resolve, Capability::Push];
        Self { base, capabilities, headers: HeaderMap::new(), tls, is_mirror: false }
    }
}

fn joined(certificate: &[u8], key: &[u8]) -> Vec<u8> {
    [certificate, b"\n", key].concat()
}

/// docker's form: every `*.crt` is a root, a `*.cert` with its `*.key` is ours.
fn bare_certificates(directory: &Path) -> Result<Tls> {
    let mut tls = Tls::default();
    let entries = fs::read_dir(directory).map_err(|error| settings(directory, error))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => tls.roots.push(read(&path)?),
            Some("cert") if tls.identity.is_none() => {
                tls.identity = Some(joined(&read(&path)?, &read(&path.with_extension("key"))?));
            }
            _ => {}
        }
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(host: &str) -> Reference {
        format!("{host}/team/app:1").parse().expect("good")
    }

    fn written(host: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a folder");
        let own = directory.path().join(host);
        fs::create_dir(&own).expect("makes");
        for (name, text) in files {
            fs::write(own.join(name), text).expect("writes");
        }
        directory
    }

    fn bases(hosts: &[Host]) -> Vec<&str> {
        hosts.iter().map(|host| host.base.as_str()).collect()
    }

    #[test]
    fn rem_4_schemes_without_settings() {
        for (host, plain_http, wanted) in [
            ("registry.local:5000", false, "https://registry.local:5000/v2"),
            ("registry.local:5000", true, "http://registry.local:5000/v2"),
            ("localhost:5000", false, "http://localhost:5000/v2"),
            ("127.0.0.1:5000", false, "http://127.0.0.1:5000/v2"),
            ("[::1]:5000", false, "http://[::1]:5000/v2"),
            ("docker.io", false, "https://registry-1.docker.io/v2"),
        ] {
            let hosts = hosts_of(None, &reference(host), plain_http).expect("good");
            assert_eq!(bases(&hosts), [wanted]);
        }
    }

    #[test]
    fn mirrors_come_first_in_the_order_of_the_file() {
        let text = r#"
            server = "https://upstream.local"
            ca = "own.pem"
            [host."https://zeta.local/proxy"]
              capabilities = ["pull"]
              override_path = true
              skip_verify = true
              [host."https://zeta.local/proxy".header]
                x-token = ["a", "b"]
            [host."http://alpha.local:5000"]
              client = [["c.cert", "c.key"]]
        "#;
        let directory = written(
            "registry.local:5000",
            &[("hosts.toml", text), ("own.pem", "root"), ("c.cert", "cert"), ("c.key", "key")],
        );
        let hosts = hosts_of(Some(directory.path()), &reference("registry.local:5000"), false).expect("good");
        assert_eq!(
            bases(&hosts),
            ["https://zeta.local/proxy", "http://alpha.local:5000/v2", "https://upstream.local/v2"]
        );
        assert_eq!(hosts[0].capabilities, [Capability::Pull]);
        assert!(hosts[0].tls.skip_verify && hosts[0].is_mirror && !hosts[2].is_mirror);
        assert_eq!(hosts[0].headers.get_all("x-token").iter().count(), 2);
        assert_eq!(hosts[1].tls.identity.as_deref(), Some(&b"cert\nkey"[..]));
        assert_eq!(hosts[2].tls.roots, [b"root".to_vec()]);
    }

    #[test]
    fn the_registry_itself_written_as_a_host_is_no_mirror_and_is_asked_once() {
        let text = r#"
            server = "https://registry.local:5000"
            [host."https://registry.local:5000"]
              skip_verify = true
            [host."https://mirror.local:5000"]
        "#;
        let directory = written("registry.local:5000", &[("hosts.toml", text)]);
        let hosts = hosts_of(Some(directory.path()), &reference("registry.local:5000"), false).expect("good");
        assert_eq!(bases(&hosts), ["https://registry.local:5000/v2", "https://mirror.local:5000/v2"]);
        assert!(hosts[0].tls.skip_verify && !hosts[0].is_mirror && hosts[1].is_mirror);
    }

    #[test]
    fn other_spellings_of_a_host_and_dockers_form() {
        let directory =
            written("registry.local_5000_", &[("ca.crt", "root"), ("c.cert", "c"), ("c.key", "k")]);
        let hosts = hosts_of(Some(directory.path()), &reference("registry.local:5000"), false).expect("good");
        assert_eq!(hosts[0].tls.roots, [b"root".to_vec()]);
        assert_eq!(hosts[0].tls.identity.as_deref(), Some(&b"c\nk"[..]));
        let directory = written("_default", &[("hosts.toml", "[host.\"http://mirror.local\"]")]);
        let hosts = hosts_of(Some(directory.path()), &reference("any.local"), false).expect("good");
        assert_eq!(bases(&hosts), ["http://mirror.local/v2", "https://any.local/v2"]);
        let hosts = hosts_of(Some(Path::new("/no/such")), &reference("any.local"), false).expect("good");
        assert_eq!(bases(&hosts), ["https://any.local/v2"]);
    }

    #[test]
    fn what_cannot_be_understood_is_refused_and_the_file_is_named() {
        for text in [
            "server = 1",
            "server = \"ftp://x\"",
            "server = \"file:///etc\"",
            "host = 1",
            "[host.\"https://a\"]\ncapabilities = [\"fly\"]",
            "[host.\"https://a\"]\nca = \"missing.pem\"",
            "[host.\"https://a\"]\nskip_verify = \"yes\"",
            "[host.\"https://a\"]\nclient = [[\"a\",\"b\",\"c\"]]",
            "[host.\"https://a\".header]\n\"bad name\" = \"x\"",
            "not toml",
        ] {
            let directory = written("r.local", &[("hosts.toml", text)]);
            let error = hosts_of(Some(directory.path()), &reference("r.local"), false).expect_err(text);
            assert!(error.to_string().contains("hosts.toml"), "{error}");
        }
    }

    #[test]
    fn a_host_of_dots_reaches_no_other_directory() {
        let directory = written("inner", &[]);
        fs::write(directory.path().join("hosts.toml"), "server = \"https://evil.local\"").expect("writes");
        let inner = directory.path().join("inner");
        // Parsing refuses such a host; settings do not rely on it.
        let dots = Reference { host: "..".to_owned(), ..reference("r.local") };
        let hosts = hosts_of(Some(&inner), &dots, false);
        assert!(hosts.is_err() || !bases(&hosts.expect("just seen"))[0].contains("evil"));
    }
}
