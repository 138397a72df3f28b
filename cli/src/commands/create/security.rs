//! `run`'s flags about what a container may do.

use std::path::Path;

use anyhow::{Context as _, bail};
use bosun_types::mount::Mount;
use bosun_types::spec::{Rlimit, Seccomp, SpecOptions};

use crate::arguments::Security;

/// Options of a file system in memory unless others are given.
const TMPFS_OPTIONS: &str = "nosuid,nodev,noexec,mode=1777";

/// Kind of the CDI devices that `--gpus` means.
const GPU_KIND: &str = "nvidia.com/gpu";

/// Puts them into the options.
pub fn apply(options: &mut SpecOptions, flags: &Security) -> anyhow::Result<()> {
    options.capabilities_add.clone_from(&flags.cap_add);
    options.capabilities_drop.clone_from(&flags.cap_drop);
    options.devices.clone_from(&flags.device);
    if let Some(word) = &flags.gpus {
        options.devices.extend(gpus(word)?);
    }
    for word in &flags.security_opt {
        security_option(options, word)?;
    }
    options.rlimits = flags.ulimit.iter().map(|word| ulimit(word)).collect::<anyhow::Result<_>>()?;
    options.mounts.extend(flags.tmpfs.iter().map(|word| tmpfs(word)));
    Ok(())
}

/// CDI names of `--gpus`, as docker has its words.
fn gpus(word: &str) -> anyhow::Result<Vec<String>> {
    let named = |name: &str| format!("{GPU_KIND}={name}");
    let word = word.trim_matches('"');
    if word == "all" {
        return Ok(vec![named("all")]);
    }
    if let Ok(count) = word.parse::<u32>() {
        return Ok((0..count).map(|number| named(&number.to_string())).collect());
    }
    if let Some(list) = word.strip_prefix("device=") {
        return Ok(list.split(',').map(named).collect());
    }
    if word.contains('/') && word.contains('=') {
        return Ok(vec![word.to_owned()]);
    }
    bail!("--gpus {word:?}: use all, a number, device=0,1, or a CDI name such as nvidia.com/gpu=0")
}

/// `key=value`; Docker's older `key:value` too.
fn security_option(options: &mut SpecOptions, word: &str) -> anyhow::Result<()> {
    let (key, value) = word.split_once(['=', ':']).unwrap_or((word, ""));
    let path = || -> anyhow::Result<String> {
        if value.is_empty() {
            bail!("--security-opt {word:?}: a path is missing")
        } else {
            Ok(value.to_owned())
        }
    };
    match key {
        "seccomp" => options.seccomp = seccomp(value)?,
        "apparmor" => options.apparmor_profile = Some(value.to_owned()),
        "label" => options.selinux_label = Some(value.to_owned()),
        "no-new-privileges" => {
            options.may_gain_privileges = match value {
                "" | "true" => false,
                "false" => true,
                _ => bail!("--security-opt {word:?}: use true or false"),
            }
        }
        "mask" => options.masked_paths.push(path()?),
        "read-only" => options.read_only_paths.push(path()?),
        "unmask" => options.unmask_paths.push(path()?),
        _ => bail!(
            "--security-opt {word:?} is unknown: seccomp, apparmor, label, no-new-privileges, mask, read-only, unmask are known"
        ),
    }
    Ok(())
}

fn seccomp(value: &str) -> anyhow::Result<Seccomp> {
    match value {
        "unconfined" => Ok(Seccomp::Unconfined),
        "" => bail!("--security-opt seccomp: use seccomp=unconfined or seccomp=PROFILE.json"),
        path => {
            let bytes = std::fs::read(Path::new(path))
                .with_context(|| format!("cannot read the seccomp profile {path}"))?;
            Ok(Seccomp::Json(bytes))
        }
    }
}

fn ulimit(word: &str) -> anyhow::Result<Rlimit> {
    let malformed = || format!("--ulimit {word:?}: use NAME=SOFT[:HARD], such as nofile=1024:4096");
    let (kind, limits) = word.split_once('=').with_context(malformed)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| match text {
        "unlimited" | "-1" => Ok(u64::MAX),
        text => text.parse().with_context(malformed),
    };
    Ok(Rlimit { kind: kind.to_owned(), soft: number(soft)?, hard: number(hard)? })
}

fn tmpfs(word: &str) -> Mount {
    let (target, options) = word.split_once(':').unwrap_or((word, TMPFS_OPTIONS));
    Mount {
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        target: target.to_owned(),
        options: options.split(',').map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_cdi_devices() {
        for (word, wanted) in [
            ("all", &["nvidia.com/gpu=all"][..]),
            ("2", &["nvidia.com/gpu=0", "nvidia.com/gpu=1"]),
            ("\"device=0,GPU-1\"", &["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-1"]),
            ("amd.com/gpu=3", &["amd.com/gpu=3"]),
        ] {
            assert_eq!(gpus(word).expect(word), wanted);
        }
        assert!(gpus("some").is_err() && gpus("").is_err());
    }

    #[test]
    fn limits_with_one_and_two_numbers() {
        for (word, soft, hard) in
            [("nofile=10", 10, 10), ("nofile=10:20", 10, 20), ("core=0:unlimited", 0, u64::MAX)]
        {
            let limit = ulimit(word).expect(word);
            assert_eq!((limit.soft, limit.hard), (soft, hard), "{word}");
        }
        for bad in ["nofile", "nofile=", "nofile=x", "nofile=1:2:3"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_in_both_spellings() {
        let mut options = SpecOptions::default();
        for word in ["seccomp:unconfined", "no-new-privileges=false", "unmask=ALL", "mask=/x", "apparmor=p"] {
            security_option(&mut options, word).expect(word);
        }
        assert_eq!(options.seccomp, Seccomp::Unconfined);
        assert!(options.may_gain_privileges);
        assert_eq!((options.unmask_paths.len(), options.masked_paths.len()), (1, 1));
        for bad in ["nonsense=1", "mask", "seccomp", "seccomp=/no/such/file", "no-new-privileges=maybe"] {
            assert!(security_option(&mut options, bad).is_err(), "{bad}");
        }
    }
}
