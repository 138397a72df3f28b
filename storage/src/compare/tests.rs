//! Tests of the comparison, as root: owners, devices, `trusted.*` attributes, overlay mounts.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::*;
use crate::archive::{UnpackOptions, Whiteouts, unpack};
use crate::compression::{CompressionLimits, Decompressor};
use crate::content::ContentStore;

mod differential;
mod forest;

pub(super) fn no_progress(_: u64) -> io::Result<()> {
    Ok(())
}

pub(super) fn layer_of(source: Source) -> (Vec<u8>, Compared) {
    let mut tar = Vec::new();
    let compared = compare(source, Compression::None, &mut tar, &no_progress).unwrap();
    (tar, compared)
}

/// Two trees side by side, each filled by a shell script.
struct Pair {
    root: TempDir,
}

impl Pair {
    fn new(lower: &str, change: &str) -> Self {
        let pair = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(pair.lower()).unwrap();
        shell(&pair.lower(), lower);
        let copied = Command::new("cp").arg("-a").arg(pair.lower()).arg(pair.upper()).status().unwrap();
        assert!(copied.success());
        shell(&pair.upper(), change);
        pair
    }

    fn lower(&self) -> PathBuf {
        self.root.path().join("lower")
    }

    fn upper(&self) -> PathBuf {
        self.root.path().join("upper")
    }

    fn source(&self) -> Source {
        Source::trees(Some(&self.lower()), &self.upper()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        names(&layer_of(self.source()).0)
    }
}

fn shell(directory: &Path, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(directory).status().unwrap();
    assert!(status.success(), "{script}");
}

/// The names in an archive, read by a reader that is not ours, links as `name -> target`.
fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.link_name_bytes() {
            Some(target) => format!("{name} -> {}", String::from_utf8_lossy(&target)),
            None => name,
        }
    });
    entries.collect()
}

#[test]
fn dif_3_only_what_changed_is_in_the_layer_with_the_directories_on_the_way() {
    let pair = Pair::new(
        "mkdir -p a/b/c same; echo 1 > a/b/c/file; echo 2 > a/b/c/other; echo 3 > same/file; echo 4 > gone; mkdir d; touch d/x",
        "echo 9 > a/b/c/file; rm gone; rm -r d; echo new > e",
    );
    assert_eq!(pair.names(), ["a/", "a/b/", "a/b/c/", "a/b/c/file", ".wh.d", "e", ".wh.gone"]);
    let nothing = Pair::new("mkdir a; echo 1 > a/file; ln a/file a/link; mknod null c 1 3; ln -s x y", "");
    assert_eq!(nothing.names(), [""; 0]);
}

#[test]
fn a_change_that_hides_behind_equal_times_is_found() {
    let pair = Pair::new(
        "echo 1 > file; mkdir d; touch d/x",
        "touch -r file ../time; echo 2 > file; touch -r ../time file; chmod 700 d",
    );
    assert_eq!(pair.names(), ["d/", "file"]);
}

#[test]
fn what_takes_the_place_of_another_kind_needs_no_whiteout() {
    let pair = Pair::new(
        "mkdir -p d/e; touch d/e/x; touch f; ln -s f l",
        "rm -r d; echo file > d; rm f; mkdir f; touch f/y; rm l; ln -s other l",
    );
    assert_eq!(pair.names(), ["d", "f/", "f/y", "l -> other"]);
}

#[test]
fn names_of_one_file_stay_one_file_whichever_of_them_is_new() {
    let grown = Pair::new("mkdir a; echo 1 > a/old", "ln a/old new; ln a/old a/again");
    assert_eq!(grown.names(), ["a/", "a/again", "a/old -> a/again", "new -> a/again"]);
    // `b` is as it was, and as many names: only the new one tells that it must come along.
    let moved = Pair::new("mkdir d; echo 1 > d/a; ln d/a d/b", "rm d/a; ln d/b z");
    assert_eq!(moved.names(), ["d/", "d/.wh.a", "z", "d/", "d/b -> z"]);
    let whole = Pair::new("", "mknod c c 1 3; ln c d; ln -s x s; ln s t; mkfifo p; ln p q");
    assert_eq!(whole.names(), ["c", "d -> c", "p", "q -> p", "s -> x", "t -> s"]);
}

#[test]
fn mnt_10_sockets_are_left_out_and_counted() {
    let pair = Pair::new("", "");
    let _socket = std::os::unix::net::UnixListener::bind(pair.upper().join("socket")).unwrap();
    let (tar, compared) = layer_of(pair.source());
    assert_eq!((names(&tar), compared.report.sockets_skipped), (Vec::new(), 1));
}

#[test]
fn a_name_that_would_be_a_whiteout_is_refused() {
    for name in [".wh.file", ".wh..wh..opq", "d/.wh."] {
        let pair = Pair::new("mkdir d", &format!("touch {name}"));
        let error = compare(pair.source(), Compression::None, io::sink(), &no_progress).expect_err("refused");
        assert_eq!(error.class(), ErrorClass::FailedPrecondition);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_tree_too_deep_for_any_layer_is_refused() {
    let deep = "d=.; for i in $(seq 30); do d=$d/1/2/3/4/5/6/7/8/9; done; mkdir -p $d";
    let pair = Pair::new("", deep);
    let error = compare(pair.source(), Compression::None, io::sink(), &no_progress).expect_err("refused");
    assert!(error.to_string().contains("deeper than"), "{error}");
}

#[test]
fn digests_and_sizes_are_those_of_the_bytes_in_every_compression_and_the_bytes_are_the_same_each_time() {
    let pair =
        Pair::new("", "seq 100000 > numbers; head -c 1000000 /dev/zero > zeros; mkdir d; ln numbers d/link");
    let plain = layer_of(pair.source());
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut bytes = Vec::new();
        let compared = compare(pair.source(), compression, &mut bytes, &no_progress).unwrap();
        let mut again = Vec::new();
        compare(pair.source(), compression, &mut again, &no_progress).unwrap();
        assert!(bytes == again, "{compression:?}");
        assert_eq!((compared.digest, compared.size), (crate::image::digest_of(&bytes), bytes.len() as u64));
        assert_eq!((compared.diff_id, compared.size_plain), (plain.1.digest, plain.1.size));
        let mut inflated = Vec::new();
        let mut decompressor = Decompressor::new(&bytes[..], CompressionLimits::default()).unwrap();
        assert_eq!(decompressor.compression(), compression);
        io::Read::read_to_end(&mut decompressor, &mut inflated).unwrap();
        assert!(inflated == plain.0);
    }
}

#[test]
fn a_layer_goes_into_the_content_store_and_a_full_disk_keeps_its_class() {
    let pair = Pair::new("", "seq 1000 > numbers");
    let root = tempfile::tempdir().unwrap();
    let store = ContentStore::open(root.path()).unwrap();
    let namespace = "default".parse().unwrap();
    let mut ingest = store.begin(&namespace, "layer", 0, None).unwrap();
    let compared = compare_into(pair.source(), Compression::Gzip, &mut ingest, &no_progress).unwrap();
    let committed = ingest.commit_as_is().unwrap();
    assert_eq!((committed.digest, committed.size), (compared.digest, compared.size));

    mount(Some("tmpfs"), root.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
    let small = ContentStore::open(root.path()).unwrap();
    let mut ingest = small.begin(&namespace, "layer", 0, None).unwrap();
    let pair = Pair::new("", "head -c 1000000 /dev/urandom > noise");
    let error = compare_into(pair.source(), Compression::None, &mut ingest, &no_progress).expect_err("full");
    drop(ingest);
    umount2(root.path(), MntFlags::MNT_DETACH).unwrap();
    assert_eq!(error.class(), ErrorClass::ResourceExhausted, "{error}");
}

#[test]
fn progress_tells_the_bytes_and_can_end_the_comparison() {
    let pair = Pair::new("", "head -c 1000000 /dev/zero > zeros");
    let seen = std::cell::Cell::new(0);
    let count = |bytes| {
        seen.set(bytes);
        Ok(())
    };
    compare(pair.source(), Compression::None, io::sink(), &count).unwrap();
    assert_eq!(seen.get(), 1_000_000);
    let cancelled = |_| Err(io::Error::other("enough"));
    let error = compare(pair.source(), Compression::None, io::sink(), &cancelled).expect_err("cancelled");
    assert!(bosun_types::Error::from(error).message.contains("enough"));
}

/// An overlay mount over an empty lower directory of its own, taken down with the test.
pub(super) struct Overlay {
    pub(super) root: TempDir,
}

impl Overlay {
    pub(super) fn new(options: &str, fill: impl FnOnce(&Path)) -> Self {
        let overlay = Self { root: tempfile::tempdir().unwrap() };
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(overlay.at(name)).unwrap();
        }
        fill(&overlay.at("lower"));
        let [lower, upper, work] =
            ["lower", "upper", "work"].map(|name| overlay.at(name).display().to_string());
        let data = format!("{options},lowerdir={lower},upperdir={upper},workdir={work}");
        let merged = overlay.at("merged");
        mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(data.as_str())).unwrap();
        overlay
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = umount2(&self.at("merged"), MntFlags::MNT_DETACH);
    }
}

#[test]
fn mnt_6_overlayfss_marks_become_whiteouts() {
    let overlay = Overlay::new("index=off,redirect_dir=off", |lower| {
        shell(lower, "mkdir -p keep opaque/sub gone; touch keep/a keep/b opaque/x gone/y; echo 1 > file");
    });
    shell(
        &overlay.at("merged"),
        "rm keep/a; rm -r gone; rm -r opaque; mkdir opaque; touch opaque/new; echo 2 >> file",
    );
    let (tar, compared) = layer_of(Source::overlay(&overlay.at("upper")).unwrap());
    let expected =
        ["file", ".wh.gone", "keep/", "keep/.wh.a", "opaque/", "opaque/.wh..wh..opq", "opaque/new"];
    assert_eq!(names(&tar), expected);
    assert_eq!((compared.report.entries, compared.report.whiteouts), (7, 3));
    let headers: Vec<String> = tar::Archive::new(&tar[..])
        .entries()
        .unwrap()
        .flat_map(|entry| {
            let mut entry = entry.unwrap();
            let extensions = entry.pax_extensions().unwrap();
            let keys =
                extensions.into_iter().flatten().map(|record| record.unwrap().key().unwrap().to_owned());
            keys.collect::<Vec<_>>()
        })
        .filter(|key| key.contains("overlay"))
        .collect();
    assert_eq!(headers, [""; 0], "overlayfs's own attributes stay here");
}

#[test]
fn an_upper_directory_that_refers_to_the_layers_below_is_refused_and_the_trees_serve() {
    let overlay = Overlay::new("index=off,redirect_dir=on,metacopy=off", |lower| {
        shell(lower, "mkdir -p old/sub; echo 1 > old/sub/file");
    });
    shell(&overlay.at("merged"), "mv old new");
    let error =
        compare(Source::overlay(&overlay.at("upper")).unwrap(), Compression::None, io::sink(), &no_progress);
    assert!(matches!(error, Err(CompareError::Partial { attribute: "redirect", .. })), "{error:?}");
    let trees = Source::trees(Some(&overlay.at("lower")), &overlay.at("merged")).unwrap();
    assert_eq!(names(&layer_of(trees).0), ["new/", "new/sub/", "new/sub/file", ".wh.old"]);
}

#[test]
fn cve_2018_15664_a_tree_that_is_changed_while_it_is_read_never_leads_outside() {
    let root = tempfile::tempdir().unwrap();
    let (upper, outside) = (root.path().join("upper"), root.path().join("outside"));
    fs::create_dir_all(upper.join("d")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(upper.join("d/file"), "inside").unwrap();
    fs::write(outside.join("file"), "SECRET").unwrap();
    symlink(&outside, root.path().join("link")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            let (directory, link) = (upper.join("d"), root.path().join("link"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                renameat2(AT_FDCWD, &directory, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        for _ in 0..2000 {
            let mut tar = Vec::new();
            let result = compare(Source::overlay(&upper).unwrap(), Compression::None, &mut tar, &no_progress);
            result.unwrap();
            assert!(!tar.windows(6).any(|window| window == b"SECRET"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_file_that_is_cut_while_it_is_read_fails_the_comparison_and_says_so() {
    let pair = Pair::new("", "head -c 1000000 /dev/zero > zeros");
    let file = pair.upper().join("zeros");
    let cut = |_| fs::File::options().write(true).open(&file)?.set_len(10);
    let error = compare(pair.source(), Compression::None, io::sink(), &cut).expect_err("cut");
    assert!(matches!(error, CompareError::Changed { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Unavailable);
}

#[test]
fn the_layer_keeps_everything_a_file_has() {
    let pair = Pair::new(
        "",
        "echo x > file; chown 3000000:70000 file; chmod 6751 file; setfattr -n user.a -v b file; setfattr -n trusted.c -v d file; \
         setfattr -n user.odd=name -v e file; touch -d '1950-01-02 03:04:05.123456789' file; ln -s $(printf 'l%.0s' $(seq 200)) link; \
         mknod block b 259 70000; truncate -s 5M sparse; printf end >> sparse",
    );
    let (tar, compared) = layer_of(pair.source());
    assert_eq!(compared.report.xattrs_skipped, 1);
    let target = tempfile::tempdir().unwrap();
    let options = UnpackOptions { whiteouts: Whiteouts::Remove, ..UnpackOptions::default() };
    unpack(&tar[..], target.path(), &options).unwrap();
    shell(&pair.upper(), "setfattr -x user.odd=name file");
    assert_eq!(forest::picture(target.path()), forest::picture(&pair.upper()));
    let file = fs::metadata(target.path().join("file")).unwrap();
    assert_eq!((file.permissions().mode() & 0o7777, file.uid(), file.gid()), (0o6751, 3_000_000, 70_000));
    assert_eq!(file.mtime_nsec(), 123_456_789);
}
