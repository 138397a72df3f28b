//! Archives made to do harm. Each is refused with an error that names the entry, or can do nothing outside of the root.

use super::*;

pub(super) fn refused(archive: Tar) -> String {
    let world = World::new();
    let error = archive.unpack(&world.root()).expect_err("refused");
    assert_eq!(error.class(), ErrorClass::InvalidArgument, "{error}");
    assert!(error.is_about_the_bytes());
    world.assert_host_untouched();
    bosun_types::Error::from(error).message
}

#[test]
fn upward_names_are_refused() {
    for name in ["../secret", "a/../../secret", "/../secret", "a/..", "./../secret"] {
        let message = refused(Tar::new().file(name, b"x"));
        assert!(message.contains(name) && message.contains(".."), "{message}");
    }
    assert!(refused(Tar::new().pax(&[("path", b"../secret")]).file("x", b"")).contains("../secret"));
}

#[test]
fn absolute_names_count_from_the_root() {
    let world = World::new();
    let secret = world.directory.path().join("secret");
    let name = secret.to_str().unwrap();
    Tar::new().file(name, b"inside").unpack(&world.root()).unwrap();
    assert_eq!(fs::read(world.at(name.trim_start_matches('/'))).unwrap(), b"inside");
    world.assert_host_untouched();
}

#[test]
fn cve_2018_20990_symlinked_parents_resolve_inside_the_root() {
    let world = World::new();
    let outside = world.directory.path().to_str().unwrap().to_owned();
    Tar::new()
        .symlink("absolute", &outside)
        .file("absolute/secret", b"x")
        .symlink("relative", "../../../../../../..")
        .file("relative/escaped", b"x")
        .symlink("one", "two")
        .symlink("two", "../..")
        .directory("one/made")
        .unpack(&world.root())
        .unwrap();
    world.assert_host_untouched();
    assert_eq!(fs::read(world.at(outside.trim_start_matches('/')).join("secret")).unwrap(), b"x");
    assert!(world.at("escaped").exists() && world.at("made").is_dir());
}

#[test]
fn cve_2021_32760_cve_2026_33056_no_mode_or_owner_changes_through_a_link() {
    let world = World::new();
    let secret = world.directory.path().join("secret");
    let name = secret.to_str().unwrap();
    let mut directory = Tar::header(b'5', b"link", b"", 0);
    directory.set_mode(0o777);
    directory.set_uid(1000);
    let mut through_link = Tar::header(b'2', b"other", name.as_bytes(), 0);
    through_link.set_mode(0o777);
    through_link.set_uid(1000);
    Tar::new()
        .symlink("link", name)
        .raw(directory, b"")
        .raw(through_link, b"")
        .hard_link("third", "other")
        .pax(&[("SCHILY.xattr.user.x", b"y"), ("SCHILY.xattr.trusted.x", b"y")])
        .symlink("fourth", name)
        .unpack(&world.root())
        .unwrap();
    world.assert_host_untouched();
    assert_eq!(xattr_of(&secret, c"trusted.x"), None);
    assert!(fs::symlink_metadata(world.at("link")).unwrap().is_dir());
}

/// CVE-2025-47290: somebody swaps a directory for a link between the look and the write.
#[test]
fn cve_2025_47290_a_directory_that_is_swapped_for_a_link_meanwhile_leads_nowhere() {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let world = World::new();
    let (outside, link) = (world.directory.path().join("outside"), world.directory.path().join("link"));
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&outside, &link).unwrap();
    fs::create_dir(world.at("d")).unwrap();
    let archive = || {
        let files = (0..40).fold(Tar::new(), |tar, number| {
            tar.directory("d").file(&format!("d/{number}"), b"x").symlink(&format!("d/l{number}"), "/x")
        });
        files.hard_link("d/hard", "d/1").directory("d/sub")
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let directory = world.at("d");
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // The unpacker replaces a link by the directory that the archive has: then there is nothing to swap.
                let _ = renameat2(AT_FDCWD, &directory, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE);
            }
        });
        for _ in 0..50 {
            // Whether it succeeds depends on the moment.
            let _ = archive().unpack(&world.root());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was made outside");
    assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o700, "nor changed there");
    assert_eq!(fs::read(world.directory.path().join("secret")).unwrap(), b"untouched");
}

#[test]
fn a_file_is_not_written_through_a_link() {
    let world = World::new();
    let secret = world.directory.path().join("secret");
    Tar::new().symlink("a", secret.to_str().unwrap()).file("a", b"replaced").unpack(&world.root()).unwrap();
    world.assert_host_untouched();
    assert_eq!(fs::read(world.at("a")).unwrap(), b"replaced");
}

#[test]
fn hard_links_out_of_the_root_are_refused() {
    for target in ["../secret", "a/../../secret", "missing", "", "/"] {
        let message = refused(Tar::new().hard_link("a", target));
        assert!(message.contains("archive entry"), "{message}");
    }
    let world = World::new();
    let outside = world.directory.path().to_str().unwrap().to_owned();
    let archive = Tar::new().symlink("out", &outside).hard_link("a", "out/secret");
    assert_eq!(archive.unpack(&world.root()).expect_err("missing").class(), ErrorClass::InvalidArgument);
    world.assert_host_untouched();
    assert!(refused(Tar::new().directory("d").hard_link("a", "d")).contains("directory"));
}

#[test]
fn mnt_6_whiteouts_cannot_escape_their_directory() {
    for name in [".wh..", ".wh...", ".wh.", "a/.wh..."] {
        assert!(refused(Tar::new().file(name, b"")).contains("outside"), "{name}");
    }
    for whiteouts in [Whiteouts::Overlay, Whiteouts::Remove] {
        let world = World::new();
        let outside = world.directory.path().to_str().unwrap().to_owned();
        let archive = Tar::new()
            .symlink("out", &outside)
            .file("out/.wh.secret", b"")
            .file("out/.wh..wh..opq", b"")
            .end();
        let options = UnpackOptions { whiteouts, ..UnpackOptions::default() };
        unpack(&archive[..], &world.root(), &options).unwrap();
        world.assert_host_untouched();
    }
}

#[test]
fn cve_2024_40635_owners_that_would_wrap_to_root_are_refused() {
    for id in ["4294967295", "4294967296", "18446744073709551615"] {
        assert!(refused(Tar::new().pax(&[("uid", id.as_bytes())]).file("a", b"")).contains("user id"));
        assert!(refused(Tar::new().pax(&[("gid", id.as_bytes())]).file("a", b"")).contains("group id"));
    }
    // Base 256 in the header itself: all bits set.
    let mut header = Tar::header(b'0', b"a", b"", 0);
    header.as_mut_bytes()[108..116].copy_from_slice(&[0xff; 8]);
    refused(Tar::new().raw(header, b""));
}

#[test]
fn cve_2022_2879_extended_headers_are_bounded_before_they_are_read() {
    for kind in *b"xLK" {
        let header = Tar::header(kind, b"big", b"", (1 << 20) + 1);
        // Not even there: a reader that allocates first would not notice.
        let message = refused(Tar::new().raw(header, b""));
        assert!(message.contains("extended header"), "{message}");
    }
    let value = vec![b'x'; (64 << 10) + 1];
    assert!(refused(Tar::new().pax(&[("SCHILY.xattr.user.a", &value)]).file("a", b"")).contains("attribute"));
}

#[test]
fn entries_of_unknown_types_are_refused() {
    assert!(refused(Tar::new().entry(b'Z', "odd", "", b"")).contains('Z'));
}

#[test]
fn cve_2025_62518_the_pax_size_is_the_size() {
    // The header says 0, PAX says 1024: a reader that skips by the header would take the data for entries.
    let inner = Tar::new().file("smuggled", b"").bytes;
    let mut data = inner.clone();
    data.resize(1024, 0);
    let world = World::new();
    let header = Tar::header(b'0', b"outer", b"", 0);
    let mut archive = Tar::new().pax(&[("size", b"1024")]).raw(header, b"");
    archive.bytes.extend_from_slice(&data);
    archive.file("after", b"").unpack(&world.root()).unwrap();
    assert_eq!(fs::read(world.at("outer")).unwrap(), data);
    assert!(world.at("after").exists() && !world.at("smuggled").exists());
}

#[test]
fn depth_length_and_count_have_limits() {
    let deep = "d/".repeat(257);
    assert!(refused(Tar::new().pax(&[("path", deep.as_bytes())]).directory("x")).contains("deeper"));
    let long = "dd/".repeat(1400);
    assert!(refused(Tar::new().pax(&[("path", long.as_bytes())]).directory("x")).contains("4096"));
    let wide = "w".repeat(256);
    assert!(refused(Tar::new().pax(&[("path", wide.as_bytes())]).directory("x")).contains("255"));
    assert!(
        refused(Tar::new().pax(&[("linkpath", long.as_bytes())]).symlink("x", "y")).contains("link target")
    );
    let world = World::new();
    let mut options = UnpackOptions::default();
    options.limits.entries_max = 2;
    let archive = Tar::new().file("a", b"").file("b", b"").file("c", b"").end();
    let error = unpack(&archive[..], &world.root(), &options).expect_err("three");
    assert!(error.to_string().contains("more than 2"));
}

#[test]
fn a_link_loop_ends() {
    assert!(refused(Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", b"")).contains("directory"));
    assert!(refused(Tar::new().file("a", b"").file("a/x", b"")).contains("directory"));
}

#[test]
fn a_link_that_names_thousands_of_directories_does_not_use_up_the_descriptors() {
    let long = "d/".repeat(2000);
    assert!(
        refused(Tar::new().pax(&[("linkpath", long.as_bytes())]).symlink("a", "x").file("a/x", b""))
            .contains("directory")
    );
}

#[test]
fn truncated_and_damaged_archives_are_named_so() {
    let whole = Tar::new().file("a", &[1; 3000]).file("b", b"x").end();
    for cut in [100, 512, 600, 3584, 3600] {
        let world = World::new();
        let error = unpack(&whole[..cut], &world.root(), &UnpackOptions::default());
        let boundary = cut == 3584;
        assert_eq!(error.is_ok(), boundary, "cut at {cut}: {error:?}");
        if let Err(error) = error {
            assert!(matches!(error, ArchiveError::Truncated { .. }), "cut at {cut}: {error}");
        }
    }
    let mut flipped = whole.clone();
    flipped[0] ^= 1;
    let world = World::new();
    let error = unpack(&flipped[..], &world.root(), &UnpackOptions::default()).expect_err("flipped");
    assert!(error.to_string().contains("not a tar archive"));
    let noise: Vec<u8> = (0..4096u32).map(|n| (n * 31 % 251) as u8).collect();
    assert!(unpack(&noise[..], &world.root(), &UnpackOptions::default()).is_err());
}

#[test]
fn a_full_file_system_is_resource_exhausted() {
    let world = World::new();
    let root = world.root();
    nix::mount::mount(Some("tmpfs"), &root, Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=64k"))
        .unwrap();
    let result = Tar::new().file("big", &vec![1; 1 << 20]).unpack(&root);
    nix::mount::umount2(&root, nix::mount::MntFlags::MNT_DETACH).unwrap();
    let error = result.expect_err("no space");
    assert_eq!(error.class(), ErrorClass::ResourceExhausted);
    assert!(!error.is_about_the_bytes());
    assert!(bosun_types::Error::from(error).message.contains("big"));
}
