//! Tests of the archive code. They need root: owners, devices and `trusted.*` attributes.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use bosun_types::ErrorClass;
use tempfile::TempDir;

use super::*;

mod corpus;
mod differential;
mod hostile;
mod sparse;
mod whiteouts;

/// Raw archives: what an honest writer would not write.
#[derive(Default)]
struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    fn new() -> Self {
        Self::default()
    }

    fn header(kind: u8, path: &[u8], link: &[u8], size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        header.as_mut_bytes()[156] = kind;
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        header
    }

    fn raw(mut self, mut header: tar::Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn entry(self, kind: u8, path: &str, link: &str, data: &[u8]) -> Self {
        let header = Self::header(kind, path.as_bytes(), link.as_bytes(), data.len() as u64);
        self.raw(header, data)
    }

    fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(b'0', path, "", data)
    }

    fn directory(self, path: &str) -> Self {
        self.entry(b'5', path, "", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, b"")
    }

    /// A PAX header for the next entry.
    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let mut length = body;
            while length != body + length.to_string().len() {
                length = body + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry(b'x', "pax", "", &data)
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    fn unpack(self, target: &Path) -> Result<UnpackReport> {
        unpack(&self.end()[..], target, &UnpackOptions::default())
    }
}

/// A target, and beside it a file that nothing may touch.
struct World {
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::write(directory.path().join("secret"), b"untouched").unwrap();
        fs::set_permissions(directory.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        Self { directory }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.root().join(path)
    }

    fn assert_host_untouched(&self) {
        let secret = self.directory.path().join("secret");
        assert_eq!(fs::read(&secret).unwrap(), b"untouched");
        let metadata = fs::symlink_metadata(&secret).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.nlink(), metadata.uid()), (0o600, 1, 0));
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 2);
    }
}

fn xattr_of(path: &Path, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    xattr::get(fs::File::open(path).unwrap().as_fd(), name)
}

#[test]
fn mnt_9_content_owner_mode_and_times_arrive() {
    let world = World::new();
    let mut header = Tar::header(b'0', b"bin/tool", b"", 4);
    header.set_mode(0o4755);
    header.set_uid(1000);
    header.set_gid(70_000);
    let mut directory = Tar::header(b'5', b"bin/", b"", 0);
    directory.set_mode(0o1777);
    directory.set_uid(5);
    let report = Tar::new()
        .raw(directory, b"")
        .raw(header, b"tool")
        .symlink("bin/link", "tool")
        .unpack(&world.root())
        .unwrap();
    assert_eq!((report.entries, report.bytes), (3, 4));
    let tool = fs::metadata(world.at("bin/tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.gid()), (0o4755, 1000, 70_000));
    assert_eq!(tool.mtime(), 1_000_000_000);
    let bin = fs::metadata(world.at("bin")).unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.uid(), bin.mtime()), (0o1777, 5, 1_000_000_000));
    assert_eq!(fs::read_link(world.at("bin/link")).unwrap(), Path::new("tool"));
    assert_eq!(fs::symlink_metadata(world.at("bin/link")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn mnt_10_devices_are_made_or_left_out_by_option() {
    let mut null = Tar::header(b'3', b"dev/null", b"", 0);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    null.set_mode(0o666);
    let mut disk = Tar::header(b'4', b"dev/disk", b"", 0);
    disk.set_device_major(8).unwrap();
    disk.set_device_minor(300).unwrap();
    let archive = Tar::new().raw(null, b"").raw(disk, b"").entry(b'6', "dev/pipe", "", b"").end();
    let world = World::new();
    let report = unpack(&archive[..], &world.root(), &UnpackOptions::default()).unwrap();
    assert_eq!((report.devices_skipped, report.implicit_directories), (0, 1));
    let null = fs::metadata(world.at("dev/null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), null.mode() & 0o7777), (nix::sys::stat::makedev(1, 3), 0o666));
    let disk = fs::metadata(world.at("dev/disk")).unwrap();
    assert!(disk.file_type().is_block_device());
    assert_eq!(disk.rdev(), nix::sys::stat::makedev(8, 300));
    assert!(fs::metadata(world.at("dev/pipe")).unwrap().file_type().is_fifo());

    let without = World::new();
    let options = UnpackOptions { devices: false, ..UnpackOptions::default() };
    assert_eq!(unpack(&archive[..], &without.root(), &options).unwrap().devices_skipped, 2);
    assert!(!without.at("dev/null").exists() && without.at("dev/pipe").exists());
}

#[test]
fn mnt_9_xattrs_of_both_spellings_arrive_and_the_overlays_own_do_not() {
    let world = World::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0];
    let report = Tar::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattrs.user.old", b"spelling"),
            ("SCHILY.xattr.user.lines", b"a\nb\n12 path=evil\n"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ])
        .file("ping", b"")
        .pax(&[("SCHILY.xattr.trusted.note", b"on a link")])
        .symlink("link", "ping")
        .pax(&[("SCHILY.xattr.trusted.note", b"on a directory")])
        .directory("directory")
        .unpack(&world.root())
        .unwrap();
    assert_eq!(report.xattrs_skipped, 1);
    assert_eq!(xattr_of(&world.at("ping"), c"security.capability").unwrap(), capability);
    assert_eq!(xattr_of(&world.at("ping"), c"user.old").unwrap(), b"spelling");
    assert_eq!(xattr_of(&world.at("ping"), c"user.lines").unwrap(), b"a\nb\n12 path=evil\n");
    assert_eq!(xattr_of(&world.at("ping"), c"trusted.overlay.redirect"), None);
    assert_eq!(xattr_of(&world.at("directory"), c"trusted.note").unwrap(), b"on a directory");
}

#[test]
fn long_names_of_pax_and_gnu_are_read_and_pax_wins() {
    let world = World::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let gnu = format!("{}/{}", "e".repeat(200), "g".repeat(200));
    let mut gnu_data = gnu.clone().into_bytes();
    gnu_data.push(0);
    let target = "t".repeat(300);
    Tar::new()
        .pax(&[("path", long.as_bytes()), ("mtime", b"5.25"), ("uid", b"70000")])
        .file("short", b"pax")
        .entry(b'L', "././@LongLink", "", &gnu_data)
        .file("short", b"gnu")
        .entry(b'K', "././@LongLink", "", target.as_bytes())
        .symlink("link", "x")
        .entry(b'L', "././@LongLink", "", b"ignored")
        .pax(&[("path", b"both")])
        .file("short", b"both")
        .unpack(&world.root())
        .unwrap();
    assert_eq!(fs::read(world.at(&long)).unwrap(), b"pax");
    let metadata = fs::metadata(world.at(&long)).unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec(), metadata.uid()), (5, 250_000_000, 70_000));
    assert_eq!(fs::read(world.at(&gnu)).unwrap(), b"gnu");
    assert_eq!(fs::read_link(world.at("link")).unwrap(), Path::new(&target));
    assert_eq!(fs::read(world.at("both")).unwrap(), b"both");
    assert!(!world.at("short").exists() && !world.at("ignored").exists());
}

#[test]
fn mnt_8_the_last_entry_of_a_name_wins_and_directories_merge() {
    let world = World::new();
    Tar::new()
        .file("a", b"first")
        .file("a", b"second")
        .directory("b")
        .file("b/inside", b"")
        .file("b", b"now a file")
        .file("c", b"")
        .directory("c")
        .symlink("d", "c")
        .directory("d")
        .file("d/x", b"in d, not in c")
        .directory("e")
        .file("e/kept", b"")
        .directory("e")
        .unpack(&world.root())
        .unwrap();
    assert_eq!(fs::read(world.at("a")).unwrap(), b"second");
    assert_eq!(fs::read(world.at("b")).unwrap(), b"now a file");
    assert!(fs::symlink_metadata(world.at("d")).unwrap().is_dir());
    assert!(world.at("d/x").exists() && !world.at("c/x").exists());
    assert!(world.at("e/kept").exists());
    assert_eq!(fs::metadata(world.at("e")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn hard_links_share_an_inode_and_may_come_again() {
    let world = World::new();
    Tar::new()
        .file("a/file", b"data")
        .hard_link("b/link", "a/file")
        .hard_link("b/link", "./a/file")
        .hard_link("a/file", "a/file")
        .symlink("s", "a/file")
        .hard_link("link-to-link", "s")
        .unpack(&world.root())
        .unwrap();
    let (one, other) = (fs::metadata(world.at("a/file")).unwrap(), fs::metadata(world.at("b/link")).unwrap());
    assert_eq!((one.ino(), one.nlink()), (other.ino(), 2));
    assert!(fs::symlink_metadata(world.at("link-to-link")).unwrap().is_symlink());
}

#[test]
fn implied_directories_are_as_the_parent_layers_have_them() {
    let world = World::new();
    let parent = tempfile::tempdir().unwrap();
    fs::create_dir_all(parent.path().join("home/user")).unwrap();
    fs::set_permissions(parent.path().join("home/user"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(parent.path().join("home/user"), Some(1000), Some(1000)).unwrap();
    let options = UnpackOptions { parents: vec![parent.path().to_owned()], ..UnpackOptions::default() };
    let archive = Tar::new().file("home/user/new/file", b"").end();
    let report = unpack(&archive[..], &world.root(), &options).unwrap();
    assert_eq!(report.implicit_directories, 1);
    let user = fs::metadata(world.at("home/user")).unwrap();
    assert_eq!((user.mode() & 0o7777, user.uid()), (0o700, 1000));
    let new = fs::metadata(world.at("home/user/new")).unwrap();
    assert_eq!((new.mode() & 0o7777, new.uid()), (0o755, 0));
}

#[test]
fn an_empty_stream_and_bytes_after_the_end_are_fine() {
    let world = World::new();
    assert_eq!(unpack(&b""[..], &world.root(), &UnpackOptions::default()).unwrap().entries, 0);
    let mut archive = Tar::new().file("a", b"").end();
    archive.extend_from_slice(&[7; 5000]);
    let mut rest = &archive[..];
    unpack(&mut rest, &world.root(), &UnpackOptions::default()).unwrap();
    assert!(rest.is_empty(), "read to the end");
    // No end mark at all: many writers forget it.
    let archive = Tar::new().file("b", b"x").bytes;
    unpack(&archive[..], &world.root(), &UnpackOptions::default()).unwrap();
    assert!(world.at("b").exists());
}

#[test]
fn old_archives_hard_link_directory_is_used_and_removed() {
    let world = World::new();
    Tar::new()
        .directory(".wh..wh.plnk")
        .file(".wh..wh.plnk/1.2", b"shared")
        .hard_link("a", ".wh..wh.plnk/1.2")
        .file(".wh..wh.aufs", b"")
        .hard_link("b", ".wh..wh.plnk/1.2")
        .unpack(&world.root())
        .unwrap();
    assert_eq!(fs::read(world.at("b")).unwrap(), b"shared");
    assert_eq!(fs::metadata(world.at("a")).unwrap().nlink(), 2);
    assert_eq!(fs::read_dir(world.root()).unwrap().count(), 2);
}

#[test]
fn a_tree_deeper_than_the_stack_and_the_descriptors_is_removed() {
    let world = World::new();
    let root = fs::File::open(world.root()).unwrap();
    nix::sys::stat::mkdirat(&root, "deep", nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut here = root::open_child_directory(root.as_fd(), &c"deep".to_owned()).unwrap();
    for _ in 0..3000 {
        nix::sys::stat::mkdirat(&here, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
        here = root::open_child_directory(here.as_fd(), &c"d".to_owned()).unwrap();
    }
    let top = root::open_child_directory(root.as_fd(), &c"deep".to_owned()).unwrap();
    assert_eq!(tree::usage(top).unwrap().inodes, 3001);
    tree::remove(root.as_fd(), c"deep").unwrap();
    assert!(!world.at("deep").exists());
    tree::remove(root.as_fd(), c"deep").unwrap();
}

#[test]
fn removal_does_not_follow_links() {
    let world = World::new();
    fs::create_dir(world.at("d")).unwrap();
    symlink(world.directory.path(), world.at("d/up")).unwrap();
    let root = fs::File::open(world.root()).unwrap();
    tree::remove(root.as_fd(), c"d").unwrap();
    world.assert_host_untouched();
}
