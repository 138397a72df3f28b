//! Archives made to do harm, continued: one test for each published case that is not in `hostile`, and for the classes that
//! have no number.

use super::*;

/// Unpacks what may be refused or not, and in either case touches nothing outside.
fn harmless(archive: Tar) -> (World, Result<UnpackReport>) {
    let world = World::new();
    let result = archive.unpack(&world.root());
    world.assert_host_untouched();
    (world, result)
}

fn refused(archive: Tar) -> String {
    let (_, result) = harmless(archive);
    let error = result.expect_err("refused");
    assert_eq!(error.class(), ErrorClass::InvalidArgument, "{error}");
    bosun_types::Error::from(error).message
}

/// A header with raw bytes in one of its fields.
fn with_field(at: usize, bytes: &[u8]) -> tar::Header {
    let mut header = Tar::header(b'0', b"a", b"", 0);
    header.as_mut_bytes()[at..at + bytes.len()].copy_from_slice(bytes);
    header
}

#[test]
fn cve_2021_38511_directories_are_not_made_outside_through_links() {
    let (world, result) = harmless(
        Tar::new()
            .symlink("way", "../../..")
            .directory("way/made")
            .directory("way/made/deeper")
            .file("way/made/deeper/file", b"x"),
    );
    result.unwrap();
    assert!(world.at("made/deeper/file").exists());
}

#[test]
fn cve_2025_59825_a_long_name_does_not_lead_where_a_short_one_may_not() {
    let up = format!("{}../../secret", "d/".repeat(60));
    assert!(refused(Tar::new().pax(&[("path", up.as_bytes())]).file("x", b"")).contains(".."));
    let mut gnu = up.into_bytes();
    gnu.push(0);
    assert!(refused(Tar::new().entry(b'L', "././@LongLink", "", &gnu).file("x", b"")).contains(".."));
}

#[test]
fn cve_2022_48303_every_number_of_a_header_may_be_anything() {
    // mode, uid, gid, size, time, device numbers.
    for (at, length) in [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (329, 8), (337, 8)] {
        for pattern in [&[0xff][..], &[0x80, 0], &[0x80, 0xff], b"7", b"8", b" ", b"-1", b"\0", b"zz"] {
            let bytes: Vec<u8> = pattern.iter().copied().cycle().take(length).collect();
            let _ = harmless(Tar::new().raw(with_field(at, &bytes), b""));
            let mut device = with_field(at, &bytes);
            device.as_mut_bytes()[156] = b'3';
            let _ = harmless(Tar::new().raw(device, b""));
        }
    }
}

#[test]
fn negative_and_impossible_sizes_are_refused() {
    refused(Tar::new().raw(with_field(124, &[0xff; 12]), b""));
    refused(Tar::new().raw(with_field(124, b"-0000000001\0"), b""));
    let mut huge = [0u8; 12];
    huge[0] = 0x80;
    huge[4] = 0x80;
    refused(Tar::new().raw(with_field(124, &huge), b""));
    for size in ["-1", "9223372036854775808", "18446744073709551616", "1e3", "", " 1", "+1x"] {
        refused(Tar::new().pax(&[("size", size.as_bytes())]).file("a", b""));
    }
}

#[test]
fn endless_extended_headers_end_at_the_limit_of_entries() {
    let mut archive = Tar::new();
    for _ in 0..50 {
        archive = archive.entry(b'g', "global", "", b"11 k=value\n");
    }
    let world = World::new();
    let mut options = UnpackOptions::default();
    options.limits.entries_max = 40;
    let error = unpack(&archive.file("a", b"").end()[..], &world.root(), &options).expect_err("too many");
    assert!(error.to_string().contains("more than 40"), "{error}");
}

#[test]
fn extended_headers_are_not_stacked_and_not_left_alone() {
    assert!(
        refused(Tar::new().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("c", b"")).contains("two PAX")
    );
    let long = |kind| Tar::new().entry(kind, "long", "", b"a").entry(kind, "long", "", b"b").file("c", b"");
    assert!(refused(long(b'L')).contains("two long names"));
    assert!(refused(long(b'K')).contains("two long link names"));
    for alone in [Tar::new().pax(&[("path", b"a")]), Tar::new().entry(b'L', "long", "", b"a")] {
        assert!(refused(alone).contains("without an entry"));
    }
}

#[test]
fn names_with_nul_bytes_are_refused_and_control_characters_do_not_reach_a_terminal() {
    assert!(refused(Tar::new().pax(&[("path", b"a\0b")]).file("x", b"")).contains("NUL"));
    assert!(refused(Tar::new().pax(&[("linkpath", b"a\0b")]).symlink("x", "y")).contains("NUL"));
    let message = refused(Tar::new().pax(&[("path", b"../\x1b[2J\x07\r\n")]).file("x", b""));
    assert!(!message.chars().any(char::is_control), "{message:?}");
    let (world, result) = harmless(Tar::new().file("\x1b[31m\n", b"a name like another"));
    result.unwrap();
    assert!(world.at("\x1b[31m\n").exists());
}

#[test]
fn a_hard_link_to_a_link_is_replaced_and_not_written_through() {
    let world = World::new();
    let secret = world.directory.path().join("secret");
    Tar::new()
        .symlink("link", secret.to_str().unwrap())
        .hard_link("hard", "link")
        .file("hard", b"replaced")
        .unpack(&world.root())
        .unwrap();
    world.assert_host_untouched();
    assert_eq!(fs::read(world.at("hard")).unwrap(), b"replaced");
    assert!(fs::symlink_metadata(world.at("link")).unwrap().is_symlink());
}

#[test]
fn a_directory_that_becomes_a_link_takes_what_follows_inside_the_root() {
    let world = World::new();
    let outside = world.directory.path().to_str().unwrap().to_owned();
    Tar::new()
        .directory("d")
        .file("d/first", b"1")
        .symlink("d", &outside)
        .file("d/secret", b"x")
        .file("d/first", b"2")
        .unpack(&world.root())
        .unwrap();
    world.assert_host_untouched();
    assert_eq!(fs::read(world.at(outside.trim_start_matches('/')).join("secret")).unwrap(), b"x");
}

#[test]
fn a_chain_of_links_as_long_as_the_kernel_follows_ends() {
    let mut archive = Tar::new().symlink("l0", "..");
    for number in 1..60 {
        archive = archive.symlink(&format!("l{number}"), &format!("l{}", number - 1));
    }
    let (_, result) = harmless(archive.file("l59/secret", b"x"));
    result.expect_err("too many links");
}

#[test]
fn parents_of_a_link_that_point_upwards_stay_inside() {
    let (world, result) = harmless(
        Tar::new()
            .directory("a")
            .symlink("a/up", "../../../../..")
            .file("a/up/secret", b"x")
            .hard_link("a/b", "a/up/secret"),
    );
    result.unwrap();
    assert_eq!(fs::read(world.at("secret")).unwrap(), b"x");
    assert_eq!(fs::metadata(world.at("a/b")).unwrap().nlink(), 2);
}

#[test]
fn a_hard_link_to_what_came_to_be_a_directory_or_to_itself_is_no_way_out() {
    assert!(refused(Tar::new().file("a", b"").directory("a").hard_link("b", "a")).contains("directory"));
    assert!(refused(Tar::new().hard_link("a", "a")).contains("not in the archive"));
    let (_, result) = harmless(Tar::new().file("a", b"x").hard_link("a", "a").hard_link("./a", "/a"));
    result.unwrap();
}

#[test]
fn a_device_over_a_file_and_a_file_over_a_device() {
    let mut device = Tar::header(b'3', b"null", b"", 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    let (world, result) = harmless(
        Tar::new()
            .raw(device.clone(), b"")
            .file("null", b"bytes")
            .file("other", b"")
            .symlink("other", "null"),
    );
    result.unwrap();
    // The device is replaced and not written to.
    assert_eq!(fs::read(world.at("null")).unwrap(), b"bytes");
    let (world, result) = harmless(Tar::new().file("null", b"bytes").raw(device, b""));
    result.unwrap();
    assert!(fs::metadata(world.at("null")).unwrap().file_type().is_char_device());
}

#[test]
fn devices_owners_and_attributes_that_are_not_permitted_are_left_out_and_counted() {
    let world = World::new();
    let root = world.root();
    std::os::unix::fs::chown(&root, Some(65534), Some(65534)).unwrap();
    std::os::unix::fs::chown(world.directory.path(), Some(65534), Some(65534)).unwrap();
    let mut device = Tar::header(b'3', b"null", b"", 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    let archive = Tar::new()
        .raw(device, b"")
        .pax(&[("SCHILY.xattr.trusted.note", b"no"), ("uid", b"0")])
        .file("file", b"x")
        .end();
    let unpacked = std::thread::spawn(move || {
        become_nobody();
        let options = UnpackOptions { owners: false, ..UnpackOptions::default() };
        unpack(&archive[..], &root, &options)
    });
    let report = unpacked.join().unwrap().unwrap();
    assert_eq!((report.devices_skipped, report.xattrs_skipped), (1, 1));
    assert!(!world.at("null").exists());
    assert_eq!(fs::metadata(world.at("file")).unwrap().uid(), 65534);
}

/// This thread alone, without any privilege: the C library's call would change every thread.
#[expect(unsafe_code, reason = "only the system call itself is for one thread")]
fn become_nobody() {
    // SAFETY: three numbers; the thread ends with the test.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
    assert_eq!(result, 0);
}

#[test]
fn more_attributes_than_any_file_has_are_refused() {
    let names: Vec<String> = (0..1025).map(|number| format!("SCHILY.xattr.user.n{number}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    assert!(refused(Tar::new().pax(&records).file("a", b"")).contains("1024"));
    let long = format!("SCHILY.xattr.user.{}", "n".repeat(300));
    assert!(refused(Tar::new().pax(&[(&long, b"x")]).file("a", b"")).contains("name is malformed"));
}

#[test]
fn a_zero_block_in_the_middle_does_not_hide_what_follows() {
    let mut archive = Tar::new().file("a", b"").bytes;
    archive.extend_from_slice(&[0; 512]);
    archive.extend_from_slice(&Tar::new().file("hidden", b"").bytes);
    let world = World::new();
    let error = unpack(&archive[..], &world.root(), &UnpackOptions::default()).expect_err("two meanings");
    assert!(error.to_string().contains("zero block"), "{error}");
}

#[test]
fn what_a_reader_of_tapes_knows_is_refused() {
    for kind in *b"DMVNX" {
        let (_, result) = harmless(Tar::new().entry(kind, "odd", "", b""));
        assert_eq!(result.expect_err("refused").class(), ErrorClass::InvalidArgument);
    }
}

#[test]
fn a_stream_that_ends_in_an_extended_header_or_in_padding_is_truncated() {
    let archive = Tar::new().pax(&[("path", b"a")]).file("x", &[1; 100]).end();
    for cut in [512 + 5, 1024 + 300, 1536 + 50, 1536 + 200] {
        let world = World::new();
        let error = unpack(&archive[..cut], &world.root(), &UnpackOptions::default()).expect_err("cut");
        assert!(matches!(error, ArchiveError::Truncated { .. }), "cut at {cut}: {error}");
    }
}

#[test]
fn two_layers_of_compression_are_not_taken_off() {
    let tar = Tar::new().file("a", b"x").end();
    let mut once =
        crate::compression::Compressor::new(Vec::new(), crate::compression::Compression::Gzip).unwrap();
    std::io::Write::write_all(&mut once, &tar).unwrap();
    let (inner, _, _) = once.finish().unwrap();
    let world = World::new();
    let error = unpack(&inner[..], &world.root(), &UnpackOptions::default()).expect_err("not a tar");
    assert!(
        error.to_string().contains("not a tar archive") || matches!(error, ArchiveError::Truncated { .. }),
        "{error}"
    );
}
