//! What the daemon is made of: what containerd calls plugins (SYS-8 to SYS-10). Found out when asked: a runtime that was installed meanwhile is there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use bosun_types::container::RUNTIME_EMBEDDED;
use bosun_types::platform::Platform;
use bosun_types::tree::PartRecord;
use bosun_types::{Error, Result};

use crate::core::{Core, Shared, blocking};

/// OCI runtimes that are known by name; any other is named by its path.
const RUNTIMES: [&str; 2] = ["runc", "crun"];
/// The snapshotter that not every host can have.
const BTRFS: &str = "btrfs";
/// Parts that are always there: kind, id, the kinds that each uses, what it can do.
const ALWAYS: [(&str, &str, &[&str], &[&str]); 12] = [
    ("content", "files", &["metadata"], &[]),
    ("differ", "walking", &["content", "snapshotter"], &["apply", "diff"]),
    ("gc", "collector", &["content", "metadata", "snapshotter"], &[]),
    ("metadata", "fjall", &[], &[]),
    ("runtime", RUNTIME_EMBEDDED, &[], &[]),
    ("service", "containers", &["metadata", "runtime", "snapshotter"], &[]),
    ("service", "events", &["metadata"], &[]),
    ("service", "images", &["content", "metadata"], &[]),
    ("service", "leases", &["metadata"], &[]),
    ("service", "namespaces", &["metadata"], &[]),
    ("service", "snapshots", &["metadata", "snapshotter"], &[]),
    ("service", "transfers", &["content", "metadata", "snapshotter"], &[]),
];

/// All of them, ordered by kind and id.
pub(crate) async fn all(core: &Shared) -> Result<Vec<PartRecord>> {
    let core = core.clone();
    blocking(move || {
        let path: OsString = std::env::var_os("PATH").unwrap_or_default();
        Ok(find(&core, &path))
    })
    .await
}

fn find(core: &Core, path: &OsStr) -> Vec<PartRecord> {
    let mut parts: Vec<PartRecord> = ALWAYS
        .iter()
        .map(|(kind, id, requires, capabilities)| PartRecord {
            requires: words(requires),
            capabilities: words(capabilities),
            ..part(kind, id)
        })
        .collect();
    parts.extend(RUNTIMES.map(|name| program(part("runtime", name), name, path)));
    let criu = program(part("service", "checkpoints"), &core.criu, path);
    parts.push(PartRecord { requires: words(&["content", "runtime"]), ..criu });
    for snapshotter in core.snapshotters.values() {
        let root = snapshotter.root().to_string_lossy().into_owned();
        let exports = BTreeMap::from([("root".to_owned(), root)]);
        let capabilities: &[&str] =
            if snapshotter.supports_independent_layers() { &["independent-layers"] } else { &[] };
        let capabilities = words(capabilities);
        parts.push(PartRecord { exports, capabilities, ..part("snapshotter", snapshotter.name()) });
    }
    if !core.snapshotters.contains_key(BTRFS) {
        let place = core.root.join("snapshots").join(BTRFS);
        let error = Error::unavailable(format!("{} is not on a btrfs file system", place.display()))
            .with_hint("mount one there and start bosund again");
        parts.push(PartRecord { failure: Some(error), ..part("snapshotter", BTRFS) });
    }
    parts.sort_by(|a, b| (&a.kind, &a.id).cmp(&(&b.kind, &b.id)));
    parts
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn part(kind: &str, id: &str) -> PartRecord {
    PartRecord {
        kind: kind.to_owned(),
        id: id.to_owned(),
        requires: Vec::new(),
        platforms: vec![Platform::host()],
        exports: BTreeMap::new(),
        capabilities: Vec::new(),
        failure: None,
    }
}

/// A part that is a program of the host.
fn program(mut part: PartRecord, name: &str, path: &OsStr) -> PartRecord {
    match which(name, path) {
        Some(found) => {
            part.exports.insert("path".to_owned(), found.to_string_lossy().into_owned());
        }
        None => {
            let error = Error::not_found(format!("program {name} is not on this host"));
            part.failure = Some(error.with_hint("install it, or name another by its path"));
        }
    }
    part
}

fn which(name: &str, path: &OsStr) -> Option<PathBuf> {
    let named = Path::new(name);
    if named.is_absolute() {
        return named.is_file().then(|| named.to_owned());
    }
    std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_9_a_program_that_is_not_there_is_a_part_with_its_failure() {
        let directory = tempfile::tempdir().expect("makes");
        let path = directory.path().as_os_str();
        let file = directory.path().join("runc");
        std::fs::write(&file, "").expect("writes");
        let there = program(part("runtime", "runc"), "runc", path);
        assert_eq!((there.failure, there.exports["path"].as_str()), (None, file.to_str().expect("text")));
        let absent = program(part("runtime", "crun"), "crun", path);
        assert!(absent.exports.is_empty());
        assert!(absent.failure.expect("says why").message.contains("crun"));
        assert_eq!(which("/no/such/criu", path), None);
    }
}
