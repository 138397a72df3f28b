//! What every command needs: the client, the namespace, whether to print JSON; and parsers of common words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bosun_client::{Client, ConnectOptions, Container, DEFAULT_ADDRESS, Namespace, Version};
use bosun_types::{ContainerId, Labels, LeaseId, NamespaceName, Timestamp};
use serde::Serialize;

use crate::arguments::{ArchiveFormat, Arguments, Command};
use crate::format::Printing;
use crate::output;

/// How long a client waits for a daemon that is just starting.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// And for one that is being restarted under it: what is followed or awaited goes on.
const RECONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// The connection and the global flags.
pub struct Context {
    /// The daemon.
    pub client: Client,
    /// `--namespace`.
    pub namespace_name: NamespaceName,
    /// `--lease`.
    lease: Option<LeaseId>,
    /// Values are printed, not tables: `--json`, or `--format` with json or a template.
    pub json: bool,
    /// `--format` of an archive.
    pub archive: ArchiveFormat,
    /// Where the streams of foreground processes go through: beside the socket, in the daemon's state directory.
    pub fifo_directory: PathBuf,
}

impl Context {
    /// Connects; the error says what to look at.
    pub async fn connect(arguments: &Arguments, printing: Printing) -> anyhow::Result<Self> {
        let Printing { json, archive } = printing;
        let asked: Option<NamespaceName> = arguments.namespace.as_deref().map(str::parse).transpose()?;
        let address = arguments.address.to_string_lossy();
        let options = ConnectOptions {
            connect_deadline: arguments.connect_timeout.unwrap_or(CONNECT_DEADLINE),
            reconnect_deadline: RECONNECT_DEADLINE,
            ..ConnectOptions::address(&address)
        };
        let fifo_directory = fifo_directory(&options.address);
        let is_default = options.address.as_os_str() == DEFAULT_ADDRESS;
        let client = Client::connect_here(options).await?;
        let lease = arguments.lease.as_deref().map(LeaseId::new).transpose()?;
        let namespace_name = match asked {
            Some(asked) => asked,
            None if is_default => NamespaceName::default_name(),
            // It may be a namespace's own socket. A daemon that does not know the question has none.
            None => client
                .reach()
                .await
                .ok()
                .and_then(|reach| reach.namespace)
                .unwrap_or_else(NamespaceName::default_name),
        };
        let version = client.version().await?;
        // Once a command, whatever it asks for.
        skew(&version).iter().for_each(output::note);
        if matches!(arguments.command, Command::Ps(_) | Command::Version) {
            shim_skew(&version).iter().for_each(output::note);
        }
        Ok(Self { client, namespace_name, lease, json, archive, fifo_directory })
    }

    /// The namespace of `--namespace`, under the lease of `--lease`.
    pub fn namespace(&self) -> Namespace {
        let namespace = self.client.namespace(self.namespace_name.clone());
        match &self.lease {
            Some(lease) => namespace.with_lease(lease.clone()),
            None => namespace,
        }
    }

    /// Prints a list: its items' values, or a table with a row for each.
    pub fn list<T: Serialize>(
        &self,
        items: &[T],
        header: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> anyhow::Result<()> {
        if self.json {
            return output::json(&items);
        }
        output::table(header, &items.iter().map(row).collect::<Vec<_>>());
        Ok(())
    }

    /// Prints labels, a line for each.
    pub fn labels(&self, labels: &Labels) -> anyhow::Result<()> {
        if self.json {
            return output::json(labels);
        }
        labels.iter().for_each(|(key, value)| output::line(format!("{key}={value}")));
        Ok(())
    }

    /// A container of it, by name.
    pub fn container(&self, name: &str) -> anyhow::Result<Container> {
        Ok(self.namespace().container(ContainerId::new(name)?))
    }
}

/// Beside the daemon's socket for root. Others may not write there: their own runtime directory, or the one for temporary files, in which
/// each set of FIFOs gets a fresh directory of its own.
fn fifo_directory(address: &Path) -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return address.with_file_name("fifo");
    }
    std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// What to say when client and daemon are not of one release.
fn skew(daemon: &Version) -> Option<String> {
    let (ours, protocol) = (env!("CARGO_PKG_VERSION"), Version::client_protocol());
    let theirs = &daemon.version;
    if daemon.protocol < protocol {
        return Some(format!(
            "warning: bosund {theirs} is older than this bosun {ours}: some commands may not be known to it"
        ));
    }
    if daemon.protocol > protocol {
        return Some(format!(
            "warning: bosund {theirs} is newer than this bosun {ours}: some of its answers may not be shown"
        ));
    }
    (theirs != ours).then(|| format!("warning: this is bosun {ours}, and bosund is {theirs}"))
}

/// What to say when shims and daemon are not of one release: containers go on under the shim that they were started with.
fn shim_skew(daemon: &Version) -> Option<String> {
    let tasks = |count: u32| {
        if count == 1 { "1 container runs".to_owned() } else { format!("{count} containers run") }
    };
    let theirs = &daemon.version;
    match (daemon.shims_older, daemon.shims_newer) {
        (0, 0) => None,
        (older, 0) => Some(format!(
            "warning: {} under a bosun-shim older than bosund {theirs}: what is new is refused for such a container until it is restarted",
            tasks(older)
        )),
        (_, newer) => Some(format!(
            "warning: {} under a bosun-shim newer than bosund {theirs}: install all of one release",
            tasks(newer)
        )),
    }
}

/// `KEY=VALUE` words to labels.
pub fn labels(words: &[String]) -> anyhow::Result<Labels> {
    pairs("label", words)
}

/// The same for whatever is called so.
pub fn pairs(what: &str, words: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => bail!("{what} {word:?}: use KEY=VALUE"),
        })
        .collect()
}

/// `KEY=VALUE` words as they are; `KEY` alone takes our own value, and nothing when we have none.
pub fn environment<'a>(words: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    words.filter_map(|word| {
        if word.contains('=') {
            return Some(word.to_owned());
        }
        std::env::var(word).ok().map(|value| format!("{word}={value}"))
    })
}

/// RFC 3339, or an age such as `90s`, `10m`, `2h`, `1d`.
pub fn time(text: &str) -> anyhow::Result<Timestamp> {
    let units = [("s", 1_i64), ("m", 60), ("h", 3_600), ("d", 86_400)];
    for (unit, seconds) in units {
        if let Some(count) = text.strip_suffix(unit).and_then(|count| count.parse::<i64>().ok()) {
            let nanos = count.saturating_mul(seconds).saturating_mul(1_000_000_000);
            return Ok(Timestamp(Timestamp::now().0.saturating_sub(nanos)));
        }
    }
    Ok(Timestamp::parse(text)?)
}

/// `250ms`, `90s`, `10m`, `2h`.
pub fn duration(text: &str) -> anyhow::Result<Duration> {
    let parse = |count: &str| count.parse::<u64>().ok();
    // Milliseconds first: their unit ends like seconds.
    if let Some(count) = text.strip_suffix("ms").and_then(parse) {
        return Ok(Duration::from_millis(count));
    }
    for (unit, seconds) in [("s", 1), ("m", 60), ("h", 3600)] {
        if let Some(count) = text.strip_suffix(unit).and_then(parse) {
            return Ok(Duration::from_secs(count.saturating_mul(seconds)));
        }
    }
    bail!("time {text:?}: use a number and a unit, such as 250ms, 90s, 10m or 2h")
}

/// `64m`, `1g`, `512k`, or plain bytes.
pub fn bytes(text: &str) -> anyhow::Result<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match lower.trim_end_matches('b').char_indices().last() {
        Some((at, 'k')) => (&lower[..at], 1_u64 << 10),
        Some((at, 'm')) => (&lower[..at], 1 << 20),
        Some((at, 'g')) => (&lower[..at], 1 << 30),
        _ => (lower.trim_end_matches('b'), 1),
    };
    let count: u64 =
        digits.parse().with_context(|| format!("size {text:?}: use bytes, or a number with k, m or g"))?;
    count.checked_mul(factor).with_context(|| format!("size {text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_and_without_units() {
        for (text, want) in [("512", 512), ("1k", 1024), ("64m", 64 << 20), ("1G", 1 << 30), ("2gb", 2 << 30)]
        {
            assert_eq!(bytes(text).expect(text), want);
        }
        for bad in ["", "m", "1.5g", "-1", "99999999999g"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_skew_of_versions_is_said_and_none_is_not() {
        let daemon = |protocol, version: &str| Version {
            protocol,
            version: version.to_owned(),
            revision: String::new(),
            shims_older: 0,
            shims_newer: 0,
        };
        let ours = Version::client_protocol();
        assert_eq!(skew(&daemon(ours, env!("CARGO_PKG_VERSION"))), None);
        assert!(skew(&daemon(ours + 1, "9.0.0")).expect("said").contains("newer"));
        assert!(skew(&daemon(ours.saturating_sub(1), "0.0.1")).expect("said").contains("0.0.1"));
        assert_eq!(shim_skew(&daemon(ours, "1.0.0")), None);
        let older = Version { shims_older: 2, ..daemon(ours, "1.0.0") };
        assert!(shim_skew(&older).expect("said").contains("2 containers run under a bosun-shim older"));
        let newer = Version { shims_newer: 1, ..older };
        assert!(shim_skew(&newer).expect("said").contains("1 container runs under a bosun-shim newer"));
    }

    #[test]
    fn ages_and_times() {
        let now = Timestamp::now().0;
        let ten = time("10m").expect("an age").0;
        assert!((now - ten - 600_000_000_000).abs() < 5_000_000_000);
        assert_eq!(time("1970-01-01T00:00:01Z").expect("a time"), Timestamp(1_000_000_000));
        assert!(time("yesterday").is_err());
    }
}
