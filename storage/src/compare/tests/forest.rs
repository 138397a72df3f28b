//! Random trees on a disk, random changes to them, and pictures of them to compare.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fmt::Write as _;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

use crate::archive::xattr;

/// A small generator (splitmix64): the same seed, the same trees.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// A few names, so that they meet; some too long for a header, together too long for its two fields.
fn name(random: &mut Random) -> OsString {
    let bytes = match random.below(12) {
        0 => [b"l".repeat(90), b"ong".to_vec()].concat(),
        1 => b"n".repeat(155),
        2 => b"with space and = and *glob".to_vec(),
        3 => "ümläut-名".as_bytes().to_vec(),
        other => format!("n{}", other % 6).into_bytes(),
    };
    OsString::from_vec(bytes)
}

/// Everything below `root`, directories before what is in them, `root` itself first.
pub(super) fn paths(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while next < found.len() {
        if fs::symlink_metadata(&found[next]).unwrap().is_dir() {
            let mut children: Vec<PathBuf> =
                fs::read_dir(&found[next]).unwrap().map(|entry| entry.unwrap().path()).collect();
            children.sort_unstable();
            found.extend(children);
        }
        next += 1;
    }
    found
}

fn directory(root: &Path, random: &mut Random) -> PathBuf {
    let mut all = paths(root);
    all.retain(|path| fs::symlink_metadata(path).unwrap().is_dir() && path.as_os_str().len() < 3000);
    random.pick(&all).clone()
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Makes something new under a random name, in the place of what is there.
fn create(root: &Path, random: &mut Random) {
    let path = directory(root, random).join(name(random));
    let links: Vec<PathBuf> = paths(root);
    remove(&path);
    match random.below(12) {
        0..3 => fs::create_dir(&path).unwrap(),
        3..6 => {
            let length = random.below(3000);
            fs::write(&path, (0..length).map(|_| random.next().to_le_bytes()[0]).collect::<Vec<u8>>())
                .unwrap();
        }
        6 => symlink(random.pick(&["n1", "/etc/passwd", "../../../..", "t".repeat(170).as_str()]), &path)
            .unwrap(),
        7 => {
            let kind = *random.pick(&[SFlag::S_IFCHR, SFlag::S_IFBLK, SFlag::S_IFIFO]);
            let device = if kind == SFlag::S_IFIFO {
                0
            } else {
                nix::sys::stat::makedev(1 + random.below(300), random.below(70_000))
            };
            mknod(&path, kind, Mode::from_bits_truncate(0o640), device).unwrap();
        }
        8 => {
            let file = fs::File::create(&path).unwrap();
            file.set_len(1 << (12 + random.below(12))).unwrap();
            let size = file.metadata().unwrap().len();
            for _ in 0..random.below(4) {
                file.write_all_at(b"island", random.below(size)).unwrap();
            }
        }
        _ => {
            let source = random.pick(&links);
            if fs::symlink_metadata(source).is_ok_and(|metadata| !metadata.is_dir()) {
                fs::hard_link(source, &path).unwrap();
            }
        }
    }
    if fs::symlink_metadata(&path).is_ok() {
        adorn(&path, random);
    }
}

/// Owner, attributes, mode and time of one file.
fn adorn(path: &Path, random: &mut Random) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let ids = [0, 1000, 70_000, 3_000_000_000];
    std::os::unix::fs::lchown(path, Some(*random.pick(&ids)), Some(*random.pick(&ids))).unwrap();
    if random.below(3) == 0 {
        let names: &[&str] = if metadata.is_file() || metadata.is_dir() {
            &["user.one", "trusted.two"]
        } else {
            &["trusted.two"]
        };
        let value = vec![b'v'; usize::try_from(random.below(40)).unwrap()];
        xattr::set_on_path_descriptor(
            open(path).as_fd(),
            &CString::new(*random.pick(names)).unwrap(),
            &value,
        )
        .unwrap();
    }
    if metadata.is_file() && random.below(6) == 0 {
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0];
        xattr::set_on_path_descriptor(open(path).as_fd(), c"security.capability", &capability).unwrap();
    }
    if !metadata.is_symlink() {
        let mode = *random.pick(&[0o644, 0o755, 0o4755, 0o2750, 0o1777, 0o000, 0o600]);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let second = *random.pick(&[-1000, 0, 1_600_000_000, 9_000_000_000]);
    // libarchive reads fractions of times before the epoch wrong.
    let nanoseconds = if second < 0 { 0 } else { i64::try_from(random.below(1_000_000_000)).unwrap() };
    let time = TimeSpec::new(second, nanoseconds);
    utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

fn open(path: &Path) -> std::os::fd::OwnedFd {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

/// A tree of some `count` files.
pub(super) fn grow(root: &Path, random: &mut Random, count: u64) {
    for _ in 0..count {
        create(root, random);
    }
}

/// Random changes to a tree.
pub(super) fn change(root: &Path, random: &mut Random, count: u64) {
    for _ in 0..count {
        let all = paths(root);
        let path = random.pick(&all).clone();
        let metadata = fs::symlink_metadata(&path).unwrap();
        match random.below(8) {
            0..3 => create(root, random),
            3 if path != root => remove(&path),
            // Removed and there again: an opaque directory.
            4 if path != root && metadata.is_dir() => {
                remove(&path);
                fs::create_dir(&path).unwrap();
                fs::write(path.join("fresh"), b"fresh").unwrap();
                adorn(&path, random);
            }
            5 if path != root && metadata.is_dir() => {
                // Where overlayfs refuses to rename a directory, nothing changes.
                let _ = fs::rename(&path, root.join("renamed"));
            }
            6 if metadata.is_file() && metadata.len() > 0 => {
                // Other bytes, everything else as before.
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(&[random.next().to_le_bytes()[0]], 0).unwrap();
                fs::set_permissions(&path, metadata.permissions()).unwrap();
                let time = TimeSpec::new(metadata.mtime(), metadata.mtime_nsec());
                utimensat(AT_FDCWD, &path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
            }
            _ if path != root => adorn(&path, random),
            _ => {}
        }
    }
}

/// No file of one tree takes more of the disk than the same file of the other: holes are still holes.
pub(super) fn assert_as_sparse(what: &str, got: &Path, expected: &Path) {
    for path in paths(expected).into_iter().skip(1) {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if !metadata.is_file() {
            continue;
        }
        let there = fs::symlink_metadata(got.join(path.strip_prefix(expected).unwrap())).unwrap();
        let (blocks, most) = (there.blocks(), metadata.blocks());
        assert!(blocks <= most, "{what}: {} takes {blocks} blocks, not {most}", path.display());
    }
}

/// Everything that is to be equal of two trees, as text by path: not the root itself (MNT-7).
pub(super) fn picture(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for path in paths(root).into_iter().skip(1) {
        let name = path.strip_prefix(root).unwrap().to_owned();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mut text = format!(
            "{:o} {}:{} {}.{:09} {:x}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.rdev()
        );
        if !metadata.is_dir() {
            let first = inodes.entry(metadata.ino()).or_insert_with(|| name.clone());
            write!(text, " is {}", first.display()).unwrap();
        }
        if metadata.is_file() {
            let bytes = fs::read(&path).unwrap();
            write!(text, " {} bytes {}", bytes.len(), crate::image::digest_of(&bytes)).unwrap();
        }
        if metadata.is_symlink() {
            write!(text, " -> {:?}", fs::read_link(&path).unwrap()).unwrap();
        }
        for (key, value) in xattr::all(open(&path).as_fd()).unwrap() {
            if !key.as_bytes().starts_with(b"trusted.overlay.") {
                write!(text, " {key:?}={:?}", std::ffi::OsStr::from_bytes(&value)).unwrap();
            }
        }
        found.insert(name, text);
    }
    found
}
