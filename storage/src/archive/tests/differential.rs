//! The same archive through GNU tar and through ours: the trees must be equal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::compression::Compression;
use crate::image::writer::{LayerBuilder, LayerEntry, LayerEntryKind};

/// Everything that an archive says of a tree, as text by path.
fn picture(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut links: BTreeMap<u64, String> = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        let mut children: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        children.sort_unstable();
        for path in children {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let mut text = format!(
                "{:o} {}:{} {} dev {}",
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.mtime(),
                metadata.rdev()
            );
            if metadata.is_file() {
                let first = links.entry(metadata.ino()).or_insert_with(|| name.clone());
                write!(text, " {} same as {first} {:?}", metadata.nlink(), fs::read(&path).unwrap()).unwrap();
            } else if metadata.is_symlink() {
                write!(text, " -> {}", fs::read_link(&path).unwrap().display()).unwrap();
            } else if metadata.is_dir() {
                waiting.push(path);
            }
            found.insert(name, text);
        }
    }
    found
}

fn gnu_tar(archive: &[u8], target: &Path) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive).unwrap();
    let mut command = Command::new("tar");
    command.args(["--extract", "--numeric-owner", "--same-owner", "--preserve-permissions", "--overwrite"]);
    let output = command.arg("--file").arg(file.path()).arg("--directory").arg(target).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn assert_equal(archive: &[u8]) {
    let (ours, theirs) = (World::new(), World::new());
    unpack(archive, &ours.root(), &UnpackOptions::default()).unwrap();
    gnu_tar(archive, &theirs.root());
    assert_eq!(picture(&ours.root()), picture(&theirs.root()));
}

#[test]
fn a_tree_that_gnu_tar_packed_comes_out_as_gnu_tar_unpacks_it() {
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    fs::create_dir_all(at("usr/share/deep/er/still")).unwrap();
    fs::write(at("usr/file"), vec![7; 100_000]).unwrap();
    fs::write(at("usr/empty"), b"").unwrap();
    fs::hard_link(at("usr/file"), at("usr/share/link")).unwrap();
    symlink("../usr/file", at("usr/share/symlink")).unwrap();
    symlink("/nowhere", at("dangling")).unwrap();
    fs::set_permissions(at("usr/file"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(at("usr/share"), fs::Permissions::from_mode(0o500)).unwrap();
    std::os::unix::fs::chown(at("usr/file"), Some(12), Some(34)).unwrap();
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o640)).unwrap();
    let long = format!("{}/{}", "l".repeat(120), "m".repeat(120));
    fs::create_dir(at(&"l".repeat(120))).unwrap();
    fs::write(at(&long), b"long").unwrap();
    for format in ["gnu", "pax", "posix"] {
        let output = Command::new("tar")
            .args(["--create", "--format", format, "--directory"])
            .arg(source.path())
            .arg(".")
            .output()
            .unwrap();
        assert!(output.status.success());
        assert_equal(&output.stdout);
    }
}

fn kinds() -> impl Strategy<Value = LayerEntryKind> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..2000).prop_map(LayerEntryKind::File),
        3 => Just(LayerEntryKind::Directory),
        1 => "[a-c/]{1,5}".prop_map(LayerEntryKind::Symlink),
        1 => Just(LayerEntryKind::Fifo),
        1 => (1..9u32, 0..300u32).prop_map(|(major, minor)| LayerEntryKind::Character(major, minor)),
    ]
}

/// Trees without duplicates and without entries below symlinks: where the tools agree on the meaning.
fn trees() -> impl Strategy<Value = Vec<LayerEntry>> {
    let entry = ("[a-d](/[a-d]){0,3}", kinds(), 0..0o7777u32, 0..70_000u32, 0..2_000_000_000u64);
    proptest::collection::vec(entry, 0..24).prop_map(|entries| {
        let mut tree: BTreeMap<String, LayerEntry> = BTreeMap::new();
        for (path, kind, mode, uid, mtime) in entries {
            let parents: Vec<String> =
                path.match_indices('/').map(|(slash, _)| path[..slash].to_owned()).collect();
            let blocked = parents
                .iter()
                .any(|parent| tree.get(parent).is_some_and(|entry| entry.kind != LayerEntryKind::Directory));
            if blocked || tree.contains_key(&path) {
                continue;
            }
            for parent in parents {
                let directory = LayerEntry::new(&parent, LayerEntryKind::Directory, 0o755);
                tree.entry(parent).or_insert(directory);
            }
            tree.insert(
                path.clone(),
                LayerEntry { uid, gid: uid / 2, mtime, ..LayerEntry::new(&path, kind, mode) },
            );
        }
        tree.into_values().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_come_out_as_gnu_tar_unpacks_them(entries in trees()) {
        let builder = entries.iter().fold(LayerBuilder::new(), LayerBuilder::entry);
        assert_equal(&builder.build(Compression::None).unwrap().bytes);
    }

    #[test]
    fn random_bytes_and_flipped_bits_never_panic_and_never_leave_the_root(
        entries in trees(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let builder = entries.iter().fold(LayerBuilder::new(), LayerBuilder::entry);
        let mut bytes = builder.build(Compression::None).unwrap().bytes;
        for (index, mask) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= mask;
        }
        let world = World::new();
        let _ = unpack(&bytes[..], &world.root(), &UnpackOptions::default());
        world.assert_host_untouched();
    }
}
