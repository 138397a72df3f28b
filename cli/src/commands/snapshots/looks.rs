//! What `bosun snapshots` shows of them: mounts as commands, a tree, what they use.

use std::collections::{BTreeMap, BTreeSet};

use bosun_client::Snapshots;
use bosun_types::SnapshotKey;
use bosun_types::mount::Mount;
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::user_namespace::is_map_word;

use crate::context::Context;
use crate::output;

/// Prints the commands that mount a snapshot on `target`, or the mounts themselves as JSON.
pub fn mounts(context: &Context, mounts: &[Mount], target: &str) -> anyhow::Result<()> {
    if context.json {
        return output::json(&mounts);
    }
    for command in mounts.iter().flat_map(|mount| commands(mount, target)) {
        output::line(command);
    }
    Ok(())
}

/// MNT-3: a read-only bind takes a second call. Maps of users are nothing that mount(8) can say of an overlay's layers.
pub fn commands(mount: &Mount, target: &str) -> Vec<String> {
    let (maps, words): (Vec<&String>, Vec<&String>) =
        mount.options.iter().partition(|word| is_map_word(word));
    let join = |words: &[&String]| words.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(",");
    let (source, target) = (quoted(&mount.source), quoted(target));
    let mut lines = Vec::new();
    if !maps.is_empty() {
        lines.push(format!("# shown through maps of users, which these commands leave out: {}", join(&maps)));
    }
    if mount.kind == "bind" {
        let recursive = words.iter().any(|word| *word == "rbind");
        lines.push(format!("mount --{} {source} {target}", if recursive { "rbind" } else { "bind" }));
        let rest: Vec<&String> =
            words.into_iter().filter(|word| !matches!(word.as_str(), "bind" | "rbind" | "rw")).collect();
        if !rest.is_empty() {
            lines.push(format!("mount -o remount,bind,{} {target}", join(&rest)));
        }
    } else {
        lines.push(format!("mount -t {} {source} {target} -o {}", mount.kind, quoted(&join(&words))));
    }
    lines
}

/// For a shell.
fn quoted(word: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "/._-:,=+@%".contains(it);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Every snapshot below its parent.
pub async fn tree(context: &Context, snapshots: &Snapshots) -> anyhow::Result<()> {
    let all = snapshots.list().await?;
    if context.json {
        return output::json(&all);
    }
    lines_of(&all).iter().for_each(output::line);
    Ok(())
}

fn lines_of(all: &[SnapshotRecord]) -> Vec<String> {
    let known: BTreeSet<&SnapshotKey> = all.iter().map(|record| &record.key).collect();
    let mut children: BTreeMap<Option<&SnapshotKey>, Vec<&SnapshotKey>> = BTreeMap::new();
    for record in all {
        // One whose parent went in the meantime is shown all the same.
        let parent = record.parent.as_ref().filter(|parent| known.contains(parent));
        children.entry(parent).or_default().push(&record.key);
    }
    // By hand, not by recursion: a chain may be hundreds deep.
    let mut lines = Vec::new();
    let roots = children.get(&None).cloned().unwrap_or_default();
    let mut left: Vec<(&SnapshotKey, String, &str)> =
        roots.into_iter().rev().map(|key| (key, String::new(), "")).collect();
    while let Some((key, indent, branch)) = left.pop() {
        lines.push(format!("{indent}{branch}{key}"));
        let below = children.get(&Some(key)).cloned().unwrap_or_default();
        let indent = match branch {
            "├─ " => indent + "│  ",
            "└─ " => indent + "   ",
            _ => indent,
        };
        let last = below.len().saturating_sub(1);
        for (index, child) in below.into_iter().enumerate().rev() {
            let branch = if index == last { "└─ " } else { "├─ " };
            left.push((child, indent.clone(), branch));
        }
    }
    lines
}

/// Use of these, or of all.
pub async fn usage(
    context: &Context,
    snapshots: &Snapshots,
    keys: Vec<SnapshotKey>,
    in_bytes: bool,
) -> anyhow::Result<()> {
    let keys = if keys.is_empty() {
        snapshots.list().await?.into_iter().map(|record| record.key).collect()
    } else {
        keys
    };
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for key in keys {
        let usage = snapshots.usage(key.clone()).await?;
        let size = if in_bytes { usage.size_bytes.to_string() } else { output::size(usage.size_bytes) };
        rows.push(vec![key.to_string(), size, usage.inodes.to_string()]);
        all.push(serde_json::json!({"key": key, "usage": usage}));
    }
    if context.json {
        return output::json(&all);
    }
    output::table(&["KEY", "SIZE", "INODES"], &rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use bosun_types::snapshot::SnapshotKind;
    use bosun_types::{Labels, NamespaceName, Timestamp};

    use super::*;

    fn mount(kind: &str, options: &[&str]) -> Mount {
        Mount {
            kind: kind.to_owned(),
            source: "/a b".to_owned(),
            target: String::new(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    #[test]
    fn cli_11_mounts_as_commands_for_a_shell() {
        assert_eq!(commands(&mount("bind", &["rw", "rbind"]), "/m"), ["mount --rbind '/a b' /m"]);
        assert_eq!(
            commands(&mount("bind", &["ro", "rbind"]), "/m"),
            ["mount --rbind '/a b' /m", "mount -o remount,bind,ro /m"]
        );
        let mapped = commands(&mount("overlay", &["lowerdir=/l", "uidmap=0:1:1"]), "/it's");
        assert!(mapped[0].starts_with('#') && mapped[0].contains("uidmap=0:1:1"));
        assert_eq!(mapped[1], "mount -t overlay '/a b' '/it'\\''s' -o lowerdir=/l");
    }

    #[test]
    fn cli_11_the_tree_shows_each_below_its_parent() {
        let key = |text: &str| SnapshotKey::new(text).expect("good");
        let record = |name: &str, parent: Option<&str>| SnapshotRecord {
            namespace: NamespaceName::default_name(),
            snapshotter: "native".to_owned(),
            key: key(name),
            parent: parent.map(key),
            kind: SnapshotKind::Committed,
            directory: 1,
            labels: Labels::new(),
            usage: None,
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
        };
        let all = [
            record("a", None),
            record("b", Some("a")),
            record("c", Some("a")),
            record("d", Some("b")),
            record("e", Some("gone")),
        ];
        assert_eq!(lines_of(&all), ["a", "├─ b", "│  └─ d", "└─ c", "e"]);
        assert!(lines_of(&[]).is_empty());
    }
}
