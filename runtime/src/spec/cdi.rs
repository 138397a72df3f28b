//! Devices by the Container Device Interface: what a vendor's spec says a container needs for `vendor.com/class=name` (nodes, mounts, environment,
//! hooks). Specs are files of the host's administrator, JSON or YAML; of two that define a device, the one in the later directory counts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bosun_types::Error;
use bosun_types::mount::Mount;
use bosun_types::spec::SpecOptions;
use oci_spec::runtime::{Hook, Hooks, Spec};
use serde::Deserialize;

use crate::error::{Context as _, Result};

/// Where specs are, later ones first in precedence.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Largest spec, in bytes.
const SPEC_BYTES_MAX: u64 = 4 << 20;

/// One file.
#[derive(Debug, Deserialize)]
struct CdiSpec {
    kind: String,
    #[serde(default)]
    devices: Vec<CdiDevice>,
    #[serde(default, rename = "containerEdits")]
    edits: Edits,
}

#[derive(Debug, Deserialize)]
struct CdiDevice {
    name: String,
    #[serde(default, rename = "containerEdits")]
    edits: Edits,
}

/// What a container gets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<CdiMount>,
    hooks: Vec<CdiHook>,
    #[serde(rename = "additionalGids")]
    groups: Vec<u32>,
    /// Of newer specs: a device that lacks what it needs must not be given.
    #[serde(flatten)]
    unknown: BTreeMap<String, serde::de::IgnoredAny>,
}

/// Options in which every CDI device is replaced by what it stands for, and what options have no words for.
#[derive(Debug)]
pub struct Expanded {
    /// The options.
    pub options: SpecOptions,
    /// Hooks, each with the moment at which it is called.
    pub hooks: Vec<(String, Hook)>,
    /// Supplementary groups of the process.
    pub groups: Vec<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceNode {
    path: String,
    host_path: Option<String>,
    permissions: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CdiMount {
    host_path: String,
    container_path: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CdiHook {
    hook_name: String,
    path: PathBuf,
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    timeout: Option<i64>,
}

/// Whether a `--device` is one of these, and not a path.
fn is_cdi(word: &str) -> bool {
    !word.starts_with('/') && word.split_once('=').is_some_and(|(kind, _)| kind.contains('/'))
}

/// Replaces every CDI device by what it stands for.
pub fn expand(options: &SpecOptions, directories: &[PathBuf]) -> Result<Expanded> {
    let (wanted, devices): (Vec<String>, Vec<String>) =
        options.devices.iter().cloned().partition(|word| is_cdi(word));
    let options = SpecOptions { devices, ..options.clone() };
    let mut expanded = Expanded { options, hooks: Vec::new(), groups: Vec::new() };
    if wanted.is_empty() {
        return Ok(expanded);
    }
    let known = load(directories)?;
    let mut general: Vec<&str> = Vec::new();
    for word in &wanted {
        let (spec, device) = find(&known, word, directories)?;
        // What all devices of a spec need is needed once.
        if !general.contains(&spec.kind.as_str()) {
            general.push(&spec.kind);
            add(&mut expanded, &spec.edits, word)?;
        }
        add(&mut expanded, &device.edits, word)?;
    }
    Ok(expanded)
}

fn find<'a>(
    known: &'a [CdiSpec],
    word: &str,
    directories: &[PathBuf],
) -> Result<(&'a CdiSpec, &'a CdiDevice)> {
    let (kind, name) = word.split_once('=').unwrap_or((word, ""));
    let of_kind = known.iter().rev().filter(|spec| spec.kind == kind);
    let found = of_kind.flat_map(|spec| spec.devices.iter().map(move |device| (spec, device)));
    if let Some(found) = found.into_iter().find(|(_, device)| device.name == name) {
        return Ok(found);
    }
    let all =
        known.iter().flat_map(|spec| spec.devices.iter().map(|it| format!("{}={}", spec.kind, it.name)));
    let all: Vec<String> = all.collect();
    let hint = match all.is_empty() {
        true => format!(
            "there are no CDI specs in {}: the device's vendor has a program that writes one",
            shown(directories)
        ),
        false => format!("known are {}", all.join(", ")),
    };
    Err(Error::not_found(format!("CDI device {word}")).with_hint(hint).into())
}

fn shown(directories: &[PathBuf]) -> String {
    directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}

fn add(expanded: &mut Expanded, edits: &Edits, word: &str) -> Result<()> {
    if let Some(unknown) = edits.unknown.keys().next() {
        let message = format!("CDI device {word} wants {unknown:?}, which is not supported");
        return Err(Error::not_implemented(message).into());
    }
    let Expanded { options, hooks, groups } = expanded;
    // What the caller says of a variable counts more.
    let own = std::mem::take(&mut options.env);
    options.env = edits.env.iter().cloned().chain(own).collect();
    for node in &edits.device_nodes {
        let source = node.host_path.as_ref().unwrap_or(&node.path);
        let access = node.permissions.as_deref().unwrap_or("rwm");
        let word = format!("{source}:{}:{access}", node.path);
        if !options.devices.contains(&word) {
            options.devices.push(word);
        }
    }
    for mount in &edits.mounts {
        let defaults = ["rbind".to_owned(), "ro".to_owned()];
        let given = if mount.options.is_empty() { &defaults[..] } else { &mount.options };
        options.mounts.push(Mount {
            kind: mount.kind.clone().unwrap_or_else(|| "bind".to_owned()),
            source: mount.host_path.clone(),
            target: mount.container_path.clone(),
            options: given.to_vec(),
        });
    }
    for edit in &edits.hooks {
        let mut hook = Hook::default();
        hook.set_path(edit.path.clone()).set_args(edit.args.clone()).set_env(edit.env.clone());
        hook.set_timeout(edit.timeout);
        hooks.push((edit.hook_name.clone(), hook));
    }
    // The container's own group is no further one.
    groups.extend(edits.groups.iter().filter(|group| **group != 0));
    Ok(())
}

/// Puts supplementary groups into a spec, beside those that its user has.
pub fn apply_groups(spec: &mut Spec, added: &[u32]) {
    let Some(process) = spec.process_mut().as_mut().filter(|_| !added.is_empty()) else { return };
    let mut user = process.user().clone();
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    groups.extend(added);
    groups.sort_unstable();
    groups.dedup();
    user.set_additional_gids(Some(groups));
    process.set_user(user);
}

/// Puts hooks into a spec.
pub fn apply_hooks(spec: &mut Spec, added: Vec<(String, Hook)>) -> Result<()> {
    if added.is_empty() {
        return Ok(());
    }
    let mut by_name: BTreeMap<String, Vec<Hook>> = BTreeMap::new();
    for (name, hook) in added {
        by_name.entry(name).or_default().push(hook);
    }
    let mut hooks = Hooks::default();
    for (name, list) in by_name {
        let list = Some(list);
        match name.as_str() {
            "prestart" => hooks.set_prestart(list),
            "createRuntime" => hooks.set_create_runtime(list),
            "createContainer" => hooks.set_create_container(list),
            "startContainer" => hooks.set_start_container(list),
            "poststart" => hooks.set_poststart(list),
            "poststop" => hooks.set_poststop(list),
            _ => return Err(Error::invalid_argument(format!("CDI hook {name:?} is not supported")).into()),
        };
    }
    spec.set_hooks(Some(hooks));
    Ok(())
}

/// Every spec, in order of precedence. One that cannot be read is a reason to fail: the device may be in it.
fn load(directories: &[PathBuf]) -> Result<Vec<CdiSpec>> {
    let mut specs = Vec::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if let Some(spec) = read(&path)? {
                specs.push(spec);
            }
        }
    }
    Ok(specs)
}

fn read(path: &Path) -> Result<Option<CdiSpec>> {
    let is_json = match path.extension().and_then(|it| it.to_str()) {
        Some("json") => true,
        Some("yaml" | "yml") => false,
        _ => return Ok(None),
    };
    let what = || format!("read the CDI spec {}", path.display());
    if fs::metadata(path).context(what)?.len() > SPEC_BYTES_MAX {
        let message = format!("the CDI spec {} has more than {SPEC_BYTES_MAX} bytes", path.display());
        return Err(Error::invalid_argument(message).into());
    }
    let text = fs::read_to_string(path).context(what)?;
    let parsed = match is_json {
        true => serde_json::from_str(&text).map_err(|error| error.to_string()),
        false => serde_saphyr::from_str(&text).map_err(|error| error.to_string()),
    };
    let malformed =
        |why: String| Error::invalid_argument(format!("the CDI spec {} is malformed: {why}", path.display()));
    Ok(Some(parsed.map_err(malformed)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits:\n  env: [\"VENDOR=general\"]\n  hooks:\n  - hookName: createContainer\n    path: /usr/bin/hook\n    args: [hook, update]\n  additionalGids: [109, 0]\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n- name: all\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n      hostPath: /dev/null\n      permissions: rw\n    additionalGids: [44, 109]\n    mounts:\n    - hostPath: /usr/lib/libcuda.so\n      containerPath: /usr/lib/libcuda.so\n";

    fn wanting(devices: &[&str]) -> SpecOptions {
        SpecOptions {
            devices: devices.iter().map(|it| (*it).to_owned()).collect(),
            env: vec!["VENDOR=mine".to_owned()],
            ..SpecOptions::default()
        }
    }

    #[test]
    fn a_device_stands_for_what_its_spec_says() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("nvidia.yaml"), YAML).expect("writes");
        fs::write(directory.path().join("notes.txt"), "no spec").expect("writes");
        let directories = [directory.path().to_owned()];
        let wanted = wanting(&["/dev/fuse", "nvidia.com/gpu=0", "nvidia.com/gpu=all"]);
        let Expanded { options, hooks, groups } = expand(&wanted, &directories).expect("known");
        assert_eq!(
            options.devices,
            ["/dev/fuse", "/dev/nvidia0:/dev/nvidia0:rwm", "/dev/null:/dev/nvidia0:rw"]
        );
        assert_eq!(options.env, ["VENDOR=general", "VENDOR=mine"], "the caller's comes last, and counts");
        assert_eq!(
            (options.mounts.len(), options.mounts[0].options.as_slice()),
            (1, &["rbind".to_owned(), "ro".to_owned()][..])
        );
        assert_eq!(hooks.len(), 1, "what all devices need comes once");
        let mut spec = Spec::default();
        apply_groups(&mut spec, &groups);
        let user = spec.process().as_ref().expect("there is one").user();
        assert_eq!(user.additional_gids().as_deref(), Some(&[44, 109][..]), "each once, without root's");
        apply_hooks(&mut spec, hooks).expect("known");
        let made = spec.hooks().as_ref().and_then(|hooks| hooks.create_container().as_ref()).expect("hooks");
        assert_eq!(made[0].path(), Path::new("/usr/bin/hook"));
    }

    #[test]
    fn a_later_directory_counts_more_and_what_is_unknown_is_told_with_what_is_known() {
        let (first, second) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
        let json = |path: &str| {
            format!(
                r#"{{"cdiVersion":"0.6.0","kind":"a.com/x","devices":[{{"name":"d","containerEdits":{{"deviceNodes":[{{"path":"{path}"}}]}}}}]}}"#
            )
        };
        fs::write(first.path().join("a.json"), json("/dev/one")).expect("writes");
        fs::write(second.path().join("a.json"), json("/dev/two")).expect("writes");
        let directories = [first.path().to_owned(), second.path().to_owned()];
        let options = expand(&wanting(&["a.com/x=d"]), &directories).expect("known").options;
        assert_eq!(options.devices, ["/dev/two:/dev/two:rwm"]);
        let unknown =
            bosun_types::Error::from(expand(&wanting(&["a.com/x=e"]), &directories).expect_err("unknown"));
        assert_eq!(unknown.class, bosun_types::ErrorClass::NotFound);
        assert!(unknown.hint.is_some_and(|hint| hint.contains("a.com/x=d")));
        let newer = json("/dev/two").replace("\"d\"", "\"n\"").replace("deviceNodes", "netDevices");
        fs::write(second.path().join("n.json"), newer).expect("writes");
        let error = expand(&wanting(&["a.com/x=n"]), &directories).expect_err("an edit of a newer spec");
        assert_eq!(bosun_types::Error::from(error).class, bosun_types::ErrorClass::NotImplemented);
        fs::write(second.path().join("b.json"), "{").expect("writes");
        expand(&wanting(&["a.com/x=d"]), &directories).expect_err("a spec that cannot be read");
        expand(&wanting(&["/dev/null"]), &directories).expect("nobody asks the specs");
    }
}
