//! Capabilities by name: what we may give, what is added to the default and dropped from it.

use std::collections::BTreeSet;

use bosun_types::Error;
use oci_spec::runtime::{Capabilities, LinuxCapabilities};

/// In the order of their numbers in linux/capability.h.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// Every one.
const ALL: &str = "ALL";

/// All that this process may give, `CAP_` in front: what it has and may keep. A daemon that is bounded itself (a virtual machine's set-up, another
/// container) cannot give more.
pub fn own() -> Result<BTreeSet<String>, Error> {
    let path = "/proc/self/status";
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::internal(format!("cannot read {path}: {error}")))?;
    let set = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
    };
    let bits = set("CapPrm:").zip(set("CapBnd:")).map(|(permitted, bounding)| permitted & bounding);
    let bits = bits.ok_or_else(|| Error::internal(format!("{path} does not tell capabilities")))?;
    Ok(names_of(bits))
}

fn names_of(bits: u64) -> BTreeSet<String> {
    let names = NAMES.iter().enumerate().filter(|(number, _)| bits & (1 << number) != 0);
    names.map(|(_, name)| format!("CAP_{name}")).collect()
}

/// `drop` is taken from `start`, then `add` is given, so that `drop ALL, add X` is X alone. `ALL` stands for all of `own`, and nothing beyond `own` is
/// given.
pub fn choose(
    start: &BTreeSet<String>,
    add: &[String],
    drop: &[String],
    own: &BTreeSet<String>,
) -> Result<BTreeSet<String>, Error> {
    let mut chosen: BTreeSet<String> = start.intersection(own).cloned().collect();
    for name in drop {
        match normal(name)? {
            None => chosen.clear(),
            Some(name) => {
                chosen.remove(&name);
            }
        }
    }
    for name in add {
        match normal(name)? {
            None => {
                // `add ALL, drop X` is all but X.
                let dropped = drop.iter().filter_map(|name| normal(name).ok().flatten());
                let dropped: BTreeSet<String> = dropped.collect();
                chosen.extend(own.difference(&dropped).cloned());
            }
            Some(name) if !own.contains(&name) => {
                return Err(Error::failed_precondition(format!(
                    "{name} cannot be given: bosund has it not itself"
                ))
                .with_hint("look at CapBnd in /proc/<bosund's pid>/status, and at what starts bosund"));
            }
            Some(name) => {
                chosen.insert(name);
            }
        }
    }
    Ok(chosen)
}

/// `net_admin`, `NET_ADMIN` and `CAP_NET_ADMIN` are one; `None`: `ALL`.
fn normal(name: &str) -> Result<Option<String>, Error> {
    let upper = name.to_ascii_uppercase();
    if upper == ALL {
        return Ok(None);
    }
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    let short = full.trim_start_matches("CAP_");
    if NAMES.contains(&short) {
        return Ok(Some(full));
    }
    let near = NAMES.iter().map(|it| (strsim::jaro_winkler(it, short), it));
    let near = near.max_by(|one, other| one.0.total_cmp(&other.0)).map_or("CHOWN", |(_, name)| name);
    Err(Error::invalid_argument(format!("capability {name:?} is unknown"))
        .with_hint(format!("did you mean CAP_{near}?")))
}

/// The sets of a process: bounding, permitted and effective alike. Inheritable and ambient are empty, for a privileged one too: a program that drops its
/// privilege has dropped it (see the header of `spec`).
pub fn sets(names: &BTreeSet<String>) -> Result<LinuxCapabilities, Error> {
    let set: Capabilities = serde_json::to_value(names)
        .and_then(serde_json::from_value)
        .map_err(|error| Error::internal(format!("capability names: {error}")))?;
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone())).set_permitted(Some(set.clone())).set_effective(Some(set));
    sets.set_inheritable(Some(Capabilities::new())).set_ambient(None);
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| format!("CAP_{name}")).collect()
    }

    fn words(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn added_and_dropped() {
        let own = set(&["CHOWN", "KILL", "NET_ADMIN", "SYS_ADMIN"]);
        let start = set(&["CHOWN", "KILL", "MKNOD"]);
        for (add, drop, wanted) in [
            (&[][..], &[][..], &["CHOWN", "KILL"][..]),
            (&["net_admin"], &["CAP_KILL"], &["CHOWN", "NET_ADMIN"]),
            (&["NET_ADMIN"], &["all"], &["NET_ADMIN"]),
            (&["ALL"], &["SYS_ADMIN"], &["CHOWN", "KILL", "NET_ADMIN"]),
            (&["ALL"], &[], &["CHOWN", "KILL", "NET_ADMIN", "SYS_ADMIN"]),
            (&[], &["ALL"], &[]),
        ] {
            let chosen = choose(&start, &words(add), &words(drop), &own).expect("good names");
            assert_eq!(chosen, set(wanted), "add {add:?} drop {drop:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_one_and_nobody_gives_what_he_has_not() {
        let own = set(&["CHOWN"]);
        let error = choose(&own, &words(&["NET_ADMN"]), &[], &own).expect_err("unknown");
        assert_eq!(error.hint.as_deref(), Some("did you mean CAP_NET_ADMIN?"));
        let error = choose(&own, &words(&["NET_ADMIN"]), &[], &own).expect_err("not its own");
        assert_eq!(error.class, bosun_types::ErrorClass::FailedPrecondition);
    }

    #[test]
    fn bits_are_in_the_kernels_order() {
        assert_eq!(names_of(1 | 1 << 21 | 1 << 40), set(&["CHOWN", "SYS_ADMIN", "CHECKPOINT_RESTORE"]));
        assert!(own().expect("reads").len() <= NAMES.len());
    }
}
