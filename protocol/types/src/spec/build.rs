//! Requests word by word: what containerd's client has option functions for (CTR-13, SPC-9 to SPC-11).

use std::collections::BTreeMap;

use super::{ContainerRequest, Rlimit, RootRequest, Seccomp, SpecOptions, SpecRequest};
use crate::container::{Any, RuntimeChoice};
use crate::mount::Mount;
use crate::relaunch::RestartPolicy;
use crate::user_namespace::UserNamespace;
use crate::{ContainerId, ImageName, Labels};

impl ContainerRequest {
    /// A container without an image, whose root is what its spec says; give it a root and a spec.
    pub fn new(id: ContainerId) -> Self {
        Self {
            id,
            labels: Labels::new(),
            image: None,
            snapshotter: None,
            root: RootRequest::FromSpec,
            runtime: RuntimeChoice::default(),
            spec: SpecRequest::Build(Box::default()),
            extensions: BTreeMap::new(),
            restart: None,
            checkpoint: None,
        }
    }

    /// A container of an image, on a new writable snapshot under its own id, with the spec that the image's config makes.
    pub fn of_image(id: ContainerId, image: ImageName) -> Self {
        Self { image: Some(image), root: RootRequest::Image { key: None }, ..Self::new(id) }
    }

    /// A container that goes on from a checkpoint: its image, what was written, its spec (CKP-8). Give the task the same checkpoint.
    pub fn of_checkpoint(id: ContainerId, checkpoint: ImageName) -> Self {
        Self {
            checkpoint: Some(checkpoint),
            root: RootRequest::Image { key: None },
            spec: SpecRequest::Checkpoint,
            ..Self::new(id)
        }
    }

    /// One more label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Another snapshotter than the default.
    #[must_use]
    pub fn snapshotter(self, snapshotter: &str) -> Self {
        Self { snapshotter: Some(snapshotter.to_owned()), ..self }
    }

    /// Another root.
    #[must_use]
    pub fn root(self, root: RootRequest) -> Self {
        Self { root, ..self }
    }

    /// Another OCI runtime: `runc`, `crun`, or a path.
    #[must_use]
    pub fn runtime(self, name: &str) -> Self {
        Self { runtime: RuntimeChoice { name: name.to_owned(), ..self.runtime }, ..self }
    }

    /// A spec of these options.
    #[must_use]
    pub fn spec(self, options: SpecOptions) -> Self {
        Self { spec: SpecRequest::Build(Box::new(options)), ..self }
    }

    /// A whole OCI runtime spec, JSON.
    #[must_use]
    pub fn spec_json(self, json: Vec<u8>) -> Self {
        Self { spec: SpecRequest::Json(json), ..self }
    }

    /// One more extension.
    #[must_use]
    pub fn extension(mut self, key: &str, value: Any) -> Self {
        self.extensions.insert(key.to_owned(), value);
        self
    }

    /// A restart policy.
    #[must_use]
    pub fn restart(self, policy: RestartPolicy) -> Self {
        Self { restart: Some(policy), ..self }
    }
}

impl SpecOptions {
    /// The command, in the place of the image's.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, args: I) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// One more word of the environment: `KEY=VALUE` replaces by key, a word without `=` removes it.
    #[must_use]
    pub fn env(mut self, word: &str) -> Self {
        self.env.push(word.to_owned());
        self
    }

    /// Working directory.
    #[must_use]
    pub fn cwd(self, directory: &str) -> Self {
        Self { cwd: Some(directory.to_owned()), ..self }
    }

    /// `user[:group]`, names or numbers.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        Self { user: Some(user.to_owned()), ..self }
    }

    /// Host name.
    #[must_use]
    pub fn hostname(self, hostname: &str) -> Self {
        Self { hostname: Some(hostname.to_owned()), ..self }
    }

    /// A terminal.
    #[must_use]
    pub fn terminal(self) -> Self {
        Self { terminal: true, ..self }
    }

    /// One more mount.
    #[must_use]
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// A file of the host under its own name, read-only: `/etc/hosts`, `/etc/resolv.conf`, `/etc/localtime` (SPC-10).
    #[must_use]
    pub fn host_file(self, path: &str) -> Self {
        self.mount(Mount {
            kind: "bind".to_owned(),
            source: path.to_owned(),
            target: path.to_owned(),
            options: vec!["rbind".to_owned(), "ro".to_owned()],
        })
    }

    /// A read-only root.
    #[must_use]
    pub fn read_only_root(self) -> Self {
        Self { read_only_root: true, ..self }
    }

    /// All capabilities, no masks.
    #[must_use]
    pub fn privileged(self) -> Self {
        Self { privileged: true, ..self }
    }

    /// The host's network, with its files for names.
    #[must_use]
    pub fn host_network(self) -> Self {
        Self { host_network: true, ..self }
    }

    /// The Linux namespace of this type (`pid`, `ipc`, `uts`, `cgroup`) that the daemon is in, in the place of one of its own.
    #[must_use]
    pub fn host_namespace(self, kind: &str) -> Self {
        self.join_namespace(kind, "host")
    }

    /// The Linux namespace of this type that is at this path.
    #[must_use]
    pub fn join_namespace(mut self, kind: &str, path: &str) -> Self {
        self.join_namespaces.insert(kind.to_owned(), path.to_owned());
        self
    }

    /// Memory limit in bytes.
    #[must_use]
    pub fn memory_bytes_max(self, bytes: u64) -> Self {
        Self { memory_bytes_max: Some(bytes), ..self }
    }

    /// Processors, in thousandths of one.
    #[must_use]
    pub fn cpu_millis(self, millis: u64) -> Self {
        Self { cpu_millis: Some(millis), ..self }
    }

    /// Most processes.
    #[must_use]
    pub fn pids_max(self, count: u64) -> Self {
        Self { pids_max: Some(count), ..self }
    }

    /// One more capability than the default; `ALL`: every one.
    #[must_use]
    pub fn add_capability(mut self, capability: &str) -> Self {
        self.capabilities_add.push(capability.to_owned());
        self
    }

    /// One less; `ALL`: none but those that are added.
    #[must_use]
    pub fn drop_capability(mut self, capability: &str) -> Self {
        self.capabilities_drop.push(capability.to_owned());
        self
    }

    /// Set-user-id programs gain what they say.
    #[must_use]
    pub fn may_gain_privileges(self) -> Self {
        Self { may_gain_privileges: true, ..self }
    }

    /// Another filter of system calls.
    #[must_use]
    pub fn seccomp(self, seccomp: Seccomp) -> Self {
        Self { seccomp, ..self }
    }

    /// One more limit.
    #[must_use]
    pub fn rlimit(mut self, kind: &str, soft: u64, hard: u64) -> Self {
        self.rlimits.push(Rlimit { kind: kind.to_owned(), soft, hard });
        self
    }

    /// One more path that it sees empty.
    #[must_use]
    pub fn mask(mut self, path: &str) -> Self {
        self.masked_paths.push(path.to_owned());
        self
    }

    /// A path that it sees as it is, though the defaults mask or protect it; `ALL`: every one.
    #[must_use]
    pub fn unmask(mut self, path: &str) -> Self {
        self.unmask_paths.push(path.to_owned());
        self
    }

    /// One more device of the host.
    #[must_use]
    pub fn device(mut self, device: &str) -> Self {
        self.devices.push(device.to_owned());
        self
    }

    /// Users of its own.
    #[must_use]
    pub fn users(self, users: UserNamespace) -> Self {
        Self { user_namespace: Some(users), ..self }
    }
}
