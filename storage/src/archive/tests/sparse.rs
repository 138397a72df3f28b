//! Files with holes: as GNU tar writes them in each of its ways, as zeros in an ordinary entry, and with maps made to do harm.

use std::os::unix::fs::FileExt as _;
use std::process::Command;

use super::hostile::refused;
use super::*;

/// Files with holes at the start, between, at the end, and nothing else; the last one with more parts than a header holds.
fn make(root: &Path) {
    let make = |name: &str, size: u64, islands: &[u64]| {
        let file = fs::File::create(root.join(name)).unwrap();
        file.set_len(size).unwrap();
        for at in islands {
            file.write_all_at(b"island", *at).unwrap();
        }
    };
    make("start", (1 << 20) + 6, &[1 << 20]);
    make("between", 3 << 20, &[0, 1 << 20, (3 << 20) - 6]);
    make("end", 1_000_001, &[0]);
    make("hole", 50_000_000, &[]);
    let many: Vec<u64> = (0..60).map(|number| number << 16).collect();
    make("many", 60 << 16, &many);
    fs::write(root.join("none"), b"no holes").unwrap();
}

fn assert_same(got: &Path, expected: &Path) {
    for entry in fs::read_dir(expected).unwrap() {
        let path = entry.unwrap().path();
        let other = got.join(path.file_name().unwrap());
        let status = Command::new("cmp").arg(&path).arg(&other).status().unwrap();
        assert!(status.success(), "{}", path.display());
        let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
        assert!(blocks(&other) <= blocks(&path), "{} is denser", path.display());
        assert_eq!(fs::read_dir(got).unwrap().count(), fs::read_dir(expected).unwrap().count());
    }
}

#[test]
fn gnu_tars_sparse_files_of_every_kind_keep_their_holes() {
    let source = tempfile::tempdir().unwrap();
    make(source.path());
    for words in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--sparse", "--file", "-"]).args(words).arg("--directory").arg(source.path());
        let output = tar.arg(".").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.len() < 3 << 20, "it is sparse");
        let target = tempfile::tempdir().unwrap();
        let report = unpack(&output.stdout[..], target.path(), &UnpackOptions::default()).unwrap();
        assert!(report.bytes < 1 << 20, "{words:?}: {report:?}");
        assert_same(target.path(), source.path());
    }
}

#[test]
fn zeros_of_an_ordinary_entry_become_holes() {
    let source = tempfile::tempdir().unwrap();
    make(source.path());
    fs::remove_file(source.path().join("hole")).unwrap();
    let mut tar = Command::new("tar");
    let output =
        tar.args(["--create", "--file", "-", "--directory"]).arg(source.path()).arg(".").output().unwrap();
    assert!(output.status.success() && output.stdout.len() > 8 << 20, "it is dense");
    // Whatever the pieces are that it comes in.
    for buffer in [512, 1000, 64 << 10] {
        let target = tempfile::tempdir().unwrap();
        let reader = BufReader::with_capacity(buffer, &output.stdout[..]);
        unpack_buffered(reader, target.path(), &UnpackOptions::default()).unwrap();
        assert_same(target.path(), source.path());
    }
}

fn pax(records: &[(&str, &[u8])], data: &[u8]) -> Tar {
    Tar::new().pax(records).file("GNUSparseFile.1/a", data)
}

fn refused_map(map: &str, size: &str, data: &[u8]) -> String {
    let records: &[(&str, &[u8])] =
        &[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
    refused(pax(records, data))
}

fn refused_data(data: &[u8]) -> String {
    let records: &[(&str, &[u8])] =
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"4096")];
    refused(pax(records, data))
}

#[test]
fn maps_that_lie_are_refused() {
    for map in
        ["8,4,4,4", "0,4,2,4", "8,8", "18446744073709551615,4", "0,18446744073709551615", "0", "0,4,", "a,4"]
    {
        let message = refused_map(map, "12", b"12345678");
        assert!(message.contains("map of a sparse file"), "{map}: {message}");
    }
    assert!(refused_map("0,4", "12", b"12345").contains("fit"));
    assert!(refused_map("0,4", "-1", b"1234").contains("number"));
    assert!(refused_map("0,4", "+12", b"1234").contains("number"));
    assert!(refused_map("0,4", "17592186044417", b"1234").contains("17592186044416"));
    assert!(refused(pax(&[("GNU.sparse.map", b"0,4")], b"1234")).contains("without a size"));
    assert!(refused(pax(&[("GNU.sparse.numbytes", b"4")], b"1234")).contains("without an offset"));
    assert!(refused(pax(&[("GNU.sparse.later", b"4")], b"1234")).contains("unknown"));
    let later: &[(&str, &[u8])] = &[("GNU.sparse.major", b"2"), ("GNU.sparse.realsize", b"4")];
    assert!(refused(pax(later, b"1234")).contains("version"));
    let link = Tar::new().pax(&[("GNU.sparse.size", b"4"), ("GNU.sparse.map", b"")]).symlink("a", "b");
    assert!(refused(link).contains("holes"));
}

#[test]
fn cve_2025_58183_a_map_in_the_data_has_a_limit() {
    assert!(refused_data(b"").contains("no end"));
    assert!(refused_data(b"1\n0\n").contains("no end"));
    assert!(refused_data(b"\n").contains("malformed"));
    assert!(refused_data(b"18446744073709551615\n").contains("malformed"));
    assert!(refused_data(&[b'1'; 512]).contains("malformed"));
    let endless = [b"9000000\n".to_vec(), b"0\n".repeat(600_000)].concat();
    assert!(refused_data(&endless).contains("sparse file"));
    let mut old = Tar::header(b'S', b"old", b"", 0);
    old.as_mut_bytes()[482] = 1;
    old.as_mut_bytes()[483..495].copy_from_slice(b"00000010000\0");
    let mut archive = Tar::new().raw(old, b"");
    let mut more = [0; 512];
    for field in more[..504].chunks_mut(24) {
        field.copy_from_slice(b"00000000001\x0000000000000\0");
    }
    more[504] = 1;
    for _ in 0..(1 << 18) / 21 + 1 {
        archive.bytes.extend_from_slice(&more);
    }
    assert!(refused(archive).contains("262144 parts"));
}

#[test]
fn a_sparse_files_true_name_is_held_to_the_same_rules() {
    let records: &[(&str, &[u8])] =
        &[("GNU.sparse.name", b"../secret"), ("GNU.sparse.size", b"4"), ("GNU.sparse.map", b"0,4")];
    assert!(refused(pax(records, b"1234")).contains("../secret"));
    let world = World::new();
    let records: &[(&str, &[u8])] =
        &[("GNU.sparse.name", b"true"), ("GNU.sparse.size", b"8"), ("GNU.sparse.map", b"2,4")];
    pax(records, b"1234").file("after", b"x").unpack(&world.root()).unwrap();
    assert_eq!(fs::read(world.at("true")).unwrap(), b"\0\x001234\0\0");
    assert_eq!(fs::read(world.at("after")).unwrap(), b"x");
    assert!(!world.at("GNUSparseFile.1").exists());
}
