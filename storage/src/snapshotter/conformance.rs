//! SNP-24: what every snapshotter does, whatever it is made of. With real mounts; needs root.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use bosun_types::ErrorClass;
use bosun_types::snapshot::SnapshotKind::{Active, Committed, View};
use bosun_types::user_namespace::{IdMaps, IdRange};
use nix::mount::{MntFlags, umount2};

use super::btrfs::tests::Disk;
use super::overlay::tests::perform;
use super::{Btrfs, Native, Overlay, Snapshotter};

/// Shows a snapshot to `look`, and hides it again.
fn shown<T>(
    snapshotter: &dyn Snapshotter,
    directory: u64,
    parents: &[u64],
    kind: bosun_types::snapshot::SnapshotKind,
    look: impl FnOnce(&Path) -> T,
) -> T {
    let target = tempfile::tempdir().unwrap();
    let mounts = snapshotter.mounts(directory, parents, kind).unwrap();
    assert_eq!(mounts, snapshotter.mounts(directory, parents, kind).unwrap(), "SNP-5: always the same");
    perform(&mounts, target.path());
    let seen = look(target.path());
    umount2(target.path(), MntFlags::MNT_DETACH).unwrap();
    seen
}

fn each(check: impl Fn(&dyn Snapshotter)) {
    let (root, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let snapshotters: [Box<dyn Snapshotter>; 3] = [
        Box::new(Overlay::open(&root.path().join("overlayfs")).unwrap()),
        Box::new(Native::open(&root.path().join("native")).unwrap()),
        Box::new(Btrfs::open(&disk.path().join("btrfs")).unwrap()),
    ];
    for snapshotter in snapshotters {
        println!("{}", snapshotter.name());
        check(snapshotter.as_ref());
    }
}

fn text(root: &Path, name: &str) -> Option<String> {
    fs::read_to_string(root.join(name)).ok()
}

#[test]
fn snp_24_children_see_their_parents_and_change_nothing_of_them() {
    each(|it| {
        it.ensure_directory(1, &[], Active).unwrap();
        shown(it, 1, &[], Active, |root| {
            fs::write(root.join("kept"), "one").unwrap();
            fs::write(root.join("changed"), "one").unwrap();
            fs::write(root.join("removed"), "one").unwrap();
            fs::create_dir(root.join("dir")).unwrap();
            fs::write(root.join("dir/below"), "one").unwrap();
        });
        it.sync(1).unwrap();
        it.ensure_directory(2, &[1], Active).unwrap();
        shown(it, 2, &[1], Active, |root| {
            fs::write(root.join("changed"), "two").unwrap();
            fs::remove_file(root.join("removed")).unwrap();
            fs::remove_dir_all(root.join("dir")).unwrap();
            fs::write(root.join("added"), "two").unwrap();
        });
        it.sync(2).unwrap();
        it.ensure_directory(3, &[2, 1], View).unwrap();
        it.ensure_directory(4, &[2, 1], Active).unwrap();
        for (directory, kind) in [(3, View), (4, Active)] {
            shown(it, directory, &[2, 1], kind, |root| {
                let found = ["kept", "changed", "removed", "added", "dir/below"].map(|name| text(root, name));
                let two = Some("two".to_owned());
                assert_eq!(found, [Some("one".to_owned()), two.clone(), None, two, None]);
                assert_eq!(fs::write(root.join("new"), "").is_ok(), kind == Active, "a view is read-only");
            });
        }
        it.ensure_directory(5, &[1], View).unwrap();
        shown(it, 5, &[1], View, |root| {
            assert_eq!(text(root, "changed").as_deref(), Some("one"));
            assert_eq!(text(root, "dir/below").as_deref(), Some("one"));
        });
    });
}

#[test]
fn snp_24_files_of_every_kind_come_through_with_what_belongs_to_them() {
    each(|it| {
        it.ensure_directory(1, &[], Active).unwrap();
        shown(it, 1, &[], Active, |root| {
            let file = root.join("file");
            fs::write(&file, vec![7; 100_000]).unwrap();
            std::os::unix::fs::chown(&file, Some(1000), Some(1001)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o4711)).unwrap();
            fs::hard_link(&file, root.join("other name")).unwrap();
            symlink("/not/there", root.join("link")).unwrap();
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
            nix::unistd::mkfifo(&root.join("fifo"), mode).unwrap();
            fs::create_dir(root.join("sticky")).unwrap();
            fs::set_permissions(root.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
            fs::set_permissions(root, fs::Permissions::from_mode(0o750)).unwrap();
        });
        it.ensure_directory(2, &[1], Active).unwrap();
        shown(it, 2, &[1], Active, |root| {
            let file = fs::metadata(root.join("file")).unwrap();
            assert_eq!(
                (file.uid(), file.gid(), file.mode() & 0o7777, file.len()),
                (1000, 1001, 0o4711, 100_000)
            );
            assert_eq!((file.nlink(), file.ino()), (2, fs::metadata(root.join("other name")).unwrap().ino()));
            assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("/not/there"));
            assert!(fs::metadata(root.join("fifo")).unwrap().file_type().is_fifo());
            assert_eq!(fs::metadata(root.join("sticky")).unwrap().mode() & 0o7777, 0o1777);
            assert_eq!(
                fs::metadata(root).unwrap().mode() & 0o7777,
                0o750,
                "SNP-14: the root is its parent's"
            );
        });
    });
}

#[test]
fn snp_24_every_step_may_be_repeated_and_leaves_nothing() {
    each(|it| {
        for _ in 0..2 {
            it.ensure_directory(1, &[], Committed).unwrap();
        }
        fs::write(it.layer_root(1).join("file"), vec![1; 10_000]).unwrap();
        it.ensure_directory(2, &[1], Active).unwrap();
        shown(it, 2, &[1], Active, |root| fs::write(root.join("mine"), "x").unwrap());
        it.ensure_directory(2, &[1], Active).unwrap();
        shown(it, 2, &[1], Active, |root| assert_eq!(text(root, "mine").as_deref(), Some("x")));
        assert_eq!(it.directories().unwrap(), [1, 2]);
        assert!(it.usage(1, &[]).unwrap().size_bytes >= 10_000);
        let missing = it.ensure_directory(3, &[77], Active).expect_err("no such parent");
        assert_eq!(missing.class(), ErrorClass::NotFound);
        for directory in [3, 2, 1, 1] {
            it.ensure_no_directory(directory).unwrap();
        }
        assert_eq!(it.directories().unwrap(), [0_u64; 0]);
        assert_eq!(it.usage(1, &[]).expect_err("gone").class(), ErrorClass::NotFound);
    });
}

/// What a child does to files that are its parent's, one word of SNP-24 after the other.
#[test]
fn snp_24_children_change_move_and_replace_what_their_parents_have() {
    each(|it| {
        it.ensure_directory(1, &[], Active).unwrap();
        shown(it, 1, &[], Active, |root| {
            for directory in ["dir", "gone/deep", "again"] {
                fs::create_dir_all(root.join(directory)).unwrap();
            }
            for file in ["dir/file", "gone/deep/file", "again/old", "owned", "moved"] {
                fs::write(root.join(file), "one").unwrap();
            }
        });
        it.sync(1).unwrap();
        it.ensure_directory(2, &[1], Active).unwrap();
        shown(it, 2, &[1], Active, |root| {
            // Chown.
            std::os::unix::fs::chown(root.join("owned"), Some(77), Some(78)).unwrap();
            // DirectoryPermissionOnCommit.
            fs::set_permissions(root.join("dir"), fs::Permissions::from_mode(0o2750)).unwrap();
            // RemoveDirectoryInLowerLayer, and another in its place.
            fs::remove_dir_all(root.join("gone")).unwrap();
            fs::remove_dir_all(root.join("again")).unwrap();
            fs::create_dir(root.join("again")).unwrap();
            fs::write(root.join("again/new"), "two").unwrap();
            // MoveFileFromLowerLayer, Rename.
            fs::rename(root.join("moved"), root.join("dir/here")).unwrap();
            fs::create_dir(root.join("first")).unwrap();
            fs::write(root.join("first/file"), "two").unwrap();
            fs::rename(root.join("first"), root.join("second")).unwrap();
        });
        it.sync(2).unwrap();
        it.ensure_directory(3, &[2, 1], Active).unwrap();
        it.ensure_directory(4, &[2, 1], View).unwrap();
        for (directory, kind) in [(3, Active), (4, View)] {
            shown(it, directory, &[2, 1], kind, |root| {
                let owned = fs::metadata(root.join("owned")).unwrap();
                assert_eq!((owned.uid(), owned.gid()), (77, 78));
                assert_eq!(fs::metadata(root.join("dir")).unwrap().mode() & 0o7777, 0o2750);
                assert!(!root.join("gone").exists() && !root.join("moved").exists());
                let names = ["again/old", "again/new", "dir/file", "dir/here", "first", "second/file"];
                let (one, two) = (Some("one".to_owned()), Some("two".to_owned()));
                assert_eq!(
                    names.map(|name| text(root, name)),
                    [None, two.clone(), one.clone(), one, None, two]
                );
            });
        }
        // What was its parent's is as it was.
        it.ensure_directory(5, &[1], View).unwrap();
        shown(it, 5, &[1], View, |root| {
            assert_eq!(text(root, "gone/deep/file").as_deref(), Some("one"));
            assert_eq!(
                (text(root, "moved").as_deref(), root.join("again/old").exists()),
                (Some("one"), true)
            );
        });
    });
}

#[test]
fn snp_17_a_hundred_and_fifty_layers_are_seen_through() {
    each(|it| {
        const DEPTH: u64 = 150;
        let mut parents: Vec<u64> = Vec::new();
        for directory in 1..=DEPTH {
            it.ensure_directory(directory, &parents, Committed).unwrap();
            let files = it.layer_root(directory);
            fs::write(files.join(format!("file{directory}")), "").unwrap();
            fs::write(files.join("same"), directory.to_string()).unwrap();
            parents.insert(0, directory);
        }
        for (directory, kind) in [(DEPTH + 1, Active), (DEPTH + 2, View)] {
            it.ensure_directory(directory, &parents, kind).unwrap();
            shown(it, directory, &parents, kind, |root| {
                assert_eq!(text(root, "same").as_deref(), Some("150"));
                assert_eq!(fs::read_dir(root).unwrap().count() as u64, DEPTH + 1);
            });
        }
    });
}

/// CTR-15 as every snapshotter does it.
#[test]
fn ctr_15_a_layer_is_copied_for_other_users() {
    let range = |host| vec![IdRange { container: 0, host, size: 1000 }];
    let maps = IdMaps { uids: range(100_000), gids: range(200_000) };
    each(|it| {
        it.ensure_directory(1, &[], Committed).unwrap();
        fs::write(it.layer_root(1).join("file"), vec![1; 5000]).unwrap();
        it.ensure_directory(2, &[1], Committed).unwrap();
        fs::write(it.layer_root(2).join("above"), "two").unwrap();
        for _ in 0..2 {
            it.ensure_remapped(3, 2, &maps).unwrap();
        }
        let above = fs::metadata(it.layer_root(3).join("above")).unwrap();
        assert_eq!((above.uid(), above.gid()), (100_000, 200_000));
        assert_eq!(it.layer_root(3).join("file").exists(), !it.supports_independent_layers());
        assert_eq!(fs::metadata(it.layer_root(3)).unwrap().uid(), 100_000, "its top too");
        assert_eq!(fs::metadata(it.layer_root(2).join("above")).unwrap().uid(), 0);
        let missing = it.ensure_remapped(4, 77, &maps).expect_err("no such layer");
        assert_eq!(missing.class(), ErrorClass::NotFound);
        for directory in [4, 3] {
            it.ensure_no_directory(directory).unwrap();
        }
        assert_eq!(it.directories().unwrap(), [1, 2]);
    });
}
