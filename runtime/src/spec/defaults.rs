//! The default spec, rows SPC-1 to SPC-8, as the JSON it becomes: that is how those rows are read and compared.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::{SpecContext, cgroup_path};

/// OCI runtime spec that the fields below come from.
const OCI_VERSION: &str = "1.0.2";
/// The environment of a process that says nothing (SPC-1).
pub const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// SPC-2: bounding, permitted and effective.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The defaults for one container.
pub fn spec(context: &SpecContext<'_>) -> Spec {
    let value = json!({
        "ociVersion": OCI_VERSION,
        "root": {"path": context.root_path, "readonly": false},
        "process": process(),
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": cgroup_path(context.cgroup_parent, context.namespace, context.id),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}
            ],
            "maskedPaths": [
                "/proc/kcore",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi"
            ],
            "readonlyPaths": [
                "/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
            ]
        }
    });
    serde_json::from_value(value).expect("the default spec is valid OCI JSON; a test builds it")
}

fn process() -> Value {
    json!({
        "cwd": "/",
        "env": [PATH_DEFAULT],
        "user": {"uid": 0, "gid": 0},
        "noNewPrivileges": true,
        "capabilities": {
            "bounding": CAPABILITIES,
            "permitted": CAPABILITIES,
            "effective": CAPABILITIES,
            // Empty: see the module comment of `spec`.
            "inheritable": []
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]
    })
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| {
        let mut mount = json!({"destination": destination, "type": kind, "source": source});
        if !options.is_empty() {
            mount["options"] = json!(options);
        }
        mount
    };
    json!([
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/run", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ])
}
