//! OCI specs: the defaults (SPC-1..8), an image's config (SPC-12), the caller's options (SPC-9..11), in that order.
//!
//! Where the daemon decides differently from the rows, and why:
//! - SPC-2: the inheritable set is empty. With capabilities in it, a program in the container that is executed by a
//!   user without privilege gets them through file capabilities (CVE-2022-24769, CVE-2022-29162, CVE-2022-27649).
//! - SPC-12: environment words merge by key, so none is there twice.
//! - SPC-14: supplementary groups are set, the primary one among them (CVE-2022-36109, CVE-2023-25173).

mod capabilities;
mod cdi;
mod defaults;
mod devices;
mod environment;
mod exec;
mod json;
mod options;
pub(crate) mod seccomp;
mod security;
mod user;
mod user_namespace;

pub use cdi::DIRECTORIES as CDI_DIRECTORIES;
pub use exec::exec_process;
pub use json::to_json;
pub use user::{UserDatabase, resolve as resolve_user};
pub use user_namespace::maps_of;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use bosun_types::spec::SpecOptions;
use bosun_types::{ContainerId, NamespaceName};
use oci_spec::runtime::Spec;

use crate::error::Result;

/// How an image wants its process to be run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageProcessConfig {
    /// `user[:group]`, names or numbers; empty for root.
    pub user: String,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// First words of the command line.
    pub entrypoint: Vec<String>,
    /// Words that follow unless the caller gives others.
    pub cmd: Vec<String>,
    /// Working directory; empty for `/`.
    pub working_dir: String,
}

/// What a spec needs beside options and image.
#[derive(Debug, Clone, Copy)]
pub struct SpecContext<'a> {
    /// Namespace, part of the cgroup's path.
    pub namespace: &'a NamespaceName,
    /// Container, part of the cgroup's path.
    pub id: &'a ContainerId,
    /// cgroup below which the container's lies, such as `/bosun`.
    pub cgroup_parent: &'a str,
    /// `rootfs` for one that the shim mounts, or an absolute path of the host that is used as it is.
    pub root_path: &'a str,
    /// The root file system, for the user lookup (a detached mount will do); without it only numbers can be resolved.
    pub root: Option<BorrowedFd<'a>>,
    /// Where specs of CDI devices are; a later one counts more.
    pub cdi_directories: &'a [PathBuf],
}

/// Default parent of containers' cgroups.
pub const CGROUP_PARENT_DEFAULT: &str = "/bosun";

/// The container's cgroup, as its spec names it.
pub fn cgroup_path(parent: &str, namespace: &NamespaceName, id: &ContainerId) -> String {
    format!("{}/{namespace}/{id}", parent.trim_end_matches('/'))
}

/// Builds a spec. Blocking: it may read the root file system.
pub fn build(
    options: &SpecOptions,
    image: Option<&ImageProcessConfig>,
    context: &SpecContext<'_>,
) -> Result<Spec> {
    let cdi::Expanded { options, hooks, groups } = cdi::expand(options, context.cdi_directories)?;
    let options = &options;
    let mut spec = defaults::spec(context);
    let default_image = ImageProcessConfig::default();
    let image = image.unwrap_or(&default_image);
    options::process(&mut spec, options, image, context)?;
    options::file_systems(&mut spec, options)?;
    options::isolation(&mut spec, options)?;
    security::apply(&mut spec, options)?;
    options::limits(&mut spec, options)?;
    devices::apply(&mut spec, options)?;
    options::annotations(&mut spec, options)?;
    cdi::apply_hooks(&mut spec, hooks)?;
    cdi::apply_groups(&mut spec, &groups);
    user_namespace::apply(&mut spec, options)?;
    Ok(spec)
}

#[cfg(test)]
mod tests;
