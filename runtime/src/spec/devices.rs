//! Devices of the host that a container may use: `--device`. Privilege alone gives none (SPC-11).

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use bosun_types::Error;
use bosun_types::spec::SpecOptions;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount, Spec};

use super::options::check_path;
use crate::error::{Context as _, Result};

/// Read, write, make.
const ACCESS_DEFAULT: &str = "rwm";
/// Permission bits that a device node keeps.
const MODE_BITS: u32 = 0o7777;

/// One `--device`: `/dev/fuse`, `/dev/x:/dev/y`, `/dev/x:rw`, `/dev/x:/dev/y:rwm`.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    source: &'a str,
    target: &'a str,
    access: &'a str,
}

/// Nodes and cgroup rules for each.
pub fn apply(spec: &mut Spec, options: &SpecOptions) -> Result<()> {
    let mut nodes = Vec::new();
    let mut rules = Vec::new();
    for text in &options.devices {
        let wanted = parse(text)?;
        let metadata = fs::metadata(wanted.source).context(|| format!("device {}", wanted.source))?;
        let kind = match metadata.file_type() {
            kind if kind.is_char_device() => LinuxDeviceType::C,
            kind if kind.is_block_device() => LinuxDeviceType::B,
            _ => {
                return Err(Error::invalid_argument(format!("{} is not a device", wanted.source)).into());
            }
        };
        let (major, minor) = numbers(metadata.rdev());
        let mut node = LinuxDevice::default();
        node.set_path(Path::new(wanted.target).to_owned()).set_typ(kind);
        node.set_major(major).set_minor(minor).set_file_mode(Some(metadata.mode() & MODE_BITS));
        node.set_uid(Some(metadata.uid())).set_gid(Some(metadata.gid()));
        nodes.push(node);
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true).set_typ(Some(kind)).set_major(Some(major)).set_minor(Some(minor));
        rule.set_access(Some(wanted.access.to_owned()));
        rules.push(rule);
    }
    if nodes.is_empty() {
        return Ok(());
    }
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    linux.set_devices(Some(nodes));
    let mut resources = linux.resources().clone().unwrap_or_default();
    let rules = resources.devices().clone().unwrap_or_default().into_iter().chain(rules).collect();
    resources.set_devices(Some(rules));
    linux.set_resources(Some(resources));
    Ok(())
}

/// The same devices as mounts, for a container whose root may make no nodes.
pub fn binds(options: &SpecOptions) -> Result<Vec<Mount>> {
    let bind = |text: &String| {
        let wanted = parse(text)?;
        let mut mount = Mount::default();
        mount.set_destination(wanted.target.into()).set_source(Some(wanted.source.into()));
        mount.set_typ(Some("bind".to_owned())).set_options(Some(vec!["bind".to_owned()]));
        Ok(mount)
    };
    options.devices.iter().map(bind).collect()
}

fn parse(text: &str) -> Result<Wanted<'_>, Error> {
    let malformed = || {
        Error::invalid_argument(format!("device {text:?} is malformed"))
            .with_hint("such as /dev/fuse, /dev/sdb:/dev/disk, or /dev/sdb:/dev/disk:r")
    };
    let is_access = |word: &str| !word.is_empty() && word.chars().all(|it| ACCESS_DEFAULT.contains(it));
    let parts: Vec<&str> = text.split(':').collect();
    let wanted = match parts.as_slice() {
        [source] => Wanted { source, target: source, access: ACCESS_DEFAULT },
        [source, access] if is_access(access) => Wanted { source, target: source, access },
        [source, target] => Wanted { source, target, access: ACCESS_DEFAULT },
        [source, target, access] if is_access(access) => Wanted { source, target, access },
        _ => return Err(malformed()),
    };
    check_path("device", wanted.source)?;
    check_path("device in the container", wanted.target)?;
    let below_dev = wanted.target.strip_prefix("/dev/").is_some_and(|rest| !rest.is_empty());
    if !below_dev || wanted.target.split('/').any(|part| part == "..") {
        return Err(malformed().context("a device goes below /dev"));
    }
    Ok(wanted)
}

fn numbers(rdev: u64) -> (i64, i64) {
    (i64::from(libc::major(rdev)), i64::from(libc::minor(rdev)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_device() {
        for (text, source, target, access) in [
            ("/dev/fuse", "/dev/fuse", "/dev/fuse", "rwm"),
            ("/dev/a:/dev/b", "/dev/a", "/dev/b", "rwm"),
            ("/dev/a:r", "/dev/a", "/dev/a", "r"),
            ("/dev/a:/dev/b:rw", "/dev/a", "/dev/b", "rw"),
        ] {
            assert_eq!(parse(text).expect(text), Wanted { source, target, access });
        }
        for bad in [
            "",
            "fuse",
            "/dev/a:/etc/passwd",
            "/dev/a:/dev/../x",
            "/dev/a:/dev/b:x",
            "/a:/dev/b:r:w",
            "/dev/a:/dev/",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
