//! Tests of the copy: what comes out is what GNU `cp -a` makes; as root.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use bosun_types::user_namespace::{IdMaps, IdRange};

use super::*;

fn copied(fill: impl FnOnce(&Path)) -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (from, to, aside) = (root.path().join("from"), root.path().join("to"), root.path().join("aside"));
    for directory in [&from, &to, &aside] {
        fs::create_dir(directory).unwrap();
    }
    fill(&from);
    copy(&from, &to, &aside, Owners::Same).unwrap();
    assert_eq!(fs::read_dir(&aside).unwrap().count(), 0, "nothing stays aside");
    (root, from, to)
}

#[test]
fn snp_18_everything_a_file_system_keeps_is_in_the_copy() {
    let (_root, from, to) = copied(|from| {
        fs::create_dir(from.join("d")).unwrap();
        fs::write(from.join("d/file"), vec![7; 100_000]).unwrap();
        fs::hard_link(from.join("d/file"), from.join("a-second-name")).unwrap();
        fs::hard_link(from.join("d/file"), from.join("third")).unwrap();
        symlink("../nowhere/at all", from.join("link")).unwrap();
        fs::hard_link(from.join("link"), from.join("link-2")).unwrap();
        let script = "mknod null c 1 3; mkfifo pipe; setfattr -n user.one -v 1 d; setfattr -n trusted.two -v 2 link -h; \
             setfattr -n user.long -v $(head -c 3000 /dev/zero | tr '\\0' x) third; \
             chown -h 5:6 link; chown 7:8 null; chmod 6755 d/file; chmod 1777 d; \
             touch -h -d '2001-02-03 04:05:06.123456789' link pipe d/file; touch -d '1969-01-01' d .";
        let status = Command::new("sh").args(["-ec", script]).current_dir(from).status().unwrap();
        assert!(status.success());
    });
    assert_eq!(described(&to), described(&from));
    let inode = |name: &str| fs::symlink_metadata(to.join(name)).unwrap().ino();
    assert_eq!((inode("d/file"), inode("d/file")), (inode("third"), inode("a-second-name")));
    assert_eq!(inode("link"), inode("link-2"));
    assert_ne!(inode("third"), fs::metadata(from.join("third")).unwrap().ino());
}

/// One line for each file, by tools that know nothing of ours.
fn described(root: &Path) -> String {
    let script = "find . -printf '%P %y %m %U %G %s %n %T@ %l\\n' | sort; find . -type f | sort | xargs sha256sum; \
         stat -c '%n %t %T' null; getfattr -Rhd -m - . | sort";
    let output = Command::new("sh").args(["-ec", script]).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn holes_stay_holes() {
    let length = (64 << 20) + 5;
    let (_root, from, to) = copied(|from| {
        use std::os::unix::fs::FileExt as _;
        let file = File::create(from.join("sparse")).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 33 << 20).unwrap();
        file.set_len(length).unwrap();
        File::create(from.join("only-a-hole")).unwrap().set_len(1 << 20).unwrap();
        File::create(from.join("empty")).unwrap();
    });
    let sparse = fs::metadata(to.join("sparse")).unwrap();
    assert_eq!(sparse.len(), length);
    assert!(sparse.blocks() < 1000, "{} blocks", sparse.blocks());
    assert!(fs::read(to.join("sparse")).unwrap() == fs::read(from.join("sparse")).unwrap());
    let hole = fs::metadata(to.join("only-a-hole")).unwrap();
    assert_eq!((hole.len(), hole.blocks()), (1 << 20, 0));
}

#[test]
fn a_link_whose_other_names_are_elsewhere_is_a_file_and_other_names_stay_theirs() {
    let (root, _, to) = copied(|from| {
        fs::write(from.join("file"), b"x").unwrap();
        fs::hard_link(from.join("file"), from.parent().unwrap().join("outside")).unwrap();
    });
    assert_eq!(fs::metadata(to.join("file")).unwrap().nlink(), 1);
    assert_eq!(fs::metadata(root.path().join("outside")).unwrap().nlink(), 2);
}

#[test]
fn a_default_list_of_rights_is_copied_not_inherited() {
    let (_root, from, to) = copied(|from| {
        let script = "mkdir d; touch d/before; setfattr -n system.posix_acl_default -v \
             0x0200000001000700ffffffff02000700010000000400050 d 2>/dev/null || true; touch d/after";
        assert!(Command::new("sh").args(["-ec", script]).current_dir(from).status().unwrap().success());
    });
    let modes = |root: &Path| {
        ["d", "d/before", "d/after"].map(|name| fs::metadata(root.join(name)).unwrap().permissions().mode())
    };
    assert_eq!(modes(&to), modes(&from));
}

#[test]
fn depth_is_no_matter() {
    const DEPTH: usize = 3000;
    let (_root, _, to) = copied(|from| {
        let mut here = nix::fcntl::open(from, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..DEPTH {
            mkdirat(&here, c"directory", Mode::S_IRWXU).unwrap();
            here = open_child_directory(here.as_fd(), &c"directory".to_owned()).unwrap();
        }
    });
    let mut here = nix::fcntl::open(&to, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        here = open_child_directory(here.as_fd(), &c"directory".to_owned()).unwrap();
    }
}

#[test]
fn ctr_15_a_copy_for_other_users_keeps_set_uid_bits_capabilities_and_links() {
    let range = |host| vec![IdRange { container: 0, host, size: 65_536 }];
    let maps = IdMaps { uids: range(100_000), gids: range(200_000) };
    let root = tempfile::tempdir().unwrap();
    let [from, to, aside] = ["from", "to", "aside"].map(|name| root.path().join(name));
    for directory in [&from, &to, &aside] {
        fs::create_dir(directory).unwrap();
    }
    // cap_net_raw+ep, of revision 2.
    let script = "echo x > tool; chown 1:2 tool; ln tool second; chmod 6755 tool; \
        setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 tool; \
        mknod whiteout c 0 0; ln -s nowhere link; chown -h 65535:65535 link; mkdir -m 1777 d; chown 3:4 d";
    let shell = |script: &str| Command::new("sh").args(["-ec", script]).current_dir(&from).status().unwrap();
    assert!(shell(script).success());
    copy(&from, &to, &aside, Owners::Mapped(&maps)).unwrap();
    let found = ["tool", "second", "whiteout", "link", "d", "."].map(|name| {
        let it = fs::symlink_metadata(to.join(name)).unwrap();
        (it.uid(), it.gid(), it.mode() & 0o7777)
    });
    let wanted = [
        (100_001, 200_002, 0o6755),
        (100_001, 200_002, 0o6755),
        (100_000, 200_000, 0o644),
        (165_535, 265_535, 0o777),
        (100_003, 200_004, 0o1777),
        (100_000, 200_000, fs::metadata(&from).unwrap().mode() & 0o7777),
    ];
    assert_eq!(found, wanted);
    let tool = fs::File::open(to.join("tool")).unwrap();
    let capability = xattr::get(tool.as_fd(), c"security.capability").unwrap();
    assert_eq!(capability, [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(shell("chown 65536 tool").success());
    fs::remove_dir_all(&to).unwrap();
    fs::create_dir(&to).unwrap();
    let error = copy(&from, &to, &aside, Owners::Mapped(&maps)).unwrap_err().to_string();
    assert!(error.contains("user 65536"), "{error}");
}
