//! The image's config and the caller's options on top of the defaults (SPC-9 to SPC-12).

use std::ops::RangeInclusive;
use std::path::{Component, Path};

use bosun_types::Error;
use bosun_types::mount::Mount;
use bosun_types::spec::SpecOptions;
use oci_spec::runtime::{
    LinuxCpu, LinuxMemory, LinuxNamespace, LinuxNamespaceType, LinuxPids, LinuxResources, Process, Spec,
};

use super::environment::{check_text, merge};
use super::{ImageProcessConfig, SpecContext, user};
use crate::error::Result;

/// `TERM` of a process with a terminal (SPC-9).
const TERM: &str = "TERM=xterm";
/// The kernel's limit for host names in bytes.
const HOSTNAME_BYTES_MAX: usize = 64;
/// Scheduler period in microseconds; the quota of one processor is as long.
const CPU_PERIOD_MICROS: u64 = 100_000;
/// Smallest quota the kernel takes, in microseconds.
const CPU_QUOTA_MICROS_MIN: i64 = 1_000;
/// Periods the kernel takes, in microseconds.
const CPU_PERIODS_MICROS: RangeInclusive<u64> = 1_000..=1_000_000;
/// Weights the kernel takes.
const CPU_SHARES: RangeInclusive<u64> = 2..=262_144;
/// Smallest useful memory limit in bytes: below it no process starts.
const MEMORY_BYTES_MIN: u64 = 4 << 20;
/// In the place of a namespace's path: the one that the daemon is in (SPC-11).
const HOST: &str = "host";
/// Host files that a container in the host's network needs to resolve names (SPC-10).
const NETWORK_FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// Command line, environment, directory, user, terminal.
pub fn process(
    spec: &mut Spec,
    options: &SpecOptions,
    image: &ImageProcessConfig,
    context: &SpecContext<'_>,
) -> Result<()> {
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(arguments(options, image)?));
    let mut environment = process.env().clone().unwrap_or_default();
    merge(&mut environment, &image.env)?;
    if options.terminal {
        merge(&mut environment, &[TERM.to_owned()])?;
        process.set_terminal(Some(true));
    }
    merge(&mut environment, &options.env)?;
    process.set_env(Some(environment));
    let image_directory = Some(&image.working_dir).filter(|it| !it.is_empty());
    if let Some(directory) = options.cwd.as_ref().or(image_directory) {
        process.set_cwd(check_path("working directory", directory)?.into());
    }
    let name = options.user.as_deref().unwrap_or(&image.user);
    process.set_user(user::resolve(name, context.root)?);
    spec.set_process(Some(process));
    if let Some(hostname) = &options.hostname {
        check_hostname(hostname)?;
        spec.set_hostname(Some(hostname.clone()));
    }
    Ok(())
}

fn arguments(options: &SpecOptions, image: &ImageProcessConfig) -> Result<Vec<String>> {
    let joined = |first: &[String], then: &[String]| [first, then].concat();
    let arguments = match (&options.entrypoint, options.args.is_empty()) {
        (Some(entrypoint), true) => joined(entrypoint, &image.cmd),
        (Some(entrypoint), false) => joined(entrypoint, &options.args),
        (None, false) => options.args.clone(),
        (None, true) => joined(&image.entrypoint, &image.cmd),
    };
    check_arguments(&arguments)?;
    Ok(arguments)
}

/// There is a program, and no argument would be cut short.
pub fn check_arguments(arguments: &[String]) -> Result<(), Error> {
    if arguments.first().is_none_or(String::is_empty) {
        return Err(Error::invalid_argument("no command to run: the image names none and none was given")
            .with_hint("add the command after the image, such as: bosun run IMAGE ID /bin/sh"));
    }
    if arguments.iter().any(|it| it.contains('\0')) {
        return Err(Error::invalid_argument("an argument of the command holds a zero byte"));
    }
    Ok(())
}

/// Absolute, without control characters.
pub fn check_path<'a>(what: &str, path: &'a str) -> Result<&'a str, Error> {
    check_text(what, path)?;
    if !path.starts_with('/') {
        return Err(Error::invalid_argument(format!("{what} {path:?} is not absolute")));
    }
    Ok(path)
}

fn check_hostname(name: &str) -> Result<(), Error> {
    check_text("host name", name)?;
    if name.is_empty() || name.len() > HOSTNAME_BYTES_MAX || name.contains(['/', ' ']) {
        let message =
            format!("host name {name:?} is malformed: 1 to {HOSTNAME_BYTES_MAX} bytes, no space, no slash");
        return Err(Error::invalid_argument(message));
    }
    Ok(())
}

/// Root and mounts.
pub fn file_systems(spec: &mut Spec, options: &SpecOptions) -> Result<()> {
    if let Some(root) = spec.root_mut() {
        root.set_readonly(Some(options.read_only_root));
    }
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    if options.host_network {
        for path in NETWORK_FILES.into_iter().filter(|path| Path::new(path).exists()) {
            let options = vec!["rbind".to_owned(), "ro".to_owned()];
            mounts.push(oci_mount(path, "bind", path, options));
        }
    }
    for mount in &options.mounts {
        mounts.push(extra_mount(mount)?);
    }
    spec.set_mounts(Some(mounts));
    Ok(())
}

fn extra_mount(mount: &Mount) -> Result<oci_spec::runtime::Mount, Error> {
    let target = check_path("mount target", &mount.target)?;
    if Path::new(target).components().any(|part| part == Component::ParentDir) {
        return Err(Error::invalid_argument(format!("mount target {target:?} holds \"..\"")));
    }
    check_text("mount source", &mount.source)?;
    for word in &mount.options {
        check_text("mount option", word)?;
        // A comma would smuggle in another word (CVE-2024-9407).
        if word.is_empty() || word.contains(',') {
            return Err(Error::invalid_argument(format!("mount option {word:?} is not one word")));
        }
    }
    let bind = mount.kind == "bind" || mount.options.iter().any(|it| it == "bind" || it == "rbind");
    if bind {
        check_path("mount source", &mount.source)?;
    }
    let mut options = mount.options.clone();
    if mount.kind == "bind" && !options.iter().any(|it| it == "bind" || it == "rbind") {
        options.insert(0, "rbind".to_owned());
    }
    Ok(oci_mount(target, &mount.kind, &mount.source, options))
}

fn oci_mount(target: &str, kind: &str, source: &str, options: Vec<String>) -> oci_spec::runtime::Mount {
    let mut mount = oci_spec::runtime::Mount::default();
    mount.set_destination(target.into()).set_typ(Some(kind.to_owned()).filter(|it| !it.is_empty()));
    mount.set_source(Some(source.into())).set_options(Some(options));
    mount
}

/// Namespaces.
pub fn isolation(spec: &mut Spec, options: &SpecOptions) -> Result<()> {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    if options.host_network {
        namespaces.retain(|it| it.typ() != LinuxNamespaceType::Network);
    }
    for (kind, path) in &options.join_namespaces {
        let kind = LinuxNamespaceType::try_from(kind.as_str()).map_err(|_| {
            Error::invalid_argument(format!("namespace type {kind:?} is unknown"))
                .with_hint("one of pid, ipc, uts, mount, network, user, cgroup, time")
        })?;
        if path == HOST {
            check_host_namespace(kind, spec.hostname().is_some())?;
            namespaces.retain(|it| it.typ() != kind);
            continue;
        }
        check_path("namespace path", path)?;
        let mut joined = LinuxNamespace::default();
        joined.set_typ(kind).set_path(Some(path.into()));
        match namespaces.iter_mut().find(|it| it.typ() == kind) {
            Some(namespace) => *namespace = joined,
            None => namespaces.push(joined),
        }
    }
    linux.set_namespaces(Some(namespaces));
    spec.set_linux(Some(linux));
    Ok(())
}

/// Some are not shared: the root is mounted in one of its own, and a name of its own would become the host's.
fn check_host_namespace(kind: LinuxNamespaceType, has_hostname: bool) -> Result<(), Error> {
    match kind {
        LinuxNamespaceType::Mount => {
            Err(Error::invalid_argument("a container has a mount namespace of its own, always"))
        }
        LinuxNamespaceType::Uts if has_hostname => {
            Err(Error::invalid_argument("a host name of its own needs a uts namespace of its own")
                .with_hint("leave one of the two out"))
        }
        _ => Ok(()),
    }
}

/// Memory, processors, processes.
pub fn limits(spec: &mut Spec, options: &SpecOptions) -> Result<()> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let mut resources: LinuxResources = linux.resources().clone().unwrap_or_default();
    if let Some(bytes) = options.memory_bytes_max {
        let limit = i64::try_from(bytes).ok().filter(|_| bytes >= MEMORY_BYTES_MIN).ok_or_else(|| {
            Error::invalid_argument(format!("memory limit {bytes} is not {MEMORY_BYTES_MIN} to 2^63-1 bytes"))
        })?;
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(limit));
        resources.set_memory(Some(memory));
    }
    if let Some(millis) = options.cpu_millis {
        let quota =
            millis.checked_mul(CPU_PERIOD_MICROS / 1_000).and_then(|micros| i64::try_from(micros).ok());
        let quota = quota.filter(|micros| *micros >= CPU_QUOTA_MICROS_MIN).ok_or_else(|| {
            Error::invalid_argument(format!("processor limit of {millis} thousandths is out of range"))
        })?;
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(Some(quota)).set_period(Some(CPU_PERIOD_MICROS));
        resources.set_cpu(Some(cpu));
    }
    if let Some(cpu) = exact_cpu(options)? {
        resources.set_cpu(Some(cpu));
    }
    if let Some(shares) = options.cpu_shares {
        if !CPU_SHARES.contains(&shares) {
            let message = format!("processor weight {shares} is out of range");
            return Err(Error::invalid_argument(message)
                .with_hint("use 2 to 262144; 1024 is ordinary")
                .into());
        }
        let mut cpu = resources.cpu().clone().unwrap_or_default();
        cpu.set_shares(Some(shares));
        resources.set_cpu(Some(cpu));
    }
    if let Some(count) = options.pids_max {
        let limit = i64::try_from(count)
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| Error::invalid_argument(format!("process limit {count} is out of range")))?;
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    linux.set_resources(Some(resources));
    Ok(())
}

/// Quota and period as the caller says them, within what the kernel takes.
fn exact_cpu(options: &SpecOptions) -> Result<Option<LinuxCpu>, Error> {
    let (quota, period) = (options.cpu_quota_micros, options.cpu_period_micros);
    if quota.is_none() && period.is_none() {
        return Ok(None);
    }
    if options.cpu_millis.is_some() {
        return Err(Error::invalid_argument("processors are limited both by their number and by a quota"));
    }
    let period = period.unwrap_or(CPU_PERIOD_MICROS);
    if !CPU_PERIODS_MICROS.contains(&period) {
        let message = format!("the scheduler's period of {period} microseconds is out of range");
        return Err(Error::invalid_argument(message).with_hint("use 1000 to 1000000"));
    }
    let quota = quota.map(i64::try_from).transpose().ok().flatten().filter(|it| *it >= CPU_QUOTA_MICROS_MIN);
    if quota.is_none() && options.cpu_quota_micros.is_some() {
        return Err(Error::invalid_argument("the processor quota is out of range")
            .with_hint(format!("use {CPU_QUOTA_MICROS_MIN} microseconds or more")));
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_quota(quota).set_period(Some(period));
    Ok(Some(cpu))
}

/// Annotations of the caller's, beside the defaults.
pub fn annotations(spec: &mut Spec, options: &SpecOptions) -> Result<()> {
    if options.annotations.is_empty() {
        return Ok(());
    }
    let mut all = spec.annotations().clone().unwrap_or_default();
    for (key, value) in &options.annotations {
        if key.is_empty() {
            return Err(Error::invalid_argument("an annotation's key is empty").into());
        }
        check_text("annotation", key)?;
        check_text("annotation", value)?;
        all.insert(key.clone(), value.clone());
    }
    spec.set_annotations(Some(all));
    Ok(())
}

/// The process of a spec with nothing of its terminal: what an exec starts from.
pub fn process_for_exec(process: Option<Process>) -> Result<Process, Error> {
    let mut process = process.ok_or_else(|| {
        Error::failed_precondition("the container's spec has no process to build an exec from")
    })?;
    process.set_terminal(None).set_console_size(None).set_args(None);
    Ok(process)
}
