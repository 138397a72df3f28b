//! Findings about what was tried, or, where nothing could be, read from the kernel's files. Pure.

use super::facts::Facts;
use super::judge::{bad, good, version};
use super::{Finding, Level};

/// What a trial said; `None`: it could not be made.
fn trial<'a>(facts: &'a Facts, name: &str) -> Option<Result<(), &'a str>> {
    facts.tried.get(name).map(|failure| failure.as_deref().map_or(Ok(()), Err))
}

/// The default snapshotter.
pub fn overlayfs(facts: &Facts) -> Finding {
    let advice = "modprobe overlay and put the root on ext4, xfs or btrfs, or use --snapshotter native";
    match (trial(facts, "overlayfs"), facts.file_systems.contains("overlay")) {
        (Some(Ok(())), _) => good("overlayfs", "mounted, written to, and removed from"),
        (Some(Err(why)), _) => bad(
            Level::Failure,
            "overlayfs",
            format!("cannot be used in {}: {why}", facts.root.display()),
            "no container of an image starts with the default snapshotter",
            advice,
        ),
        (None, true) => good("overlayfs", "in the kernel; not tried"),
        (None, false) => bad(
            Level::Warning,
            "overlayfs",
            "not in /proc/filesystems",
            "the default snapshotter cannot mount; the module may still be loaded when it is asked for",
            advice,
        ),
    }
}

/// What a few people need.
pub fn further_file_systems(facts: &Facts) -> Finding {
    let fuse = match facts.file_systems.contains("fuse") {
        true => "fuse",
        // A module is loaded when it is asked for: this is no lack by itself.
        false => "fuse not loaded (for containers given /dev/fuse)",
    };
    match trial(facts, "btrfs") {
        Some(Ok(())) => good("filesystems", format!("btrfs: a subvolume was made and removed; {fuse}")),
        Some(Err(why)) if facts.root_type.as_deref() == Some("btrfs") => bad(
            Level::Warning,
            "filesystems",
            format!("btrfs: {why}"),
            "--snapshotter btrfs does not work",
            "look at the kernel's log; the other snapshotters work on btrfs too",
        ),
        _ => good(
            "filesystems",
            format!("no btrfs in {} (for --snapshotter btrfs); {fuse}", facts.root.display()),
        ),
    }
}

/// Limits: there, and taken.
pub fn controllers(facts: &Facts) -> Finding {
    let wanted = ["cpu", "memory", "pids"];
    let there: Vec<&str> = facts.controllers.iter().map(String::as_str).collect();
    let lacks: Vec<String> = wanted
        .into_iter()
        .filter_map(|name| match trial(facts, &format!("cgroup_{name}")) {
            Some(Ok(())) => None,
            Some(Err(why)) => Some(format!("{name} ({why})")),
            None => (!facts.controllers.contains(name)).then(|| name.to_owned()),
        })
        .collect();
    if lacks.is_empty() {
        return good("controllers", there.join(" "));
    }
    bad(
        Level::Warning,
        "controllers",
        format!("there is: {}", there.join(" ")),
        &format!(
            "no limits of {}: containers with --cpus, --memory or --pids-limit of these do not start",
            lacks.join(", ")
        ),
        "enable them at boot (cgroup_enable=memory), or delegate them to this part of the tree (Delegate=yes)",
    )
}

/// AppArmor, SELinux.
pub fn mac(facts: &Facts) -> Finding {
    match (facts.apparmor, trial(facts, "apparmor"), facts.selinux) {
        (true, Some(Err(why)), _) => bad(
            Level::Warning,
            "lsm",
            format!("AppArmor, but a profile cannot be set: {why}"),
            "containers with --security-opt apparmor= do not start",
            "mount securityfs, and look at /sys/kernel/security/apparmor/profiles",
        ),
        (true, ..) => good("lsm", "AppArmor"),
        (_, _, true) => good("lsm", "SELinux"),
        _ => bad(
            Level::Warning,
            "lsm",
            "neither AppArmor nor SELinux",
            "AppArmor profiles and SELinux labels of containers are refused; capabilities, masks and seccomp hold",
            "nothing, unless you want that further wall",
        ),
    }
}

/// Users of a container's own.
pub fn user_namespaces(facts: &Facts) -> Finding {
    let consequence = "containers cannot have users of their own (--userns-remap, --uidmap)";
    match (trial(facts, "userns"), facts.user_namespaces_max) {
        (_, Some(0)) => {
            let advice = "sysctl user.max_user_namespaces=15000";
            bad(Level::Warning, "userns", "user.max_user_namespaces is 0", consequence, advice)
        }
        (_, None) => {
            let advice = "use a kernel with CONFIG_USER_NS";
            bad(Level::Warning, "userns", "the kernel has none", consequence, advice)
        }
        (Some(Err(why)), Some(_)) => {
            let advice = "look at sysctl kernel.unprivileged_userns_clone, and at what bounds this process";
            bad(Level::Warning, "userns", format!("refused: {why}"), consequence, advice)
        }
        (_, Some(most)) => good("userns", format!("up to {most}")),
    }
}

/// Files that belong to others by the mount.
pub fn idmap(facts: &Facts) -> Finding {
    let copied = "layers are copied once for each range of ids of user namespaces";
    let kernel = version(&facts.kernel);
    match trial(facts, "idmap") {
        Some(Ok(())) if kernel >= Some((5, 19)) => good("idmap", "idmapped mounts, with overlayfs on top"),
        Some(Err(why)) => bad(
            Level::Warning,
            "idmap",
            format!("none in {}: {why}", facts.root.display()),
            copied,
            "use a kernel from 5.19 on and a file system that has them: ext4, xfs, btrfs, tmpfs (6.3)",
        ),
        None if kernel >= Some((5, 19)) => good("idmap", "of this kernel, with overlayfs on top; not tried"),
        _ => bad(Level::Warning, "idmap", "not below overlayfs (5.19)", copied, "use a kernel from 5.19 on"),
    }
}

/// Checkpoints.
pub fn criu(facts: &Facts) -> Finding {
    let consequence = "containers cannot be checkpointed and restored";
    match (&facts.criu, trial(facts, "criu")) {
        (None, _) => {
            let advice = "install Debian's criu, if you want that";
            bad(Level::Warning, "criu", "not on the path", consequence, advice)
        }
        (Some(found), Some(Err(why))) => {
            let advice = "`criu check --all` says what the kernel lacks";
            bad(Level::Warning, "criu", format!("{found}, which says: {why}"), consequence, advice)
        }
        (Some(found), _) => good("criu", found),
    }
}

/// How the end of a process is known when its shim died.
pub fn exit_info(facts: &Facts) -> Finding {
    let told = match trial(facts, "exit_info") {
        Some(told) => told,
        None if version(&facts.kernel) >= Some((6, 15)) => Ok(()),
        None => Err("it is older than 6.15"),
    };
    match told {
        Ok(()) => good("exit info", "the kernel tells exits by pidfd"),
        Err(why) => bad(
            Level::Note,
            "exit info",
            format!("not by pidfd, on {}: {why}", facts.kernel),
            "the exit code of a process whose shim was killed may be unknown",
            "nothing, unless that matters: use a kernel from 6.15 on",
        ),
    }
}

/// Execs that are born in their group.
pub fn birth(facts: &Facts) -> Finding {
    match trial(facts, "clone_into_cgroup") {
        Some(Err(why)) => bad(
            Level::Note,
            "clone3",
            format!("not into a cgroup: {why}"),
            "an exec enters its container's cgroup by a write, which waits for the kernel's lock: milliseconds",
            "nothing, unless that matters: use a kernel from 5.7 on, and let clone3 through the filter of what bounds bosund",
        ),
        Some(Ok(())) if !facts.cgroup_v2 => good("clone3", "not used with cgroup version 1"),
        Some(Ok(())) => good("clone3", "execs are born in their cgroup"),
        None => good("clone3", "not tried"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host where everything was tried and works, and with one thing that does not.
    fn host(failed: Option<&str>) -> Facts {
        let names = [
            "overlayfs",
            "btrfs",
            "cgroup_cpu",
            "cgroup_memory",
            "cgroup_pids",
            "apparmor",
            "userns",
            "idmap",
            "criu",
            "exit_info",
            "clone_into_cgroup",
        ];
        let outcome = |name: &str| (failed == Some(name)).then(|| "no such thing".to_owned());
        Facts {
            // What was tried counts more than what the version says.
            kernel: if failed.is_some() { "6.15.0" } else { "6.1.0" }.to_owned(),
            apparmor: true,
            user_namespaces_max: Some(9),
            criu: Some("Version: 3.17".to_owned()),
            root_type: Some("btrfs".to_owned()),
            tried: names.map(|name| (name.to_owned(), outcome(name))).into_iter().collect(),
            ..Facts::default()
        }
    }

    #[test]
    fn what_was_tried_is_judged_whatever_the_version_says() {
        type Judge = fn(&Facts) -> Finding;
        let cases: [(&str, Judge, Level); 11] = [
            ("overlayfs", overlayfs, Level::Failure),
            ("btrfs", further_file_systems, Level::Warning),
            ("cgroup_cpu", controllers, Level::Warning),
            ("cgroup_memory", controllers, Level::Warning),
            ("cgroup_pids", controllers, Level::Warning),
            ("apparmor", mac, Level::Warning),
            ("userns", user_namespaces, Level::Warning),
            ("idmap", idmap, Level::Warning),
            ("criu", criu, Level::Warning),
            ("exit_info", exit_info, Level::Note),
            ("clone_into_cgroup", birth, Level::Note),
        ];
        for (name, judge, level) in cases {
            let works = judge(&host(None));
            assert_eq!((works.level, &works.advice), (Level::Ok, &None), "{works:?}");
            let fails = judge(&host(Some(name)));
            assert_eq!(fails.level, level, "{fails:?}");
            let told = format!("{} {}", fails.found, fails.consequence.clone().unwrap_or_default());
            assert!(told.contains("no such thing") && fails.advice.is_some(), "{fails:?}");
        }
    }

    #[test]
    fn what_could_not_be_tried_is_judged_by_what_is_known() {
        let facts = |kernel: &str| Facts {
            kernel: kernel.to_owned(),
            tried: super::super::facts::Tried::new(),
            ..host(None)
        };
        let old = facts("5.15.0");
        for (finding, level) in [
            (overlayfs(&old), Level::Warning),
            (controllers(&old), Level::Warning),
            (idmap(&old), Level::Warning),
            (exit_info(&old), Level::Note),
            (birth(&old), Level::Ok),
            (criu(&old), Level::Ok),
            (mac(&old), Level::Ok),
            (user_namespaces(&old), Level::Ok),
            (exit_info(&facts("6.15.2")), Level::Ok),
            (idmap(&facts("6.1.0")), Level::Ok),
        ] {
            assert_eq!(finding.level, level, "{finding:?}");
        }
    }
}
