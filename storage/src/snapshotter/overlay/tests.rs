//! Tests of the overlayfs snapshotter; they mount for real and need root.

use bosun_types::ErrorClass;
use nix::mount::{MsFlags, mount, umount};
use tempfile::TempDir;

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn overlay() -> (TempDir, Overlay) {
    let root = tempfile::tempdir().unwrap();
    let overlay = Overlay::open(&root.path().join("snapshots")).unwrap();
    (root, overlay)
}

/// What a mount performer does with the words these mounts have.
pub(in crate::snapshotter) fn perform(what: &[Mount], target: &Path) {
    let [only] = what else { panic!("one mount") };
    let data: Vec<&str> = only
        .options
        .iter()
        .map(String::as_str)
        .filter(|word| !matches!(*word, "rw" | "ro" | "rbind"))
        .collect();
    let flags = if only.kind == "bind" { MsFlags::MS_BIND | MsFlags::MS_REC } else { MsFlags::empty() };
    let mut data = data.join(",");
    // More than the page that the kernel takes: shorter by the layers' common directory. The tests that come here have
    // a working directory of their own, see `btrfs::tests::Disk`.
    let base = data.split(',').find_map(|word| word.strip_prefix("lowerdir=")?.split(':').next());
    let base = base.and_then(|layer| Some(Path::new(layer).parent()?.parent()?.to_owned()));
    if let Some(base) = base.filter(|_| data.len() > 4000) {
        std::env::set_current_dir(&base).unwrap();
        data = data.replace(&format!("{}/", base.display()), "");
    }
    mount(Some(only.source.as_str()), target, Some(only.kind.as_str()), flags, Some(data.as_str())).unwrap();
    if only.options.iter().any(|word| word == "ro") {
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, target, None::<&str>, read_only, None::<&str>).unwrap();
    }
}

#[test]
fn snp_11_snp_12_snp_13_mounts_have_containerds_words_in_its_order() {
    let (root, overlay) = overlay();
    let overlay = Overlay { common_options: vec!["index=off".to_owned()], ..overlay };
    let fs_of = |n: u64| root.path().join(format!("snapshots/{n}/fs")).display().to_string();
    let only = |kind, parents: &[u64]| {
        let mounts = overlay.mounts(9, parents, kind).unwrap();
        assert_eq!(mounts, overlay.mounts(9, parents, kind).unwrap(), "SNP-5: always the same");
        let [mount] = mounts.as_slice() else { panic!("one mount") };
        (mount.kind.clone(), mount.source.clone(), mount.options.clone())
    };
    let bind =
        |source: String, word: &str| ("bind".to_owned(), source, vec![word.to_owned(), "rbind".to_owned()]);
    assert_eq!(only(SnapshotKind::Active, &[]), bind(fs_of(9), "rw"));
    assert_eq!(only(SnapshotKind::View, &[]), bind(fs_of(9), "ro"));
    assert_eq!(only(SnapshotKind::View, &[3]), bind(fs_of(3), "ro"));
    let (kind, source, options) = only(SnapshotKind::Active, &[3, 2, 1]);
    assert_eq!((kind.as_str(), source.as_str()), ("overlay", "overlay"));
    let wanted = [
        "index=off".to_owned(),
        format!("workdir={}", root.path().join("snapshots/9/work").display()),
        format!("upperdir={}", fs_of(9)),
        format!("lowerdir={}:{}:{}", fs_of(3), fs_of(2), fs_of(1)),
    ];
    assert_eq!(options, wanted);
    let (_, _, options) = only(SnapshotKind::View, &[3, 2]);
    assert_eq!(options, ["index=off".to_owned(), format!("lowerdir={}:{}", fs_of(3), fs_of(2))]);
}

#[test]
fn snp_14_directories_have_their_modes_and_the_upper_roots_are_the_parents() {
    let (root, overlay) = overlay();
    let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().mode() & 0o7777;
    overlay.ensure_directory(1, &[], SnapshotKind::Committed).unwrap();
    std::os::unix::fs::chown(overlay.layer_root(1), Some(1000), Some(1001)).unwrap();
    overlay.ensure_directory(2, &[1], SnapshotKind::Active).unwrap();
    assert_eq!((mode("snapshots"), mode("snapshots/1"), mode("snapshots/1/fs")), (0o700, 0o700, 0o755));
    assert_eq!((mode("snapshots/2/fs"), mode("snapshots/2/work")), (0o755, 0o711));
    assert!(!root.path().join("snapshots/1/work").exists());
    let upper = fs::metadata(overlay.layer_root(2)).unwrap();
    assert_eq!((upper.uid(), upper.gid()), (1000, 1001));
    let missing = overlay.ensure_directory(3, &[77], SnapshotKind::Active).expect_err("no such parent");
    assert_eq!(missing.class(), ErrorClass::NotFound);
}

#[test]
fn ensure_and_ensure_not_may_be_repeated_and_half_made_directories_are_seen() {
    let (root, overlay) = overlay();
    overlay.ensure_directory(1, &[], SnapshotKind::Active).unwrap();
    fs::write(overlay.layer_root(1).join("file"), b"kept").unwrap();
    overlay.ensure_directory(1, &[], SnapshotKind::Active).unwrap();
    assert!(overlay.layer_root(1).join("file").exists());
    // As crashes leave them: half made, half removed.
    fs::create_dir_all(root.path().join("snapshots/2.new/fs/rubbish")).unwrap();
    fs::create_dir_all(root.path().join("snapshots/3.gone/fs/rubbish")).unwrap();
    fs::write(root.path().join("snapshots/not-ours"), b"").unwrap();
    assert_eq!(overlay.directories().unwrap(), [1, 2, 3]);
    overlay.ensure_directory(2, &[], SnapshotKind::Committed).unwrap();
    assert!(!overlay.layer_root(2).join("rubbish").exists());
    for directory in [1, 2, 3, 3, 4] {
        overlay.ensure_no_directory(directory).unwrap();
    }
    assert!(overlay.directories().unwrap().is_empty());
    assert_eq!(overlay.usage(1, &[]).expect_err("gone").class(), ErrorClass::NotFound);
    assert_eq!(overlay.sync(1).expect_err("gone").class(), ErrorClass::NotFound);
}

#[test]
fn snp_10_usage_counts_hard_links_once() {
    let (_root, overlay) = overlay();
    overlay.ensure_directory(1, &[], SnapshotKind::Active).unwrap();
    let layer = overlay.layer_root(1);
    let empty = overlay.usage(1, &[]).unwrap();
    fs::write(layer.join("a"), vec![1; 100_000]).unwrap();
    overlay.sync(1).unwrap();
    let one = overlay.usage(1, &[]).unwrap();
    assert_eq!(one.inodes, empty.inodes + 1);
    assert!(one.size_bytes - empty.size_bytes >= 100_000);
    fs::create_dir(layer.join("d")).unwrap();
    let before = overlay.usage(1, &[]).unwrap();
    fs::hard_link(layer.join("a"), layer.join("d/b")).unwrap();
    assert_eq!(overlay.usage(1, &[]).unwrap(), before);
}

#[test]
fn a_container_writes_above_its_layers_for_real() {
    let (root, overlay) = overlay();
    let target = root.path().join("target");
    fs::create_dir(&target).unwrap();
    for layer in 1..=3u64 {
        overlay.ensure_directory(layer, &[], SnapshotKind::Committed).unwrap();
        fs::write(overlay.layer_root(layer).join("common"), layer.to_string()).unwrap();
        fs::write(overlay.layer_root(layer).join(format!("only-{layer}")), b"").unwrap();
    }
    overlay.ensure_directory(4, &[3, 2, 1], SnapshotKind::Active).unwrap();
    perform(&overlay.mounts(4, &[3, 2, 1], SnapshotKind::Active).unwrap(), &target);
    assert_eq!(fs::read(target.join("common")).unwrap(), b"3");
    fs::remove_file(target.join("only-1")).unwrap();
    fs::write(target.join("new"), b"").unwrap();
    fs::set_permissions(target.join("only-2"), fs::Permissions::from_mode(0o600)).unwrap();
    umount(&target).unwrap();
    assert!(overlay.layer_root(1).join("only-1").exists(), "layers do not change");
    assert_eq!(overlay.usage(4, &[3, 2, 1]).unwrap().inodes, 4, "root, whiteout, new, copied up");
    // Committed, it is a layer like any other; a view shows all of them read-only.
    perform(&overlay.mounts(5, &[4, 3, 2, 1], SnapshotKind::View).unwrap(), &target);
    assert!(!target.join("only-1").exists() && target.join("new").exists());
    let refused = fs::write(target.join("x"), b"").expect_err("read-only");
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    umount(&target).unwrap();
    perform(&overlay.mounts(5, &[3], SnapshotKind::View).unwrap(), &target);
    assert!(fs::write(target.join("x"), b"").is_err());
    umount(&target).unwrap();
    overlay.ensure_no_directory(4).unwrap();
}

#[test]
fn snp_17_many_layers_still_fit_one_mount_from_the_usual_root() {
    let overlay = Overlay {
        place: Place::at(Path::new("/var/lib/bosun/snapshots/overlayfs")),
        common_options: vec!["index=off".to_owned()],
    };
    let parents: Vec<u64> = (1000..1127).collect();
    let options = overlay.mounts(2000, &parents, SnapshotKind::Active).unwrap().remove(0).options.join(",");
    // The performer makes the lower directories relative to the root; so they must lie in one place.
    let relative = options.replace("/var/lib/bosun/snapshots/overlayfs/", "");
    assert!(relative.len() < 4096, "{}", relative.len());
}

#[test]
fn snp_17_an_image_of_127_layers_mounts_for_real() {
    let (root, overlay) = overlay();
    let target = root.path().join("target");
    fs::create_dir(&target).unwrap();
    let parents: Vec<u64> = (1..=127).rev().collect();
    for layer in 1..=127 {
        overlay.ensure_directory(layer, &[], SnapshotKind::Committed).unwrap();
        fs::write(overlay.layer_root(layer).join(format!("of-{layer}")), b"").unwrap();
    }
    overlay.ensure_directory(128, &parents, SnapshotKind::Active).unwrap();
    let mount = overlay.mounts(128, &parents, SnapshotKind::Active).unwrap().remove(0);
    // As the mount performer does: from within the root, by relative names. A process of its own, for its directory.
    let prefix = format!("{}/", root.path().join("snapshots").display());
    let options = mount.options.join(",").replace(&prefix, "");
    let output = std::process::Command::new("mount")
        .current_dir(root.path().join("snapshots"))
        .env("LIBMOUNT_FORCE_MOUNT2", "always")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(&target)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = fs::read_dir(&target).unwrap().count();
    umount(&target).unwrap();
    assert_eq!(seen, 127);
}

#[test]
fn overlay_words_depend_on_the_kernel() {
    let parameters = tempfile::tempdir().unwrap();
    assert!(common_options(parameters.path()).is_empty());
    fs::write(parameters.path().join("index"), b"Y\n").unwrap();
    fs::write(parameters.path().join("metacopy"), b"N\n").unwrap();
    assert_eq!(common_options(parameters.path()), ["index=off"]);
    fs::write(parameters.path().join("metacopy"), b"Y\n").unwrap();
    assert_eq!(common_options(parameters.path()), ["index=off", "metacopy=off"]);
}

#[test]
fn snp_15_a_file_system_that_does_not_tell_types_is_refused_with_advice() {
    let disk = crate::snapshotter::btrfs::tests::Disk::of("ext4", &["-O", "^filetype"]);
    let error = Overlay::open(&disk.path().join("snapshots")).expect_err("no d_type");
    assert_eq!(error.class(), ErrorClass::FailedPrecondition);
    let told = bosun_types::Error::from(error);
    assert!(told.message.contains("d_type") && told.hint.is_some_and(|hint| hint.contains("ftype=1")));
}
