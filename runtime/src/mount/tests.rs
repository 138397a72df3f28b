//! Options, and real mounts: this needs root, as the daemon does.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use super::*;

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn mount_of(kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount { kind: kind.into(), source: source.into(), target: String::new(), options: words(options) }
}

#[test]
fn mnt_2_what_is_no_flag_word_is_data() {
    let options =
        words(&["rbind", "ro", "nosuid", "suid", "defaults", "rslave", "lowerdir=/a:/b", "index=off"]);
    let parsed = parse(&options);
    assert_eq!(parsed.flags, MsFlags::MS_BIND | MsFlags::MS_RDONLY);
    assert!(parsed.recursive);
    assert_eq!(parsed.propagation, Some(MsFlags::MS_SLAVE | MsFlags::MS_REC));
    assert_eq!(parsed.data, ["lowerdir=/a:/b", "index=off"]);
}

fn tree() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    for (layer, name) in [("lower1", "one"), ("lower2", "two"), ("upper", "three")] {
        fs::create_dir_all(directory.path().join(layer)).unwrap();
        fs::write(directory.path().join(layer).join(name), layer).unwrap();
    }
    fs::write(directory.path().join("upper/one"), "upper").unwrap();
    fs::create_dir_all(directory.path().join("work")).unwrap();
    let base = directory.path().to_str().unwrap().to_owned();
    (directory, base)
}

fn read_below(root: &std::os::fd::OwnedFd, name: &str) -> String {
    fs::read_to_string(format!("/proc/self/fd/{}/{name}", root.as_raw_fd())).unwrap()
}

#[test]
fn a_detached_overlay_shows_all_layers_and_is_in_nobodys_mount_table() {
    let (_directory, base) = tree();
    let data = format!("lowerdir={base}/lower2:{base}/lower1");
    let (upper, work) = (format!("upperdir={base}/upper"), format!("workdir={base}/work"));
    let mount = mount_of("overlay", "overlay", &[&data, &upper, &work, "index=off"]);
    let root = detached(&[mount]).unwrap();
    assert_eq!(read_below(&root, "one"), "upper");
    assert_eq!(read_below(&root, "two"), "lower2");
    assert_eq!(read_below(&root, "three"), "upper");
    assert!(fs::write(format!("/proc/self/fd/{}/four", root.as_raw_fd()), "").is_err(), "it is read-only");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&base));
}

#[test]
fn a_detached_overlay_takes_many_layers_with_long_names() {
    let directory = tempfile::tempdir().unwrap();
    let layers: Vec<String> = (0..100)
        .map(|number| {
            let path = directory.path().join(format!("{}-{number}", "x".repeat(60)));
            fs::create_dir(&path).unwrap();
            fs::write(path.join(format!("file{number}")), "").unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect();
    let root =
        detached(&[mount_of("overlay", "overlay", &[&format!("lowerdir={}", layers.join(":"))])]).unwrap();
    assert_eq!(read_below(&root, "file99"), "");
    assert_eq!(read_below(&root, "file0"), "");
}

#[test]
fn a_detached_bind_is_a_clone() {
    let (_directory, base) = tree();
    let root = detached(&[mount_of("bind", &format!("{base}/lower1"), &["rbind", "ro"])]).unwrap();
    assert_eq!(read_below(&root, "one"), "lower1");
    assert!(detached(&[]).is_err());
    assert!(detached(&[mount_of("tmpfs", "tmpfs", &[])]).is_err());
    let _ = root.as_fd();
}

#[test]
fn mnt_3_a_temporary_read_only_bind_goes_without_a_trace() {
    let (_directory, base) = tree();
    let state = tempfile::tempdir().unwrap();
    let mounted = TempMount::new(state.path(), &[mount_of("bind", &base, &["bind", "ro"])]).unwrap();
    let path = mounted.path().to_owned();
    assert_eq!(fs::read_to_string(path.join("lower1/one")).unwrap(), "lower1");
    assert!(fs::write(path.join("new"), "").is_err());
    drop(mounted);
    assert!(!path.exists());
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(path.to_str().unwrap()));
}

#[test]
fn mnt_5_leftovers_are_taken_at_the_next_start() {
    let (_directory, base) = tree();
    let state = tempfile::tempdir().unwrap();
    let bind = [mount_of("bind", &base, &["bind"])];
    let mounted = TempMount::new(state.path(), &bind).unwrap();
    perform(&bind, mounted.path()).unwrap();
    let path = mounted.path().to_owned();
    std::mem::forget(mounted);
    assert!(ensure_no_temporary(state.path()).is_empty());
    assert!(!path.exists() && fs::exists(format!("{base}/lower1/one")).unwrap());
    unmount(&path).unwrap();
    assert!(ensure_no_temporary(state.path()).is_empty());
}

#[test]
fn mnt_4_a_busy_mount_is_tried_for_a_while_and_all_that_is_stacked_comes_off() {
    let (_directory, base) = tree();
    let target = tempfile::tempdir().unwrap();
    let bind = [mount_of("bind", &base, &["bind"])];
    for _ in 0..3 {
        perform(&bind, target.path()).unwrap();
    }
    let held = fs::File::open(target.path().join("lower1/one")).unwrap();
    let begin = std::time::Instant::now();
    let error = unmount(target.path()).expect_err("it is in use");
    assert!(begin.elapsed() >= UNMOUNT_PAUSE * (u32::try_from(UNMOUNT_TRIES).unwrap() - 1));
    assert!(error.to_string().contains("unmount"), "{error}");
    drop(held);
    unmount(target.path()).unwrap();
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(target.path().to_str().unwrap()));
    unmount(target.path()).unwrap();
    unmount(&target.path().join("not there")).unwrap();
}

#[test]
fn mnt_5_a_busy_leftover_is_reported_and_no_obstacle() {
    let (_directory, base) = tree();
    let state = tempfile::tempdir().unwrap();
    let bind = [mount_of("bind", &base, &["bind"])];
    let (busy, idle) =
        (TempMount::new(state.path(), &bind).unwrap(), TempMount::new(state.path(), &bind).unwrap());
    let held = fs::File::open(busy.path().join("lower1/one")).unwrap();
    let (busy_path, idle_path) = (busy.path().to_owned(), idle.path().to_owned());
    std::mem::forget((busy, idle));
    assert_eq!(ensure_no_temporary(state.path()).len(), 1);
    assert!(busy_path.join("lower1/one").exists() && !idle_path.exists());
    drop(held);
    assert!(ensure_no_temporary(state.path()).is_empty() && !busy_path.exists());
    assert!(fs::exists(format!("{base}/lower1/one")).unwrap(), "rmdir, never recursively");
}
