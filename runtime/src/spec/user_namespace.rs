//! A container with users of its own (SPC-11): the namespace, its maps, and what its root may not do as others do.
//!
//! - It makes no device nodes: devices of the host are bound to their places.
//! - sysfs belongs to whoever owns the network: in the host's network the host's is bound, read-only.
//! - `gid=5` of the terminals' file system must be mapped, or is left out.

use std::path::Path;

use bosun_types::Error;
use bosun_types::spec::SpecOptions;
use bosun_types::user_namespace::{IdMaps, IdRange, SpecSketch};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, Mount, Spec};

use super::devices;
use crate::error::Result;

/// The group of terminals in the default spec.
const TERMINALS_GROUP: u32 = 5;
const TERMINALS_GROUP_WORD: &str = "gid=5";

/// The namespace on top of everything else.
pub fn apply(spec: &mut Spec, options: &SpecOptions) -> Result<()> {
    let Some(users) = &options.user_namespace else { return Ok(()) };
    let maps = users.maps()?;
    if options.join_namespaces.contains_key("user") {
        let message = "a container joins a user namespace or has one of its own, not both";
        return Err(Error::invalid_argument(message).into());
    }
    check_process(spec, &maps)?;
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    // A network that is joined, or the host's, is not owned by the new users.
    let own_network =
        namespaces.iter().any(|it| it.typ() == LinuxNamespaceType::Network && it.path().is_none());
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(LinuxNamespaceType::User);
    namespaces.push(namespace);
    linux.set_namespaces(Some(namespaces));
    linux.set_uid_mappings(Some(mappings(&maps.uids)?)).set_gid_mappings(Some(mappings(&maps.gids)?));
    linux.set_devices(None);
    spec.set_linux(Some(linux));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in &mut mounts {
        if mount.typ().as_deref() == Some("sysfs") && !own_network {
            bind_sysfs(mount);
        }
        if mount.typ().as_deref() == Some("devpts") && maps.host_gid(TERMINALS_GROUP).is_none() {
            let words = mount.options().iter().flatten().filter(|word| *word != TERMINALS_GROUP_WORD);
            mount.set_options(Some(words.cloned().collect()));
        }
    }
    mounts.extend(devices::binds(options)?);
    spec.set_mounts(Some(mounts));
    Ok(())
}

/// Who the process is must be somebody outside too.
fn check_process(spec: &Spec, maps: &IdMaps) -> Result<()> {
    let Some(user) = spec.process().as_ref().map(|process| process.user().clone()) else { return Ok(()) };
    let groups = user.additional_gids().clone().unwrap_or_default();
    let unmapped =
        (maps.host_uid(user.uid()).is_none()).then(|| format!("user {}", user.uid())).or_else(|| {
            let gid = std::iter::once(user.gid()).chain(groups).find(|gid| maps.host_gid(*gid).is_none())?;
            Some(format!("group {gid}"))
        });
    match unmapped {
        Some(who) => {
            Err(Error::invalid_argument(format!("{who} of the process is not in the container's map"))
                .with_hint("map more ids, or run as another user")
                .into())
        }
        None => Ok(()),
    }
}

fn bind_sysfs(mount: &mut Mount) {
    let words = ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
    mount.set_typ(Some("bind".to_owned())).set_source(Some(Path::new("/sys").to_owned()));
    mount.set_options(Some(words));
}

fn mappings(ranges: &[IdRange]) -> Result<Vec<LinuxIdMapping>> {
    let mapping = |range: &IdRange| {
        oci_spec::runtime::LinuxIdMappingBuilder::default()
            .container_id(range.container)
            .host_id(range.host)
            .size(range.size)
            .build()
            .map_err(|error| Error::internal(format!("id range {range}: {error}")).into())
    };
    ranges.iter().map(mapping).collect()
}

/// The maps of a whole spec; `None`: it makes no user namespace.
pub fn maps_of(spec: &[u8]) -> Result<Option<IdMaps>> {
    let sketch: SpecSketch = serde_json::from_slice(spec)
        .map_err(|error| Error::invalid_argument(format!("the OCI spec is malformed: {error}")))?;
    let maps = sketch.maps();
    if let Some(maps) = &maps {
        maps.check()?;
    }
    Ok(maps)
}

#[cfg(test)]
mod tests {
    use bosun_types::user_namespace::UserNamespace;
    use serde_json::json;

    use super::super::tests::{run, value};
    use super::*;

    fn mapped(ranges: &[&str]) -> SpecOptions {
        let uids = ranges.iter().map(|range| range.parse().unwrap()).collect();
        SpecOptions {
            user_namespace: Some(UserNamespace { uids, ..UserNamespace::default() }),
            ..run(&["/bin/true"])
        }
    }

    #[test]
    fn spc_11_one_map_for_users_and_groups_of_several_ranges() {
        let spec = value(&mapped(&["0:100000:1000", "1000:300000:1"]), None, None).unwrap();
        let wanted = json!([
            {"containerID": 0, "hostID": 100_000, "size": 1000},
            {"containerID": 1000, "hostID": 300_000, "size": 1}
        ]);
        assert_eq!((&spec["linux"]["uidMappings"], &spec["linux"]["gidMappings"]), (&wanted, &wanted));
        let kinds = spec["linux"]["namespaces"].as_array().unwrap();
        assert!(kinds.contains(&json!({"type": "user"})), "{kinds:?}");
        let maps = maps_of(&serde_json::to_vec(&spec).unwrap()).unwrap().unwrap();
        assert_eq!((maps.host_uid(1000), maps.host_gid(999)), (Some(300_000), Some(100_999)));
        let plain = value(&run(&["/bin/true"]), None, None).unwrap();
        assert_eq!(maps_of(&serde_json::to_vec(&plain).unwrap()).unwrap(), None);
    }

    #[test]
    fn spc_11_what_the_mapped_root_cannot_mount_is_done_otherwise() {
        let mount = |options: &SpecOptions, target: &str| {
            let spec = value(options, None, None).unwrap();
            spec["mounts"].as_array().unwrap().iter().find(|it| it["destination"] == target).unwrap().clone()
        };
        let small = mapped(&["0:100000:5"]);
        assert!(!mount(&small, "/dev/pts")["options"].as_array().unwrap().contains(&json!("gid=5")));
        assert!(
            mount(&mapped(&["0:9:6"]), "/dev/pts")["options"].as_array().unwrap().contains(&json!("gid=5"))
        );
        assert_eq!(mount(&small, "/sys")["type"], "sysfs");
        let host = SpecOptions { host_network: true, ..mapped(&["0:100000:10"]) };
        assert_eq!(mount(&host, "/sys")["type"], "bind");
        let device =
            SpecOptions { devices: vec!["/dev/full:/dev/mine:rw".to_owned()], ..mapped(&["0:100000:10"]) };
        assert_eq!(mount(&device, "/dev/mine")["source"], "/dev/full");
        assert!(value(&device, None, None).unwrap()["linux"].get("devices").is_none());
    }

    #[test]
    fn spc_11_a_process_of_nobody_outside_is_refused() {
        for (user, why) in [("10", "user 10"), ("1:10", "group 10")] {
            let options = SpecOptions { user: Some(user.to_owned()), ..mapped(&["0:100000:10"]) };
            assert!(value(&options, None, None).unwrap_err().to_string().contains(why), "{user}");
        }
        let mut both = mapped(&["0:100000:10"]);
        both.join_namespaces.insert("user".to_owned(), "/proc/1/ns/user".to_owned());
        assert!(value(&both, None, None).is_err());
    }
}
