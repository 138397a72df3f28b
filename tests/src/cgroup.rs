//! What the kernel says of a container's cgroup, read without the daemon: where it is is asked of a process in it.

use std::path::{Path, PathBuf};

/// Where the hierarchies are.
const MOUNTS: &str = "/sys/fs/cgroup";

/// A file of that controller in the group of a process, in whichever version this host has; `None` when the process has gone.
pub fn file_of(pid: u32, controller: &str, name: &str) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let v1 = path_of(&|controllers| controllers.split(',').any(|it| it == controller));
    let directory = match v1 {
        Some(path) => Path::new(MOUNTS).join(controller).join(path),
        None => Path::new(MOUNTS).join(path_of(&str::is_empty)?),
    };
    Some(directory.join(name))
}

/// What is in such a file.
pub fn value_of(pid: u32, controller: &str, name: &str) -> Option<String> {
    Some(std::fs::read_to_string(file_of(pid, controller, name)?).ok()?.trim().to_owned())
}

/// Whether the container of that process is frozen.
pub fn is_frozen(pid: u32) -> Option<bool> {
    value_of(pid, "freezer", "freezer.state")
        .map(|state| state != "THAWED")
        .or_else(|| Some(value_of(pid, "", "cgroup.freeze")? == "1"))
}
