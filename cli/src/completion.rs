//! Completions of live names: what the daemon has now, asked while a word is completed. The shell's script calls `bosun` with `COMPLETE` set.
//!
//! Arguments are told by what they are called: each that takes a container, an image, a namespace, ... completes those, wherever it stands.

use std::ffi::OsStr;
use std::time::Duration;

use bosun_client::{Client, ConnectOptions, DEFAULT_ADDRESS, Namespace};
use clap::Command;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

/// How long the daemon may take: somebody waits with a finger on a key.
const DEADLINE: Duration = Duration::from_millis(700);
/// Between a container and a path in it.
const PATH_SEPARATOR: char = ':';

/// What a word can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noun {
    Container,
    Image,
    Namespace,
    Snapshot,
    Lease,
    Blob,
    /// A container and a colon; files are the shell's business.
    Place,
    Group,
}

/// The whole command line, with completers.
pub fn command(mut command: Command) -> Command {
    // Arguments of the words are there once it is built.
    command.build();
    with_completers(command, "")
}

fn with_completers(command: Command, parent: &str) -> Command {
    let name = command.get_name().to_owned();
    // In place: the order of arguments is their meaning.
    let command = command.mut_args(|arg| match noun_of(parent, &name, arg.get_id().as_str()) {
        None => arg,
        Some(noun) => arg.add(ArgValueCompleter::new(move |typed: &OsStr| candidates(noun, typed))),
    });
    command.mut_subcommands(|child| with_completers(child, &name))
}

/// What an argument takes, by its name and its command's.
fn noun_of(parent: &str, command: &str, argument: &str) -> Option<Noun> {
    match (parent, command, argument) {
        (_, "create", "namespace" | "group" | "lease" | "name") if parent != "socket" => None,
        ("namespaces", "rm", "name") | (_, _, "namespace") => Some(Noun::Namespace),
        (_, "commit" | "checkpoint", "image") => None,
        ("images", _, "names") | (_, "run" | "restore", "image") => Some(Noun::Image),
        (_, "push", "reference") | (_, "push", "image") | (_, "save" | "export", "images") => {
            Some(Noun::Image)
        }
        (_, "cp", "source" | "destination") => Some(Noun::Place),
        ("snapshots", _, "key" | "keys" | "parent" | "from") => Some(Noun::Snapshot),
        (_, "why", "object") => Some(Noun::Snapshot),
        ("content", _, "digest" | "digests") => Some(Noun::Blob),
        ("group", _, "names") => Some(Noun::Group),
        (_, _, "container" | "containers") => Some(Noun::Container),
        (_, _, "lease" | "leases") => Some(Noun::Lease),
        _ => None,
    }
}

fn candidates(noun: Noun, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy().into_owned();
    // A place that has its colon, or is a path here, is not ours to complete.
    if noun == Noun::Place && typed.contains([PATH_SEPARATOR, '/']) {
        return Vec::new();
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    // Without a daemon there is nothing to offer; a message would only disturb the line.
    let asked = runtime.block_on(async { tokio::time::timeout(DEADLINE, names(noun)).await });
    runtime.shutdown_background();
    let names = asked.ok().and_then(Result::ok).unwrap_or_default();
    names.into_iter().filter(|name| name.starts_with(&typed)).map(CompletionCandidate::new).collect()
}

async fn names(noun: Noun) -> anyhow::Result<Vec<String>> {
    let words: Vec<String> = std::env::args().skip_while(|word| word != "--").skip(1).collect();
    let address = flag(&words, &["--address"]).or_else(|| std::env::var("BOSUN_ADDRESS").ok());
    let address = address.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
    let options = ConnectOptions { connect_deadline: DEADLINE, ..ConnectOptions::address(&address) };
    let client = Client::connect(options).await?;
    let named = flag(&words, &["--namespace", "-n"]).or_else(|| std::env::var("BOSUN_NAMESPACE").ok());
    let namespace = match named {
        Some(name) => client.namespace(name.parse()?),
        None => match client.reach().await.ok().and_then(|reach| reach.namespace) {
            Some(own) => client.namespace(own),
            None => client.namespace(bosun_types::NamespaceName::default_name()),
        },
    };
    listed(noun, &client, &namespace, &words).await
}

async fn listed(
    noun: Noun,
    client: &Client,
    namespace: &Namespace,
    words: &[String],
) -> anyhow::Result<Vec<String>> {
    let containers = |mark: &'static str| async move {
        let records = namespace.containers().list().await?;
        anyhow::Ok(records.iter().map(|record| format!("{}{mark}", record.id)).collect())
    };
    Ok(match noun {
        Noun::Container => containers("").await?,
        Noun::Place => containers(":").await?,
        Noun::Image => namespace.images().list().await?.iter().map(|it| it.name.to_string()).collect(),
        Noun::Namespace => client.namespaces().await?.iter().map(|it| it.name.to_string()).collect(),
        Noun::Snapshot => {
            let snapshotter =
                flag(words, &["--snapshotter"]).or_else(|| std::env::var("BOSUN_SNAPSHOTTER").ok());
            let snapshotter = snapshotter.as_deref().unwrap_or(bosun_types::snapshot::SNAPSHOTTER_DEFAULT);
            namespace.snapshots(snapshotter).list().await?.iter().map(|it| it.key.to_string()).collect()
        }
        Noun::Lease => namespace.leases().list().await?.iter().map(|it| it.id.to_string()).collect(),
        Noun::Blob => namespace.content().list().await?.iter().map(|it| it.digest.to_string()).collect(),
        Noun::Group => groups(namespace).await?,
    })
}

async fn groups(namespace: &Namespace) -> anyhow::Result<Vec<String>> {
    Ok(namespace.groups().list().await?.iter().map(|group| group.spec.name.to_string()).collect())
}

/// `--flag value` or `--flag=value`.
fn flag(words: &[String], names: &[&str]) -> Option<String> {
    words.iter().enumerate().find_map(|(at, word)| match word.split_once('=') {
        Some((name, value)) if names.contains(&name) => Some(value.to_owned()),
        _ if names.contains(&word.as_str()) => words.get(at + 1).cloned(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_argument_that_takes_a_name_completes_it() {
        for (parent, name, argument, noun) in [
            ("bosun", "stop", "containers", Some(Noun::Container)),
            ("bosun", "exec", "container", Some(Noun::Container)),
            ("bosun", "run", "image", Some(Noun::Image)),
            ("images", "rm", "names", Some(Noun::Image)),
            ("bosun", "bosun", "namespace", Some(Noun::Namespace)),
            ("snapshots", "diff", "key", Some(Noun::Snapshot)),
            ("content", "get", "digest", Some(Noun::Blob)),
            ("bosun", "cp", "source", Some(Noun::Place)),
            ("bosun", "commit", "image", None),
            ("namespaces", "create", "name", None),
            ("bosun", "run", "env", None),
        ] {
            assert_eq!(noun_of(parent, name, argument), noun, "{parent} {name} {argument}");
        }
        command(crate::arguments::Arguments::command()).debug_assert();
    }

    #[test]
    fn flags_of_the_line_that_is_completed() {
        let words: Vec<String> = ["bosun", "--address=/a", "-n", "web", "ps"].map(str::to_owned).to_vec();
        assert_eq!(flag(&words, &["--address"]).as_deref(), Some("/a"));
        assert_eq!(flag(&words, &["--namespace", "-n"]).as_deref(), Some("web"));
        assert_eq!(flag(&words, &["--lease"]), None);
    }
}
