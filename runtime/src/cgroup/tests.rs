//! Detection by text; killing and removal in the machine's own cgroups.

use std::process::{Command, Stdio};

use super::*;

#[test]
fn layouts_are_told_from_mountinfo() {
    let v1 = "30 25 0:26 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer";
    let v2 = "31 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    let other = "32 25 0:28 / / rw - ext4 /dev/vda rw";
    assert_eq!(Cgroups::parse(&format!("{v1}\n{v2}\n{other}")).layout(), Layout::Hybrid);
    assert_eq!(Cgroups::parse(v1).layout(), Layout::V1);
    assert_eq!(Cgroups::parse(v2).layout(), Layout::V2);
    assert_eq!(Cgroups::parse(other).layout(), Layout::None);
    assert_eq!(Cgroups::parse(v1).hierarchies[0].kind, Kind::V1 { freezer: true });
}

#[test]
fn a_path_that_could_leave_or_is_the_root_group_is_refused() {
    let cgroups = Cgroups::detect().unwrap();
    for path in ["", "/", "relative", "/a/../b", "system.slice:bosun:id"] {
        assert!(cgroups.group(path).is_err(), "{path}");
    }
}

/// A group of its own in every hierarchy, with a process tree in it.
fn populated(name: &str) -> (Group, std::process::Child) {
    let group =
        Cgroups::detect().unwrap().group(&format!("/bosun-test-{}/n/{name}", std::process::id())).unwrap();
    let child = Command::new("sh")
        .args(["-c", "read go; sleep 1000 & sleep 1000 & wait"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    for directory in &group.directories {
        fs::create_dir_all(directory.path.join("below")).unwrap();
        let parents: Vec<&Path> = directory.path.ancestors().take(3).collect();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            for path in parents.iter().rev().copied().chain([directory.path.join("below").as_path()]) {
                let text = fs::read_to_string(path.parent().unwrap().join(file)).unwrap_or_default();
                let _ = fs::write(path.join(file), text.trim());
            }
        }
        fs::write(directory.path.join("below/cgroup.procs"), child.id().to_string()).unwrap();
    }
    (group, child)
}

#[test]
fn f16_everything_in_a_group_dies_and_the_group_goes_from_every_hierarchy() {
    let (group, mut child) = populated("kill");
    use std::io::Write as _;
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while group.pids().len() < 3 {
        assert!(Instant::now() < deadline, "the tree does not come up");
        std::thread::yield_now();
    }
    let cgroups = Cgroups::detect().unwrap();
    let parent = format!("/bosun-test-{}", std::process::id());
    assert_eq!(cgroups.containers_below(&parent).unwrap(), [("n".to_owned(), "kill".to_owned())]);
    // The shell is our child: its zombie leaves the group only when reaped.
    let reaping = std::thread::spawn(move || child.wait().unwrap());
    group.kill_all().unwrap();
    assert!(!reaping.join().unwrap().success());
    group.ensure_removed().unwrap();
    group.ensure_removed().unwrap();
    assert!(!group.exists());
    cgroups.group(&parent).unwrap().ensure_removed().unwrap();
}
