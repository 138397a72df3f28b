//! What the container may do: capabilities, system calls, paths it does not see or may not change, labels of the host's security module, rlimits.

use std::collections::BTreeSet;
use std::path::Path;

use bosun_types::Error;
use bosun_types::spec::{Rlimit, Seccomp, SpecOptions};
use oci_spec::runtime::{Linux, PosixRlimitBuilder, PosixRlimitType, Process, Spec};

use super::environment::check_text;
use super::options::check_path;
use super::{capabilities, seccomp};
use crate::error::Result;

/// Takes every default of masked and read-only paths away.
const ALL: &str = "ALL";

/// All of it, on top of the defaults.
pub fn apply(spec: &mut Spec, options: &SpecOptions) -> Result<()> {
    let mut process = spec.process().clone().unwrap_or_default();
    let mut linux = spec.linux().clone().unwrap_or_default();
    let names = capabilities(&mut process, options)?;
    process.set_no_new_privileges(Some(!options.may_gain_privileges));
    rlimits(&mut process, &options.rlimits)?;
    labels(&mut process, &mut linux, options)?;
    paths(&mut linux, options)?;
    linux.set_seccomp(filter(options, &names)?);
    spec.set_process(Some(process)).set_linux(Some(linux));
    if options.privileged {
        make_writable(spec);
    }
    Ok(())
}

/// Of the default, or of all when privileged; what is added, without what is dropped.
fn capabilities(process: &mut Process, options: &SpecOptions) -> Result<BTreeSet<String>> {
    let own = capabilities::own()?;
    let start = match options.privileged {
        true => own.clone(),
        false => {
            let default = process.capabilities().as_ref().and_then(|sets| sets.bounding().clone());
            default.unwrap_or_default().iter().map(|it| format!("CAP_{it}")).collect()
        }
    };
    let names = capabilities::choose(&start, &options.capabilities_add, &options.capabilities_drop, &own)?;
    process.set_capabilities(Some(capabilities::sets(&names)?));
    Ok(names)
}

/// Nothing for a privileged container, unless a profile is given.
fn filter(
    options: &SpecOptions,
    names: &BTreeSet<String>,
) -> Result<Option<oci_spec::runtime::LinuxSeccomp>> {
    let kernel = nix::sys::utsname::uname()
        .ok()
        .and_then(|uname| seccomp::version(uname.release().to_str()?))
        .unwrap_or((0, 0));
    let platform = bosun_types::platform::Platform::host();
    let target = seccomp::Target { architecture: &platform.architecture, capabilities: names, kernel };
    Ok(match &options.seccomp {
        Seccomp::Unconfined => None,
        Seccomp::Standard if options.privileged => None,
        Seccomp::Standard => Some(seccomp::standard(&target)?),
        Seccomp::Json(bytes) => Some(seccomp::from_file(bytes, &target)?),
    })
}

/// Of one kind the last given counts.
fn rlimits(process: &mut Process, given: &[Rlimit]) -> Result<()> {
    let mut all = process.rlimits().clone().unwrap_or_default();
    for rlimit in given {
        let upper = rlimit.kind.to_ascii_uppercase();
        let name = if upper.starts_with("RLIMIT_") { upper } else { format!("RLIMIT_{upper}") };
        let kind: PosixRlimitType = serde_json::from_value(name.into()).map_err(|_| {
            Error::invalid_argument(format!("rlimit {:?} is unknown", rlimit.kind))
                .with_hint("such as nofile, nproc, core, memlock, stack")
        })?;
        if rlimit.soft > rlimit.hard {
            let (soft, hard) = (rlimit.soft, rlimit.hard);
            let message = format!("rlimit {}: soft {soft} is above hard {hard}", rlimit.kind);
            return Err(Error::invalid_argument(message).into());
        }
        all.retain(|it| it.typ() != kind);
        let limit = PosixRlimitBuilder::default().typ(kind).soft(rlimit.soft).hard(rlimit.hard).build();
        all.push(limit.map_err(|error| Error::internal(format!("rlimit {}: {error}", rlimit.kind)))?);
    }
    process.set_rlimits(Some(all));
    Ok(())
}

/// Asked for explicitly on a host without the module, a label is an error: the caller counts on it.
fn labels(process: &mut Process, linux: &mut Linux, options: &SpecOptions) -> Result<()> {
    if let Some(profile) = &options.apparmor_profile {
        check_text("AppArmor profile", profile)?;
        if profile != "unconfined" && !has_apparmor() {
            return Err(no_module("AppArmor", profile).into());
        }
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &options.selinux_label {
        check_text("SELinux label", label)?;
        if !Path::new("/sys/fs/selinux/enforce").exists() {
            return Err(no_module("SELinux", label).into());
        }
        linux.set_mount_label(Some(file_label(label)?));
        process.set_selinux_label(Some(label.clone()));
    }
    Ok(())
}

fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.trim_end() == "Y")
}

fn no_module(module: &str, asked: &str) -> Error {
    Error::not_implemented(format!("{asked:?} was asked for, and this host's kernel has no {module}"))
        .with_hint(format!("run without it, or on a host with {module}"))
}

/// The container's files have its level, and the type that containers may use: `user:role:type:level`.
fn file_label(process: &str) -> Result<String, Error> {
    let parts: Vec<&str> = process.splitn(4, ':').collect();
    match parts.as_slice() {
        [_, _, _, level] => Ok(format!("system_u:object_r:container_file_t:{level}")),
        _ => Err(Error::invalid_argument(format!("SELinux label {process:?} is not user:role:type:level"))),
    }
}

/// The defaults, without those that are unmasked, and those given.
fn paths(linux: &mut Linux, options: &SpecOptions) -> Result<()> {
    let unmasked =
        |path: &String| options.unmask_paths.iter().any(|it| it == path || it.eq_ignore_ascii_case(ALL));
    for path in options.unmask_paths.iter().filter(|it| !it.eq_ignore_ascii_case(ALL)) {
        check_path("path to unmask", path)?;
    }
    let chosen = |default: &Option<Vec<String>>, given: &[String]| -> Result<Vec<String>> {
        let default = default.iter().flatten().filter(|path| !options.privileged && !unmasked(path));
        let mut all: Vec<String> = default.cloned().collect();
        for path in given {
            all.push(check_path("path to protect", path)?.to_owned());
        }
        Ok(all)
    };
    let masked = chosen(linux.masked_paths(), &options.masked_paths)?;
    let read_only = chosen(linux.readonly_paths(), &options.read_only_paths)?;
    let some = |paths: Vec<String>| Some(paths).filter(|paths| !paths.is_empty());
    linux.set_masked_paths(some(masked)).set_readonly_paths(some(read_only));
    Ok(())
}

/// SPC-11: a privileged container may change what sysfs and the cgroups show.
fn make_writable(spec: &mut Spec) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if matches!(mount.typ().as_deref(), Some("sysfs" | "cgroup")) {
            let options = mount.options().iter().flatten().filter(|it| *it != "ro").cloned().collect();
            mount.set_options(Some(options));
        }
    }
}

#[cfg(test)]
mod tests;
