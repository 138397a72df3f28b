//! Whiteouts and opaque directories in both forms; the overlay form through a real overlay mount.

use std::collections::BTreeSet;

use super::*;

/// Two layers seen through overlayfs, as a container would see them: every path below the root.
fn through_overlay(lower: Tar, upper: Tar) -> BTreeSet<String> {
    let world = tempfile::tempdir().unwrap();
    let at = |name: &str| world.path().join(name);
    for name in ["lower", "upper", "merged"] {
        fs::create_dir(at(name)).unwrap();
    }
    lower.unpack(&at("lower")).unwrap();
    upper.unpack(&at("upper")).unwrap();
    let options = format!("lowerdir={}:{}", at("upper").display(), at("lower").display());
    nix::mount::mount(
        Some("overlay"),
        &at("merged"),
        Some("overlay"),
        nix::mount::MsFlags::MS_RDONLY,
        Some(options.as_str()),
    )
    .unwrap();
    let found = paths(&at("merged"));
    nix::mount::umount(&at("merged")).unwrap();
    found
}

/// The same two layers into one directory, whiteouts as removals.
fn by_removal(lower: Tar, upper: Tar) -> BTreeSet<String> {
    let world = World::new();
    let options = UnpackOptions { whiteouts: Whiteouts::Remove, ..UnpackOptions::default() };
    for layer in [lower, upper] {
        unpack(&layer.end()[..], &world.root(), &options).unwrap();
    }
    paths(&world.root())
}

fn paths(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                waiting.push(path.clone());
            }
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}

fn lower() -> Tar {
    Tar::new()
        .directory("etc")
        .file("etc/old", b"1")
        .file("etc/kept", b"2")
        .directory("data")
        .file("data/one", b"")
        .directory("data/sub")
        .file("data/sub/two", b"")
        .file("single", b"")
}

fn both(upper: impl Fn() -> Tar) -> BTreeSet<String> {
    let overlay = through_overlay(lower(), upper());
    assert_eq!(overlay, by_removal(lower(), upper()), "both forms mean the same");
    overlay
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[test]
fn mnt_6_a_whiteout_removes_a_file_and_a_directory() {
    let seen = both(|| Tar::new().file("etc/.wh.old", b"").file(".wh.data", b"").file(".wh.never", b""));
    assert_eq!(seen, set(&["etc", "etc/kept", "single"]));
}

#[test]
fn mnt_6_an_opaque_directory_hides_what_is_below_but_not_its_own() {
    let after = || Tar::new().directory("data").file("data/.wh..wh..opq", b"").file("data/new", b"");
    let before = || Tar::new().directory("data").file("data/new", b"").file("data/.wh..wh..opq", b"");
    let wanted = set(&["data", "data/new", "etc", "etc/kept", "etc/old", "single"]);
    assert_eq!(both(after), wanted);
    assert_eq!(both(before), wanted, "the order inside a layer does not matter");
}

#[test]
fn an_opaque_directory_keeps_what_the_layer_has_deep_inside() {
    let seen = both(|| Tar::new().file("data/sub/new", b"").file("data/.wh..wh..opq", b""));
    assert_eq!(seen, set(&["data", "data/sub", "data/sub/new", "etc", "etc/kept", "etc/old", "single"]));
}

#[test]
fn a_directory_replaced_by_a_new_one_of_that_name_is_not_merged() {
    let wanted = set(&["data", "data/fresh", "etc", "etc/kept", "etc/old", "single"]);
    let first =
        through_overlay(lower(), Tar::new().file(".wh.data", b"").directory("data").file("data/fresh", b""));
    assert_eq!(first, wanted);
    let last =
        through_overlay(lower(), Tar::new().directory("data").file("data/fresh", b"").file(".wh.data", b""));
    assert_eq!(last, wanted);
    let implied = through_overlay(lower(), Tar::new().file(".wh.data", b"").file("data/fresh", b""));
    assert_eq!(implied, wanted);
    let removal = by_removal(lower(), Tar::new().file(".wh.data", b"").file("data/fresh", b""));
    assert_eq!(removal, wanted);
}

#[test]
fn a_file_wins_over_a_whiteout_of_the_same_layer() {
    let wanted =
        set(&["data", "data/one", "data/sub", "data/sub/two", "etc", "etc/kept", "etc/old", "single"]);
    assert_eq!(both(|| Tar::new().file(".wh.single", b"").file("single", b"new")), wanted);
    assert_eq!(both(|| Tar::new().file("single", b"new").file(".wh.single", b"")), wanted);
}

#[test]
fn a_file_over_a_directory_and_a_directory_over_a_file() {
    let seen = both(|| Tar::new().file("data", b"").directory("single").file("single/x", b""));
    assert_eq!(seen, set(&["data", "etc", "etc/kept", "etc/old", "single", "single/x"]));
}

#[test]
fn the_overlay_form_is_what_the_kernel_reads() {
    let world = World::new();
    let report =
        Tar::new().file("a/.wh.gone", b"").file("b/.wh..wh..opq", b"").unpack(&world.root()).unwrap();
    assert_eq!(report.whiteouts, 2);
    let gone = fs::symlink_metadata(world.at("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(xattr_of(&world.at("b"), c"trusted.overlay.opaque").unwrap(), b"y");
}
