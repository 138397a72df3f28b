//! Roots that lie in wait, and what goes through them.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use bosun_types::ErrorClass;
use bosun_types::user_namespace::IdRange;

use super::*;

fn root_of(directory: &Path) -> ContainerRoot {
    ContainerRoot::new(std::fs::File::open(directory).expect("opens").into(), None)
}

fn out(path: &str, rename: &str) -> CopyOut {
    CopyOut { path: path.to_owned(), rename: rename.to_owned(), follow: false }
}

fn into(directory: &str) -> CopyIn {
    CopyIn { directory: directory.to_owned(), keep_owners: false }
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("a tar");
    entries.map(|entry| entry.expect("an entry").path().expect("a path").display().to_string()).collect()
}

fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_uid(1000);
        header.set_gid(1000);
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        let data: &[u8] = if kind.is_file() { content.as_bytes() } else { &[] };
        if !kind.is_file() {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).expect("appends");
    }
    builder.into_inner().expect("ends")
}

/// A root that lies in wait: links that lead out of it, absolute and relative, and a secret beside it.
fn hostile() -> (tempfile::TempDir, std::path::PathBuf) {
    let world = tempfile::tempdir().expect("a directory");
    let root = world.path().join("root");
    std::fs::create_dir_all(root.join("etc")).expect("makes");
    std::fs::create_dir_all(root.join("inside")).expect("makes");
    std::fs::create_dir_all(world.path().join("outside")).expect("makes");
    std::fs::write(world.path().join("outside/secret"), "host").expect("writes");
    std::fs::write(root.join("etc/passwd"), "container").expect("writes");
    symlink(world.path().join("outside"), root.join("absolute")).expect("links");
    symlink("../../../../../../../../../../etc/passwd", root.join("relative")).expect("links");
    symlink("/inside", root.join("good")).expect("links");
    (world, root)
}

#[test]
fn cve_2018_15664_links_out_of_the_root_stay_inside_both_ways() {
    let (world, root) = hostile();
    let at = || root_of(&root);
    let refused = at().stat("absolute/secret", true).expect_err("not there, inside");
    assert_eq!(refused.class, ErrorClass::NotFound);
    let mut tar = Vec::new();
    at().read(&CopyOut { follow: true, ..out("relative", "pw") }, &mut tar).expect("the container's own");
    let text = String::from_utf8_lossy(&tar);
    assert!(text.contains("container") && !text.contains("root:"), "the root's file, not the host's");
    let refused = at().write(&into("absolute"), &tar_of(&[("x", tar::EntryType::Regular, "bad")])[..]);
    assert_eq!(refused.expect_err("no such directory inside").class, ErrorClass::NotFound);
    // A stream that brings its own link and goes through it.
    let through = tar_of(&[
        ("l", tar::EntryType::Symlink, world.path().join("outside").to_str().expect("text")),
        ("l/secret", tar::EntryType::Regular, "bad"),
    ]);
    let _ = at().write(&into("/"), &through[..]);
    let up = tar_of(&[("../outside/secret", tar::EntryType::Regular, "bad")]);
    assert_eq!(at().write(&into("inside"), &up[..]).expect_err("upwards").class, ErrorClass::InvalidArgument);
    assert_eq!(std::fs::read_to_string(world.path().join("outside/secret")).expect("reads"), "host");
}

#[test]
fn a_stream_goes_into_the_directory_behind_a_link_and_belongs_to_root() {
    let (_world, root) = hostile();
    let tar = tar_of(&[
        ("a", tar::EntryType::Regular, "1"),
        ("b", tar::EntryType::Link, "a"),
        (".wh.c", tar::EntryType::Regular, "no whiteout"),
    ]);
    let copied = root_of(&root).write(&into("/good"), &tar[..]).expect("writes");
    assert_eq!((copied.entries, copied.bytes), (3, 12));
    let (a, b) = (root.join("inside/a"), root.join("inside/b"));
    let (a, b) = (std::fs::metadata(a).expect("there"), std::fs::metadata(b).expect("there"));
    assert_eq!(a.ino(), b.ino());
    assert_eq!(a.mode() & 0o7777, 0o640);
    assert!(root.join("inside/.wh.c").exists());
    if nix::unistd::geteuid().is_root() {
        assert_eq!((a.uid(), a.gid()), (0, 0));
        let keep = CopyIn { keep_owners: true, ..into("good") };
        root_of(&root).write(&keep, &tar[..]).expect("writes");
        assert_eq!(std::fs::metadata(root.join("inside/a")).expect("there").uid(), 1000);
    }
}

#[test]
fn a_directory_is_not_replaced_by_a_file_nor_the_other_way_round() {
    let (_world, root) = hostile();
    std::fs::create_dir(root.join("inside/d")).expect("makes");
    std::fs::write(root.join("inside/f"), "old").expect("writes");
    for (name, kind) in [("d", tar::EntryType::Regular), ("f/", tar::EntryType::Directory)] {
        let refused = root_of(&root).write(&into("inside"), &tar_of(&[(name, kind, "")])[..]);
        assert_eq!(refused.expect_err(name).class, ErrorClass::InvalidArgument, "{name}");
    }
    assert!(root.join("inside/d").is_dir() && root.join("inside/f").is_file());
}

#[test]
fn what_comes_out_has_the_name_that_was_asked_for() {
    let (_world, root) = hostile();
    std::fs::write(root.join("inside/x"), "1").expect("writes");
    std::fs::hard_link(root.join("inside/x"), root.join("inside/y")).expect("links");
    symlink("x", root.join("inside/z")).expect("links");
    let listed = |path: &str, rename: &str| {
        let mut tar = Vec::new();
        root_of(&root).read(&out(path, rename), &mut tar).map(|copied| (names(&tar), copied))
    };
    let (found, copied) = listed("inside", "new").expect("reads");
    assert_eq!(found, ["new/", "new/x", "new/y", "new/z"]);
    assert_eq!((copied.entries, copied.bytes), (4, 1), "a second name is a link");
    assert_eq!(listed("inside/.", "").expect("reads").0, ["x", "y", "z"]);
    assert_eq!(listed("/etc/passwd", "pw").expect("reads").0, ["pw"]);
    assert_eq!(
        listed("/etc/passwd", "").expect_err("a file needs a name").class,
        ErrorClass::InvalidArgument
    );
    assert_eq!(listed("nothing", "n").expect_err("not there").class, ErrorClass::NotFound);
    let info = root_of(&root).stat("good", false).expect("there");
    assert_eq!((info.kind, info.link.as_deref()), (FileKind::Symlink, Some("/inside")));
    assert_eq!(root_of(&root).stat("good", true).expect("there").kind, FileKind::Directory);
}

#[test]
fn owners_are_those_inside() {
    let range = IdRange { container: 0, host: 100_000, size: 1000 };
    let maps = IdMaps { uids: vec![range], gids: vec![range] };
    let mut entry = Entry { uid: 7, gid: 5000, ..Entry::new(Kind::Regular) };
    owned_by(&mut entry, true, Some(&maps));
    assert_eq!((entry.uid, entry.gid), (100_007, 100_000), "nobody that it has not");
    owned_by(&mut entry, false, None);
    assert_eq!((entry.uid, entry.gid), (0, 0));
    assert_eq!((maps.inside_uid(100_007), maps.inside_uid(7)), (Some(7), None));
}
