//! `container.capnp`: the record, and the request to make one.

use bosun_types::container::{Any, ContainerRecord, RuntimeChoice};
use bosun_types::relaunch::RestartPolicy;
use bosun_types::spec::{ContainerRequest, Rlimit, RootRequest, Seccomp, SpecOptions, SpecRequest};
use bosun_types::user_namespace::{IdRange, Ownership, UserNamespace};
use bosun_types::{Result, SnapshotKey, Timestamp};

use super::common::{enum_both_ways, read_named, write_named};
use super::{
    Sound, Wire, length, pair_count, read_list, read_optional_parsed, read_optional_text, read_pairs,
    read_parsed, read_text, read_texts, write_list, write_pairs, write_texts,
};
use crate::container_capnp as wire;

impl Wire for RuntimeChoice {
    type Struct = wire::runtime_choice::Owned;

    fn write(&self, mut to: wire::runtime_choice::Builder<'_>) {
        to.set_id(self.name.as_str());
        if let Some(options) = &self.options {
            options.write(to.init_options());
        }
    }

    fn read(from: wire::runtime_choice::Reader<'_>) -> Result<Self> {
        let options = if from.has_options() { Some(Any::read(from.get_options().sound()?)?) } else { None };
        Ok(Self { name: read_text(from.get_id())?, options })
    }
}

impl Wire for ContainerRecord {
    type Struct = wire::container_record::Owned;

    fn write(&self, mut to: wire::container_record::Builder<'_>) {
        to.set_namespace(self.namespace.as_str());
        to.set_id(self.id.as_str());
        write_pairs(&self.labels, to.reborrow().init_labels(pair_count(&self.labels)));
        if let Some(image) = &self.image {
            to.set_image(image.as_str());
        }
        self.runtime.write(to.reborrow().init_runtime());
        to.set_spec(&self.spec);
        if let Some(snapshotter) = &self.snapshotter {
            to.set_snapshotter(snapshotter.as_str());
        }
        if let Some(key) = &self.snapshot_key {
            to.set_snapshot_key(key.as_str());
        }
        write_named(&self.extensions, to.reborrow().init_extensions(pair_count(&self.extensions)));
        to.set_created_at(self.created_at.0);
        to.set_updated_at(self.updated_at.0);
    }

    fn read(from: wire::container_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            namespace: read_parsed(from.get_namespace())?,
            id: read_parsed(from.get_id())?,
            labels: read_pairs(from.get_labels())?,
            image: read_optional_parsed(from.has_image(), from.get_image())?,
            runtime: RuntimeChoice::read(from.get_runtime().sound()?)?,
            spec: from.get_spec().sound()?.to_vec(),
            snapshotter: read_optional_text(from.has_snapshotter(), from.get_snapshotter())?,
            snapshot_key: read_optional_parsed(from.has_snapshot_key(), from.get_snapshot_key())?,
            extensions: read_named(from.get_extensions())?,
            created_at: Timestamp(from.get_created_at()),
            updated_at: Timestamp(from.get_updated_at()),
        })
    }
}

impl Wire for ContainerRequest {
    type Struct = wire::container_request::Owned;

    fn write(&self, mut to: wire::container_request::Builder<'_>) {
        to.set_id(self.id.as_str());
        write_pairs(&self.labels, to.reborrow().init_labels(pair_count(&self.labels)));
        if let Some(image) = &self.image {
            to.set_image(image.as_str());
        }
        if let Some(snapshotter) = &self.snapshotter {
            to.set_snapshotter(snapshotter.as_str());
        }
        self.root.write(to.reborrow().init_root());
        self.runtime.write(to.reborrow().init_runtime());
        self.spec.write(to.reborrow().init_spec());
        write_named(&self.extensions, to.reborrow().init_extensions(pair_count(&self.extensions)));
        if let Some(policy) = &self.restart {
            policy.write(to.reborrow().init_restart());
        }
        if let Some(checkpoint) = &self.checkpoint {
            to.set_checkpoint(checkpoint.as_str());
        }
    }

    fn read(from: wire::container_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            id: read_parsed(from.get_id())?,
            labels: read_pairs(from.get_labels())?,
            image: read_optional_parsed(from.has_image(), from.get_image())?,
            snapshotter: read_optional_text(from.has_snapshotter(), from.get_snapshotter())?,
            root: RootRequest::read(from.get_root().sound()?)?,
            runtime: if from.has_runtime() {
                RuntimeChoice::read(from.get_runtime().sound()?)?
            } else {
                RuntimeChoice::default()
            },
            spec: SpecRequest::read(from.get_spec().sound()?)?,
            extensions: read_named(from.get_extensions())?,
            restart: match from.has_restart() {
                true => Some(RestartPolicy::read(from.get_restart().sound()?)?),
                false => None,
            },
            checkpoint: read_optional_parsed(from.has_checkpoint(), from.get_checkpoint())?,
        })
    }
}

impl Wire for RootRequest {
    type Struct = wire::root_request::Owned;

    fn write(&self, mut to: wire::root_request::Builder<'_>) {
        match self {
            // The variant must be set: empty stands for "no key of its own", which no key can be.
            Self::Image { key: None } => {
                to.set_image("");
            }
            Self::Image { key: Some(key) } => to.set_image(key.as_str()),
            Self::Snapshot(key) => to.set_snapshot(key.as_str()),
            Self::ImageView { key: None } => to.set_image_view(""),
            Self::ImageView { key: Some(key) } => to.set_image_view(key.as_str()),
            Self::Directory(path) => to.set_directory(path.as_str()),
            Self::FromSpec => to.set_from_spec(()),
        }
    }

    fn read(from: wire::root_request::Reader<'_>) -> Result<Self> {
        use wire::root_request::Which;
        Ok(match from.which().sound()? {
            Which::Image(key) => Self::Image { key: read_key(&read_text(key)?)? },
            Which::ImageView(key) => Self::ImageView { key: read_key(&read_text(key)?)? },
            Which::Snapshot(key) => Self::Snapshot(read_parsed(key)?),
            Which::Directory(path) => Self::Directory(read_text(path)?),
            Which::FromSpec(()) => Self::FromSpec,
        })
    }
}

/// Empty stands for "no key of its own".
fn read_key(text: &str) -> Result<Option<SnapshotKey>> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

impl Wire for SpecRequest {
    type Struct = wire::spec_request::Owned;

    fn write(&self, mut to: wire::spec_request::Builder<'_>) {
        match self {
            Self::Json(json) => to.set_json(json),
            Self::Build(options) => options.write(to.init_build()),
            Self::Checkpoint => to.set_checkpoint(()),
        }
    }

    fn read(from: wire::spec_request::Reader<'_>) -> Result<Self> {
        use wire::spec_request::Which;
        Ok(match from.which().sound()? {
            Which::Json(json) => Self::Json(json.sound()?.to_vec()),
            Which::Build(options) => Self::Build(Box::new(SpecOptions::read(options.sound()?)?)),
            Which::Checkpoint(()) => Self::Checkpoint,
        })
    }
}

/// 0 on the wire is "no limit".
const fn limit(value: u64) -> Option<u64> {
    if value == 0 { None } else { Some(value) }
}

impl Wire for SpecOptions {
    type Struct = wire::spec_options::Owned;

    fn write(&self, mut to: wire::spec_options::Builder<'_>) {
        write_texts(&self.args, to.reborrow().init_args(length(&self.args)));
        if let Some(entrypoint) = &self.entrypoint {
            write_texts(entrypoint, to.reborrow().init_entrypoint(length(entrypoint)));
        }
        write_texts(&self.env, to.reborrow().init_env(length(&self.env)));
        if let Some(cwd) = &self.cwd {
            to.set_cwd(cwd.as_str());
        }
        if let Some(user) = &self.user {
            to.set_user(user.as_str());
        }
        to.set_terminal(self.terminal);
        if let Some(hostname) = &self.hostname {
            to.set_hostname(hostname.as_str());
        }
        write_list(&self.mounts, to.reborrow().init_mounts(length(&self.mounts)));
        to.set_read_only_root(self.read_only_root);
        to.set_privileged(self.privileged);
        to.set_host_network(self.host_network);
        let join = &self.join_namespaces;
        write_pairs(join, to.reborrow().init_join_namespaces(pair_count(join)));
        to.set_memory_bytes_max(self.memory_bytes_max.unwrap_or(0));
        to.set_cpu_millis(self.cpu_millis.unwrap_or(0));
        to.set_pids_max(self.pids_max.unwrap_or(0));
        write_texts(
            &self.capabilities_add,
            to.reborrow().init_capabilities_add(length(&self.capabilities_add)),
        );
        write_texts(
            &self.capabilities_drop,
            to.reborrow().init_capabilities_drop(length(&self.capabilities_drop)),
        );
        to.set_may_gain_privileges(self.may_gain_privileges);
        let mut seccomp = to.reborrow().init_seccomp();
        match &self.seccomp {
            Seccomp::Standard => seccomp.set_standard(()),
            Seccomp::Unconfined => seccomp.set_unconfined(()),
            Seccomp::Json(json) => seccomp.set_json(json),
        }
        if let Some(profile) = &self.apparmor_profile {
            to.set_apparmor_profile(profile.as_str());
        }
        if let Some(label) = &self.selinux_label {
            to.set_selinux_label(label.as_str());
        }
        write_list(&self.rlimits, to.reborrow().init_rlimits(length(&self.rlimits)));
        write_texts(&self.masked_paths, to.reborrow().init_masked_paths(length(&self.masked_paths)));
        write_texts(&self.read_only_paths, to.reborrow().init_read_only_paths(length(&self.read_only_paths)));
        write_texts(&self.unmask_paths, to.reborrow().init_unmask_paths(length(&self.unmask_paths)));
        write_texts(&self.devices, to.reborrow().init_devices(length(&self.devices)));
        if let Some(users) = &self.user_namespace {
            users.write(to.reborrow().init_user_namespace());
        }
        write_pairs(&self.annotations, to.reborrow().init_annotations(pair_count(&self.annotations)));
        to.set_cpu_shares(self.cpu_shares.unwrap_or(0));
        to.set_cpu_quota(self.cpu_quota_micros.unwrap_or(0));
        to.set_cpu_period(self.cpu_period_micros.unwrap_or(0));
    }

    fn read(from: wire::spec_options::Reader<'_>) -> Result<Self> {
        let entrypoint = if from.has_entrypoint() { Some(read_texts(from.get_entrypoint())?) } else { None };
        Ok(Self {
            args: read_texts(from.get_args())?,
            entrypoint,
            env: read_texts(from.get_env())?,
            cwd: read_optional_text(from.has_cwd(), from.get_cwd())?,
            user: read_optional_text(from.has_user(), from.get_user())?,
            terminal: from.get_terminal(),
            hostname: read_optional_text(from.has_hostname(), from.get_hostname())?,
            mounts: read_list(from.get_mounts())?,
            read_only_root: from.get_read_only_root(),
            privileged: from.get_privileged(),
            host_network: from.get_host_network(),
            join_namespaces: read_pairs(from.get_join_namespaces())?,
            memory_bytes_max: limit(from.get_memory_bytes_max()),
            cpu_millis: limit(from.get_cpu_millis()),
            pids_max: limit(from.get_pids_max()),
            capabilities_add: read_texts(from.get_capabilities_add())?,
            capabilities_drop: read_texts(from.get_capabilities_drop())?,
            may_gain_privileges: from.get_may_gain_privileges(),
            seccomp: match from.get_seccomp().sound()?.which().sound()? {
                wire::seccomp::Which::Standard(()) => Seccomp::Standard,
                wire::seccomp::Which::Unconfined(()) => Seccomp::Unconfined,
                wire::seccomp::Which::Json(json) => Seccomp::Json(json.sound()?.to_vec()),
            },
            apparmor_profile: read_optional_text(from.has_apparmor_profile(), from.get_apparmor_profile())?,
            selinux_label: read_optional_text(from.has_selinux_label(), from.get_selinux_label())?,
            rlimits: read_list(from.get_rlimits())?,
            masked_paths: read_texts(from.get_masked_paths())?,
            read_only_paths: read_texts(from.get_read_only_paths())?,
            unmask_paths: read_texts(from.get_unmask_paths())?,
            devices: read_texts(from.get_devices())?,
            user_namespace: if from.has_user_namespace() {
                Some(UserNamespace::read(from.get_user_namespace().sound()?)?)
            } else {
                None
            },
            annotations: read_pairs(from.get_annotations())?,
            cpu_shares: limit(from.get_cpu_shares()),
            cpu_quota_micros: limit(from.get_cpu_quota()),
            cpu_period_micros: limit(from.get_cpu_period()),
        })
    }
}

enum_both_ways!(Ownership, wire::Ownership, ownership_to_wire, ownership_from_wire, [Auto, Idmap, Copy]);

impl Wire for UserNamespace {
    type Struct = wire::user_namespace::Owned;

    fn write(&self, mut to: wire::user_namespace::Builder<'_>) {
        write_list(&self.uids, to.reborrow().init_uids(length(&self.uids)));
        write_list(&self.gids, to.reborrow().init_gids(length(&self.gids)));
        to.set_ownership(ownership_to_wire(self.ownership));
    }

    fn read(from: wire::user_namespace::Reader<'_>) -> Result<Self> {
        Ok(Self {
            uids: read_list(from.get_uids())?,
            gids: read_list(from.get_gids())?,
            ownership: ownership_from_wire(from.get_ownership().sound()?),
        })
    }
}

impl Wire for IdRange {
    type Struct = wire::id_range::Owned;

    fn write(&self, mut to: wire::id_range::Builder<'_>) {
        to.set_container(self.container);
        to.set_host(self.host);
        to.set_size(self.size);
    }

    fn read(from: wire::id_range::Reader<'_>) -> Result<Self> {
        Ok(Self { container: from.get_container(), host: from.get_host(), size: from.get_size() })
    }
}

impl Wire for Rlimit {
    type Struct = wire::rlimit::Owned;

    fn write(&self, mut to: wire::rlimit::Builder<'_>) {
        to.set_kind(self.kind.as_str());
        to.set_soft(self.soft);
        to.set_hard(self.hard);
    }

    fn read(from: wire::rlimit::Reader<'_>) -> Result<Self> {
        Ok(Self { kind: read_text(from.get_kind())?, soft: from.get_soft(), hard: from.get_hard() })
    }
}
