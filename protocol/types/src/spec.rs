//! Requests to make a container: where its root comes from, and words to build its OCI spec from (SPC-*, CTR-13).

use std::collections::BTreeMap;

use crate::container::{Any, RuntimeChoice};
use crate::mount::Mount;
use crate::relaunch::RestartPolicy;
use crate::user_namespace::UserNamespace;
use crate::{ContainerId, ImageName, Labels, SnapshotKey};

mod build;

/// A container to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRequest {
    /// Its id.
    pub id: ContainerId,
    /// Labels.
    pub labels: Labels,
    /// Image it is made from; must exist when `root` is `Image`.
    pub image: Option<ImageName>,
    /// Snapshotter; `None`: the default.
    pub snapshotter: Option<String>,
    /// Its root file system.
    pub root: RootRequest,
    /// OCI runtime.
    pub runtime: RuntimeChoice,
    /// Its OCI spec.
    pub spec: SpecRequest,
    /// Named extensions.
    pub extensions: BTreeMap<String, Any>,
    /// Restart policy; `None`: what the labels say (RST-1), else none.
    pub restart: Option<RestartPolicy>,
    /// Image of a checkpoint that it is made from (CTR-13, CKP-8): `image` is then that of the checkpointed container, and a `root` that is an
    /// image gets what that container had written. A snapshot that is there under the root's key is taken as it is.
    pub checkpoint: Option<ImageName>,
}

/// Where a root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootRequest {
    /// A new writable snapshot of the image (CTR-14); unpacked first if need be. The key is the container's id unless given.
    Image {
        /// Key of the new snapshot.
        key: Option<SnapshotKey>,
    },
    /// The image read-only, without a writable layer of its own. The key is the container's id unless given.
    ImageView {
        /// Key of the new view.
        key: Option<SnapshotKey>,
    },
    /// A snapshot that exists.
    Snapshot(SnapshotKey),
    /// A directory of the host, as `--rootfs DIR`.
    Directory(String),
    /// Whatever the given spec says.
    FromSpec,
}

/// The OCI spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecRequest {
    /// Whole, as JSON.
    Json(Vec<u8>),
    /// Built by the daemon from defaults (SPC-1..8), the image's config (SPC-12) and these options.
    Build(Box<SpecOptions>),
    /// That of the checkpointed container, put into a cgroup of this one's own.
    Checkpoint,
}

/// Options on top of the defaults and the image's config.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecOptions {
    /// Replaces entrypoint and cmd of the image when not empty.
    pub args: Vec<String>,
    /// Replaces the image's entrypoint; `args` (or the image's cmd) follow it.
    pub entrypoint: Option<Vec<String>>,
    /// `KEY=VALUE` replaces by key; a word without `=` removes it (SPC-9).
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// `user[:group]`, names or numbers (SPC-13).
    pub user: Option<String>,
    /// Terminal; adds `TERM=xterm`.
    pub terminal: bool,
    /// Host name.
    pub hostname: Option<String>,
    /// Extra mounts, appended.
    pub mounts: Vec<Mount>,
    /// Read-only root file system.
    pub read_only_root: bool,
    /// All capabilities, no masks (SPC-11).
    pub privileged: bool,
    /// Stay in the host's network namespace.
    pub host_network: bool,
    /// Linux namespaces to join: type to path (`--with-ns`); `host`: the one that the daemon is in.
    pub join_namespaces: BTreeMap<String, String>,
    /// Memory limit in bytes.
    pub memory_bytes_max: Option<u64>,
    /// Processors, in thousandths of one.
    pub cpu_millis: Option<u64>,
    /// Most processes.
    pub pids_max: Option<u64>,
    /// Capabilities beyond the default: `CAP_NET_ADMIN`, `net_admin` or `ALL`. Given after `capabilities_drop` is taken.
    pub capabilities_add: Vec<String>,
    /// Capabilities less than the default.
    pub capabilities_drop: Vec<String>,
    /// Clears `no_new_privileges`: set-user-id programs gain what they say.
    pub may_gain_privileges: bool,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// AppArmor profile, on a host that has it.
    pub apparmor_profile: Option<String>,
    /// SELinux label `user:role:type:level`, on a host that has it.
    pub selinux_label: Option<String>,
    /// Replace the default's of the same kind.
    pub rlimits: Vec<Rlimit>,
    /// Further paths that it sees empty.
    pub masked_paths: Vec<String>,
    /// Further paths that it may not change.
    pub read_only_paths: Vec<String>,
    /// Taken from the defaults of both; `ALL`: every one.
    pub unmask_paths: Vec<String>,
    /// Host devices it may use: `/dev/fuse`, `/dev/x:/dev/y:rwm`.
    pub devices: Vec<String>,
    /// Users of its own: root inside is somebody else outside. A new snapshot's files belong to them.
    pub user_namespace: Option<UserNamespace>,
    /// Annotations of the OCI spec.
    pub annotations: BTreeMap<String, String>,
    /// Weight against others when processors are short; 1024 is ordinary.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period, exactly, instead of `cpu_millis`.
    pub cpu_quota_micros: Option<u64>,
    /// The scheduler's period in microseconds; `None`: 100 ms.
    pub cpu_period_micros: Option<u64>,
}

/// A filter of system calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// The daemon's default; none for a privileged container.
    #[default]
    Standard,
    /// No filter.
    Unconfined,
    /// A profile in Docker's form, or OCI's `linux.seccomp`; at most 1 MiB.
    Json(Vec<u8>),
}

/// A limit of a process (getrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` or `nofile`.
    pub kind: String,
    /// What is enforced.
    pub soft: u64,
    /// What the process may raise `soft` to.
    pub hard: u64,
}
