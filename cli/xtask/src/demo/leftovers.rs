//! Looks at the host, not at the daemon's own opinion: what of this world's containers is still there?

use std::path::Path;

use crate::world::World;

/// One line for each thing found.
pub fn find(world: &World) -> anyhow::Result<Vec<String>> {
    let mut left = shims(world)?;
    left.extend(cgroups(Path::new("/sys/fs/cgroup"), &world.cgroup_parent()));
    let ours = world.directory.to_string_lossy().into_owned();
    for line in std::fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let target = line.split_whitespace().nth(4).unwrap_or_default();
        // Our own tmpfs for the state directories stays until the end.
        if target.starts_with(&ours) && target != format!("{ours}/run") {
            left.push(format!("mount {target}"));
        }
    }
    for entry in entries(&world.state("bosun").join("tasks")) {
        left.push(format!("task directory {entry}"));
    }
    Ok(left)
}

fn shims(world: &World) -> anyhow::Result<Vec<String>> {
    let state = world.state("bosun").to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let line = String::from_utf8_lossy(&std::fs::read(path.join("cmdline")).unwrap_or_default())
            .replace('\0', " ");
        if line.contains("--nonce") && line.contains(&state) {
            found.push(format!("shim {line}"));
        }
    }
    Ok(found)
}

/// Directories below our parent, in every hierarchy; the parent itself may stay.
fn cgroups(root: &Path, parent: &str) -> Vec<String> {
    let hierarchies = entries(root).into_iter().map(|name| root.join(name)).chain([root.to_path_buf()]);
    hierarchies
        .map(|hierarchy| hierarchy.join(parent.trim_start_matches('/')))
        .flat_map(|ours| containers_below(&ours))
        .collect()
}

fn containers_below(parent: &Path) -> Vec<String> {
    let directories = |path: &Path| {
        entries(path).into_iter().map(|name| path.join(name)).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    directories(parent)
        .iter()
        .flat_map(|namespace| directories(namespace))
        .map(|container| format!("cgroup {}", container.display()))
        .collect()
}

fn entries(path: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
