//! Tests of the btrfs snapshotter, on a file system of their own in a file; as root.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use bosun_types::ErrorClass;
use bosun_types::snapshot::SnapshotKind::{Active, Committed, View};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;

/// Bytes of the file; mkfs.btrfs wants more than 109 MiB.
const DISK_BYTES: u64 = 512 << 20;

/// A file system in a file, mounted in this thread's own mount namespace: with the thread, however it ends, mount and loop
/// device go.
pub(in crate::snapshotter) struct Disk {
    home: tempfile::TempDir,
}

impl Disk {
    pub(in crate::snapshotter) fn new() -> Self {
        Self::of("btrfs", &[])
    }

    /// A file system of another kind.
    pub(in crate::snapshotter) fn of(kind: &str, words: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("disk");
        fs::File::create(&file).unwrap().set_len(DISK_BYTES).unwrap();
        let made = Command::new(format!("mkfs.{kind}")).arg("-q").args(words).arg(&file).status();
        let what = "mkfs: install btrfs-progs, as `cargo xtask test` does";
        assert!(made.expect(what).success(), "{what}");
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).unwrap();
        let place = home.path().join("mounted");
        fs::create_dir(&place).unwrap();
        // mount(8) sets the loop device up so that it goes with the mount.
        let mounted = Command::new("mount").args(["-t", kind, "-o", "loop"]).arg(&file).arg(&place).status();
        assert!(mounted.unwrap().success());
        Self { home }
    }

    pub(in crate::snapshotter) fn path(&self) -> std::path::PathBuf {
        self.home.path().join("mounted")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

fn shell(directory: &Path, script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).current_dir(directory).status().unwrap().success());
}

#[test]
fn snp_19_what_is_not_btrfs_is_refused_with_advice() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let error = Btrfs::open(&root.path().join("snapshots/btrfs")).expect_err("tmpfs");
    assert_eq!(error.class(), ErrorClass::FailedPrecondition);
    assert!(bosun_types::Error::from(error).hint.is_some());
    assert!(!root.path().join("snapshots").exists(), "nothing was made");
}

#[test]
fn snp_10_snp_19_a_snapshot_costs_nothing_and_its_usage_is_what_differs() {
    let disk = Disk::new();
    let btrfs = Btrfs::open(&disk.path().join("btrfs")).unwrap();
    btrfs.ensure_directory(1, &[], Active).unwrap();
    let files = btrfs.layer_root(1);
    shell(&files, "mkdir -p a/b; head -c 3000000 /dev/urandom > a/b/large; echo x > small; ln small other");
    btrfs.sync(1).unwrap();
    let whole = btrfs.usage(1, &[]).unwrap();
    // The top, two directories, two files; the second name counts no more.
    assert_eq!(whole.inodes, 5);
    assert!(whole.size_bytes >= 3_000_000, "{whole:?}");
    btrfs.ensure_directory(2, &[1], Active).unwrap();
    assert_eq!(btrfs.usage(2, &[1]).unwrap(), Usage::default(), "all of it is the parent's");
    shell(&btrfs.layer_root(2), "head -c 500000 /dev/urandom > a/new; echo y >> small");
    btrfs.sync(2).unwrap();
    let own = btrfs.usage(2, &[1]).unwrap();
    // The new file, its directory, and the changed one once for both of its names.
    assert_eq!(own.inodes, 3, "{own:?}");
    assert!((500_000..1_000_000).contains(&own.size_bytes), "{own:?}");
    assert_eq!(fs::read(files.join("small")).unwrap(), b"x\n", "the parent is as it was");
    assert!(disk.path().join("btrfs").metadata().unwrap().permissions().mode() & 0o7777 == 0o700);
}

#[test]
fn snp_19_views_are_read_only_subvolumes_and_layers_unpack_onto_their_parents() {
    let disk = Disk::new();
    let btrfs = Btrfs::open(&disk.path().join("btrfs")).unwrap();
    btrfs.ensure_directory(1, &[], Committed).unwrap();
    fs::write(btrfs.layer_root(1).join("file"), "one").unwrap();
    btrfs.ensure_directory(2, &[1], Committed).unwrap();
    fs::write(btrfs.layer_root(2).join("file"), "two").unwrap();
    btrfs.ensure_directory(3, &[2, 1], View).unwrap();
    let view = btrfs.layer_root(3);
    assert_eq!(fs::read_to_string(view.join("file")).unwrap(), "two");
    assert!(fs::write(view.join("file"), "x").is_err(), "also without its mount");
    assert_eq!(fs::metadata(&view).unwrap().ino(), 256, "a subvolume's top");
    for directory in [3, 2, 1] {
        btrfs.ensure_no_directory(directory).unwrap();
    }
    assert!(btrfs.directories().unwrap().is_empty());
}

#[test]
fn snp_7_subvolumes_that_a_container_made_go_with_its_own() {
    let disk = Disk::new();
    let btrfs = Btrfs::open(&disk.path().join("btrfs")).unwrap();
    btrfs.ensure_directory(1, &[], Active).unwrap();
    let script = "mkdir deep; btrfs -q subvolume create deep/one; btrfs -q subvolume create deep/one/two; \
        echo x > deep/one/two/file; btrfs property set deep/one/two ro true; btrfs property set deep/one ro true";
    shell(&btrfs.layer_root(1), script);
    // Half removed, as after a crash.
    fs::rename(disk.path().join("btrfs/1"), disk.path().join("btrfs/1.gone")).unwrap();
    for _ in 0..2 {
        btrfs.ensure_no_directory(1).unwrap();
    }
    assert!(btrfs.directories().unwrap().is_empty());
    let list = Command::new("btrfs").args(["subvolume", "list"]).arg(disk.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&list.stdout), "", "none is left");
}
