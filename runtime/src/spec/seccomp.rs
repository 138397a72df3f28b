//! Which system calls a container may make: our own default, or a profile file in Docker's or OCI's form.
//!
//! All become OCI `LinuxSeccomp` for one set of capabilities, one architecture and one kernel: what a capability guards in the kernel is
//! forbidden here too while the container has not the capability, so that a bug behind it cannot be reached.

use std::collections::BTreeSet;

use bosun_types::Error;
use oci_spec::runtime::LinuxSeccomp;
use serde::Deserialize;
use serde_json::{Value, json};

/// See the file.
const DEFAULT: &str = include_str!("seccomp/default.txt");
/// Namespace flags of `clone` (linux/sched.h): CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// Address family of sockets to the hypervisor, which no namespace separates.
const AF_VSOCK: u64 = 40;
/// Execution domains that are harmless: Linux, UNAME26 with it, 32 bit, both, and the question which it is.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Largest profile that is read.
const PROFILE_BYTES_MAX: usize = 1 << 20;

/// What a profile is resolved for.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// Go's name of the architecture: `amd64`, `arm64`, …
    pub architecture: &'a str,
    /// Capabilities of the bounding set, `CAP_` in front.
    pub capabilities: &'a BTreeSet<String>,
    /// Major and minor number of the kernel.
    pub kernel: (u32, u32),
}

/// Architectures: Go's name, libseccomp's, and those whose programs it runs too. x32 is left out: no distribution has programs for it, and
/// its calls are a second door to every call of amd64.
const ARCHITECTURES: [(&str, &str, &[&str]); 5] = [
    ("amd64", "SCMP_ARCH_X86_64", &["SCMP_ARCH_X86"]),
    ("arm64", "SCMP_ARCH_AARCH64", &["SCMP_ARCH_ARM"]),
    ("ppc64le", "SCMP_ARCH_PPC64LE", &[]),
    ("s390x", "SCMP_ARCH_S390X", &["SCMP_ARCH_S390"]),
    ("riscv64", "SCMP_ARCH_RISCV64", &[]),
];

/// The default.
pub fn standard(target: &Target<'_>) -> Result<LinuxSeccomp, Error> {
    let allow = |names: &[&str], arguments: Value| json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": arguments});
    let argument = |index: u32, value: u64, op: &str| json!([{"index": index, "value": value, "op": op}]);
    let names = allowed_names(target);
    let mut calls = vec![allow(&names, json!([])), allow(&["socket"], argument(0, AF_VSOCK, "SCMP_CMP_NE"))];
    calls.extend(
        PERSONALITIES.iter().map(|domain| allow(&["personality"], argument(0, *domain, "SCMP_CMP_EQ"))),
    );
    if !target.capabilities.contains("CAP_SYS_ADMIN") {
        // The flags are the second argument on s390.
        let index = u32::from(target.architecture == "s390x");
        let no_namespace =
            json!([{"index": index, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
        calls.push(allow(&["clone"], no_namespace));
        // Its flags are behind a pointer, which a filter cannot follow: ENOSYS makes libraries fall back to clone.
        calls.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}));
    }
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures(target.architecture),
        "syscalls": calls
    });
    serde_json::from_value(profile).map_err(|error| Error::internal(format!("the default profile: {error}")))
}

/// Names of the default that this target has without a condition on arguments.
fn allowed_names<'a>(target: &Target<'_>) -> Vec<&'a str> {
    let mut names = BTreeSet::new();
    let mut applies = false;
    for line in DEFAULT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            applies = match section.split_once(' ') {
                None => true,
                Some(("cap", name)) => target.capabilities.contains(&format!("CAP_{name}")),
                Some((_, name)) => name == target.architecture,
            };
        } else if let Some((_purpose, words)) = line.split_once(':')
            && applies
        {
            names.extend(words.split_whitespace());
        }
    }
    names.into_iter().collect()
}

fn architectures(name: &str) -> Vec<&'static str> {
    let found = ARCHITECTURES.iter().find(|(go, ..)| *go == name);
    found.map(|(_, native, others)| [&[*native][..], others].concat()).unwrap_or_default()
}

/// A profile file. Docker's form adds `archMap`, and `includes` and `excludes` of each rule; without them it is OCI's.
pub fn from_file(bytes: &[u8], target: &Target<'_>) -> Result<LinuxSeccomp, Error> {
    let malformed = |why: String| {
        Error::invalid_argument(format!("the seccomp profile is malformed: {why}")).with_hint(
            "give a profile in Docker's form, or the `linux.seccomp` object of an OCI runtime spec",
        )
    };
    if bytes.len() > PROFILE_BYTES_MAX {
        return Err(malformed(format!("{} bytes are more than {PROFILE_BYTES_MAX}", bytes.len())));
    }
    let mut profile: serde_json::Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if !profile.contains_key("defaultAction") {
        return Err(malformed("`defaultAction` is missing".to_owned()));
    }
    if let Some(map) = profile.remove("archMap") {
        let wanted = architectures(target.architecture);
        let map: Vec<ArchMap> = serde_json::from_value(map).map_err(|error| malformed(error.to_string()))?;
        let own = map.into_iter().find(|entry| Some(&entry.architecture.as_str()) == wanted.first());
        let names =
            own.map(|own| [vec![own.architecture], own.sub_architectures.unwrap_or_default()].concat());
        profile.insert("architectures".to_owned(), json!(names.unwrap_or_default()));
    }
    let calls = profile.remove("syscalls").unwrap_or(json!([]));
    let calls: Vec<serde_json::Map<String, Value>> =
        serde_json::from_value(calls).map_err(|error| malformed(error.to_string()))?;
    let mut kept = Vec::new();
    for mut call in calls {
        let mut condition = |key: &str| -> Result<Condition, Error> {
            let value = call.remove(key).filter(|value| !value.is_null()).unwrap_or(json!({}));
            serde_json::from_value(value).map_err(|error| malformed(format!("`{key}`: {error}")))
        };
        let (includes, excludes) = (condition("includes")?, condition("excludes")?);
        if !includes.all(target) || excludes.any(target) {
            continue;
        }
        call.remove("comment");
        // Docker's older form names one call by `name`.
        if let Some(name) = call.remove("name").filter(|name| !call.contains_key("names") && name.is_string())
        {
            call.insert("names".to_owned(), json!([name]));
        }
        if call.get("args").is_some_and(Value::is_null) {
            call.remove("args");
        }
        kept.push(Value::Object(call));
    }
    profile.insert("syscalls".to_owned(), Value::Array(kept));
    serde_json::from_value(Value::Object(profile)).map_err(|error| malformed(error.to_string()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

/// When a rule of Docker's form applies.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Condition {
    /// As `includes`: what is given must hold; all capabilities, one of the architectures.
    fn all(&self, target: &Target<'_>) -> bool {
        let caps = self.caps.iter().flatten().all(|cap| target.capabilities.contains(cap));
        let arches = self.arches.iter().flatten().collect::<Vec<_>>();
        let arch = arches.is_empty() || arches.iter().any(|name| *name == target.architecture);
        caps && arch && self.min_kernel.as_deref().is_none_or(|least| at_least(target.kernel, least))
    }

    /// As `excludes`: any of it is enough.
    fn any(&self, target: &Target<'_>) -> bool {
        self.caps.iter().flatten().any(|cap| target.capabilities.contains(cap))
            || self.arches.iter().flatten().any(|name| name == target.architecture)
            || self.min_kernel.as_deref().is_some_and(|least| at_least(target.kernel, least))
    }
}

fn at_least(kernel: (u32, u32), least: &str) -> bool {
    version(least).is_some_and(|least| kernel >= least)
}

/// `6.18.3-cloud` → (6, 18).
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests;
