//! Findings from facts: pure.

use bosun_client::Version;

use super::facts::Facts;
use super::{Finding, Level, installed, tried};
use crate::output;

/// Below this the daemon gives up its reserve and refuses new things soon, in bytes.
const SPACE_LOW: u64 = 1 << 30;
/// Below this it does not start well, in bytes.
const SPACE_NONE: u64 = 64 << 20;
/// Each container takes some descriptors in the daemon; a thousand take this many.
const FILES_WANTED: u64 = 65_536;
/// A clock before this has never been set: 2025.
const CLOCK_MIN: u64 = 1_735_689_600;
/// A write this far ahead was made by another clock, in seconds.
const CLOCK_SLACK: u64 = 300;

type Judge = fn(&Facts) -> Finding;

/// Everything, in the order of its weight.
pub fn all(facts: &Facts) -> Vec<Finding> {
    const JUDGES: [Judge; 23] = [
        user,
        kernel,
        cgroup,
        tried::controllers,
        tried::overlayfs,
        tried::further_file_systems,
        root,
        installed::directories,
        space,
        shim,
        installed::shims,
        installed::runtimes,
        tried::exit_info,
        tried::birth,
        seccomp,
        tried::mac,
        tried::user_namespaces,
        tried::idmap,
        tried::criu,
        limits,
        socket,
        daemon,
        clock,
    ];
    JUDGES.iter().map(|judge| judge(facts)).collect()
}

pub(super) fn good(check: &'static str, found: impl Into<String>) -> Finding {
    Finding { check, level: Level::Ok, found: found.into(), consequence: None, advice: None }
}

pub(super) fn bad(
    level: Level,
    check: &'static str,
    found: impl Into<String>,
    consequence: &str,
    advice: &str,
) -> Finding {
    Finding {
        check,
        level,
        found: found.into(),
        consequence: Some(consequence.to_owned()),
        advice: Some(advice.to_owned()),
    }
}

fn user(facts: &Facts) -> Finding {
    match facts.uid {
        0 => good("user", "root"),
        uid => bad(
            Level::Warning,
            "user",
            format!("uid {uid}"),
            "bosund mounts and makes namespaces: it must be root; some checks below saw less than root does",
            "run `bosun doctor` as root to be sure",
        ),
    }
}

/// `6.1.0-13-amd64` → (6, 1).
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel(facts: &Facts) -> Finding {
    match version(&facts.kernel) {
        Some(version) if version >= (5, 12) => good("kernel", &facts.kernel),
        Some(version) if version >= (5, 6) => bad(
            Level::Warning,
            "kernel",
            &facts.kernel,
            "the kernel has no idmapped mounts (5.12): root file systems are copied for user namespaces",
            "use a kernel from 5.12 on",
        ),
        _ => bad(
            Level::Failure,
            "kernel",
            &facts.kernel,
            "the kernel has no pidfd (5.3) or no openat2 (5.6): processes cannot be held and layers not unpacked safely",
            "use a kernel from 5.6 on",
        ),
    }
}

fn cgroup(facts: &Facts) -> Finding {
    match (facts.cgroup_v2, facts.controllers.is_empty()) {
        (true, _) => good("cgroup", "version 2"),
        (false, false) => good("cgroup", "version 1"),
        (false, true) => bad(
            Level::Failure,
            "cgroup",
            "not mounted at /sys/fs/cgroup",
            "containers cannot be limited, frozen or counted",
            "mount it: mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

fn root(facts: &Facts) -> Finding {
    let kind = facts.root_type.as_deref().unwrap_or("unknown");
    let found = format!("{} on {kind}", facts.root.display());
    match kind {
        "nfs" | "cifs" | "9p" | "fuse" | "vfat" => bad(
            Level::Failure,
            "root",
            found,
            "a network or foreign file system keeps neither locks, syncs nor layers as the database and overlayfs need them",
            "put the root on ext4, xfs or btrfs: bosund --root DIR",
        ),
        "overlay" => bad(
            Level::Warning,
            "root",
            found,
            "overlayfs on overlayfs is refused by most kernels",
            "put the root on another file system, or use --snapshotter native",
        ),
        "tmpfs" => {
            bad(Level::Warning, "root", found, "everything is lost at a reboot", "put the root on a disk")
        }
        "btrfs" => good("root", format!("{found}: native copies share their blocks")),
        _ => good("root", found),
    }
}

fn space(facts: &Facts) -> Finding {
    let Some((free, total)) = facts.space else {
        return bad(
            Level::Warning,
            "space",
            "unknown",
            "it cannot be told how much there is",
            "look with df",
        );
    };
    let found = format!("{} free of {}", output::size(free), output::size(total));
    let few_inodes = facts.inodes.is_some_and(|(free, total)| total > 0 && free < total / 50);
    match free {
        free if free < SPACE_NONE => bad(
            Level::Failure,
            "space",
            found,
            "the daemon refuses pulls, new containers and tasks",
            "free space: bosun images rm, or a larger disk",
        ),
        free if free < SPACE_LOW => bad(
            Level::Warning,
            "space",
            found,
            "a pull of an ordinary image may not fit",
            "free space, or a larger disk",
        ),
        _ if few_inodes => bad(
            Level::Warning,
            "space",
            format!("{found}, but few inodes"),
            "layers of many small files may not fit",
            "make the file system with more inodes (mkfs.ext4 -i), or use xfs or btrfs",
        ),
        _ => good("space", found),
    }
}

fn shim(facts: &Facts) -> Finding {
    match &facts.shim {
        Some(path) => good("shim", path.display().to_string()),
        None => bad(
            Level::Warning,
            "shim",
            "bosun-shim is neither beside bosun nor on the path",
            "no container can be started, unless bosund is told where it is",
            "install it beside bosund, or bosund --shim PATH",
        ),
    }
}

fn seccomp(facts: &Facts) -> Finding {
    let filters = facts.seccomp_actions.contains("errno");
    match (facts.seccomp, filters) {
        (true, true) => good("seccomp", "filters"),
        _ => bad(
            Level::Failure,
            "seccomp",
            "the kernel has no seccomp filters",
            "containers would run without their system call filter: they are refused, except with --seccomp unconfined or --privileged",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
    }
}

fn limits(facts: &Facts) -> Finding {
    let Some((soft, hard)) = facts.files else { return good("limits", "unknown") };
    let found = format!(
        "{soft} open files (at most {hard}), {} pids, {} inotify instances",
        facts.pid_max.unwrap_or(0),
        facts.inotify_instances.unwrap_or(0)
    );
    if hard < FILES_WANTED {
        return bad(
            Level::Warning,
            "limits",
            found,
            "the daemon holds some descriptors for each container: beyond some hundreds it runs out",
            "LimitNOFILE=1048576 in its unit, or ulimit -Hn",
        );
    }
    if facts.pid_max.is_some_and(|most| most < 32_768) {
        let advice = "sysctl kernel.pid_max=4194304";
        return bad(Level::Warning, "limits", found, "there are few pids for many containers", advice);
    }
    good("limits", found)
}

fn socket(facts: &Facts) -> Finding {
    let address = facts.address.display();
    let Some((uid, gid, mode)) = facts.socket else {
        return bad(
            Level::Warning,
            "socket",
            format!("{address} is not there"),
            "no client reaches a daemon there",
            "start bosund, or give --address",
        );
    };
    let found = format!("{address}: {uid}:{gid} {mode:04o}");
    if mode & 0o002 != 0 {
        return bad(
            Level::Failure,
            "socket",
            found,
            "everybody on this host may use it: whoever may create containers can be root",
            "rpc.mode = \"0660\" and rpc.gid of a trusted group in the configuration",
        );
    }
    good("socket", found)
}

fn daemon(facts: &Facts) -> Finding {
    match &facts.daemon {
        None => good("daemon", "not asked"),
        Some(Err(error)) => bad(
            Level::Warning,
            "daemon",
            error,
            "bosun's other commands need it",
            "start bosund; its log says why it ends, if it does",
        ),
        Some(Ok(daemon)) => {
            let ours = env!("CARGO_PKG_VERSION");
            let found = format!("version {}, protocol {}", daemon.version, daemon.protocol);
            if let Some(why) = &daemon.read_only {
                let advice = "see docs/operations: the database is read-only";
                return bad(
                    Level::Failure,
                    "daemon",
                    format!("{found}, read-only: {why}"),
                    "nothing can be changed",
                    advice,
                );
            }
            if daemon.protocol != Version::client_protocol() || daemon.version != ours {
                let advice = "install both from one release, and restart bosund: containers go on";
                return bad(
                    Level::Warning,
                    "daemon",
                    found,
                    &format!("this bosun is {ours}: what one has the other may lack"),
                    advice,
                );
            }
            if daemon.parked > 0 {
                let found = format!("{found}, {} operations parked", daemon.parked);
                let advice = "bosun operations says why; then retry or forget them";
                return bad(Level::Warning, "daemon", found, "they wait for a person", advice);
            }
            good("daemon", found)
        }
    }
}

fn clock(facts: &Facts) -> Finding {
    if facts.now < CLOCK_MIN {
        let advice = "set it: chronyd, or date -s";
        return bad(
            Level::Failure,
            "clock",
            "it was never set",
            "registries' certificates are not valid yet",
            advice,
        );
    }
    match facts.newest_write {
        Some(write) if write > facts.now + CLOCK_SLACK => bad(
            Level::Warning,
            "clock",
            format!("the database was written {} s ahead of it", write - facts.now),
            "it was set back: ages, logs by time and events by time are wrong until it has caught up",
            "keep it by NTP",
        ),
        _ => good("clock", "plausible"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::super::facts::DaemonFacts;
    use super::*;

    fn set(words: &str) -> BTreeSet<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    /// A host on which all is well.
    fn host() -> Facts {
        let daemon = DaemonFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: Version::client_protocol(),
            ..DaemonFacts::default()
        };
        Facts {
            uid: 0,
            kernel: "6.15.0-13-amd64".to_owned(),
            file_systems: set("overlay ext4"),
            cgroup_v2: true,
            controllers: set("cpu memory pids io"),
            seccomp: true,
            seccomp_actions: set("kill errno allow"),
            apparmor: true,
            selinux: false,
            user_namespaces_max: Some(15_000),
            criu: Some("Version: 3.17".to_owned()),
            shim: Some(PathBuf::from("/usr/bin/bosun-shim")),
            root: PathBuf::from("/var/lib/bosun"),
            root_type: Some("ext4".to_owned()),
            space: Some((50 << 30, 100 << 30)),
            inodes: Some((900, 1000)),
            files: Some((1024, 1_048_576)),
            pid_max: Some(4_194_304),
            inotify_instances: Some(128),
            address: PathBuf::from("/run/bosun/bosun.sock"),
            socket: Some((0, 0, 0o660)),
            daemon: Some(Ok(daemon)),
            now: CLOCK_MIN + 1,
            newest_write: Some(CLOCK_MIN),
            ..Facts::default()
        }
    }

    #[test]
    fn a_good_host_has_nothing_to_say() {
        let findings = all(&host());
        let not_good: Vec<_> = findings.iter().filter(|finding| finding.level != Level::Ok).collect();
        assert!(not_good.is_empty(), "{not_good:?}");
    }

    #[test]
    fn each_lack_is_found_with_its_consequence_and_advice() {
        let daemon = |change: fn(&mut DaemonFacts)| {
            let mut facts = host().daemon.and_then(Result::ok).expect("one");
            change(&mut facts);
            Some(Ok(facts))
        };
        let cases: Vec<(&str, Level, Facts)> = vec![
            ("user", Level::Warning, Facts { uid: 1000, ..host() }),
            ("kernel", Level::Failure, Facts { kernel: "4.19.0".to_owned(), ..host() }),
            ("kernel", Level::Warning, Facts { kernel: "5.10.0-26".to_owned(), ..host() }),
            ("cgroup", Level::Failure, Facts { cgroup_v2: false, controllers: set(""), ..host() }),
            ("controllers", Level::Warning, Facts { controllers: set("cpu pids"), ..host() }),
            ("overlayfs", Level::Warning, Facts { file_systems: set("ext4"), ..host() }),
            ("root", Level::Failure, Facts { root_type: Some("nfs".to_owned()), ..host() }),
            ("root", Level::Warning, Facts { root_type: Some("overlay".to_owned()), ..host() }),
            ("root", Level::Warning, Facts { root_type: Some("tmpfs".to_owned()), ..host() }),
            ("space", Level::Failure, Facts { space: Some((1 << 20, 1 << 30)), ..host() }),
            ("space", Level::Warning, Facts { space: Some((500 << 20, 1 << 40)), ..host() }),
            ("space", Level::Warning, Facts { inodes: Some((1, 1000)), ..host() }),
            ("shim", Level::Warning, Facts { shim: None, ..host() }),
            ("seccomp", Level::Failure, Facts { seccomp_actions: set(""), ..host() }),
            ("lsm", Level::Warning, Facts { apparmor: false, ..host() }),
            ("userns", Level::Warning, Facts { user_namespaces_max: Some(0), ..host() }),
            ("userns", Level::Warning, Facts { user_namespaces_max: None, ..host() }),
            ("idmap", Level::Warning, Facts { kernel: "5.15.0".to_owned(), ..host() }),
            ("criu", Level::Warning, Facts { criu: None, ..host() }),
            ("limits", Level::Warning, Facts { files: Some((1024, 4096)), ..host() }),
            ("limits", Level::Warning, Facts { pid_max: Some(4096), ..host() }),
            ("socket", Level::Failure, Facts { socket: Some((0, 0, 0o666)), ..host() }),
            ("socket", Level::Warning, Facts { socket: None, ..host() }),
            ("daemon", Level::Warning, Facts { daemon: Some(Err("nobody listens".to_owned())), ..host() }),
            (
                "daemon",
                Level::Warning,
                Facts { daemon: daemon(|it| it.version = "0.0.0".to_owned()), ..host() },
            ),
            ("daemon", Level::Warning, Facts { daemon: daemon(|it| it.parked = 2), ..host() }),
            (
                "daemon",
                Level::Failure,
                Facts { daemon: daemon(|it| it.read_only = Some("lost".to_owned())), ..host() },
            ),
            ("clock", Level::Failure, Facts { now: 1000, ..host() }),
            ("clock", Level::Warning, Facts { newest_write: Some(CLOCK_MIN + 4000), ..host() }),
        ];
        for (check, level, facts) in cases {
            let finding = all(&facts).into_iter().find(|finding| finding.check == check).expect(check);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.consequence.is_some() && finding.advice.is_some(), "{finding:?}");
        }
    }

    #[test]
    fn kernel_versions_are_numbers() {
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("5.15"), Some((5, 15)));
        assert_eq!(version("weird"), None);
    }
}
