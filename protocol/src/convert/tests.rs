//! Every domain type crosses the wire and comes back equal; malformed bytes come back as typed errors.

use std::collections::BTreeMap;

use bosun_types::checkpoint::{CheckpointRequest, DumpOptions, TaskCheckpoint};
use bosun_types::container::{Any, ContainerRecord, RuntimeChoice};
use bosun_types::content::{ContentRecord, Descriptor, IngestStatus};
use bosun_types::event::{Event, EventDelivery, EventRecord, EventStart};
use bosun_types::image::{ImageDetail, ImageRecord};
use bosun_types::mount::Mount;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::platform::Platform;
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord, Usage};
use bosun_types::spec::{ContainerRequest, Rlimit, RootRequest, Seccomp, SpecOptions, SpecRequest};
use bosun_types::stdio::{
    AttachFrom, AttachRecord, AttachRequest, LogRecord, LogRequest, LogTarget, OutputStream, Overflow, Stdio,
};
use bosun_types::task::{
    ExecProcess, ExecRequest, ExitCause, ExitStatus, OnShimDeath, PidInfo, ProcessInfo, ProcessStatus,
    TaskRequest,
};
use bosun_types::transfer::{
    Credential, ExportRequest, ImportRequest, ObjectRequest, PartProgress, PartStatus, Platforms,
    PullRequest, PushRequest, TransferKind, TransferProgress, TransferState,
};
use bosun_types::tree::{DaemonStatus, NodeKind, NodeState, PartRecord, TreeNode};
use bosun_types::user_namespace::{IdRange, Ownership, UserNamespace};
use bosun_types::{Digest, Error, ErrorClass, Labels, NamespaceName, OperationId, Timestamp};
use capnp::traits::HasTypeId as _;
use proptest::prelude::*;

use super::Wire;

/// Writes, serialises, reads with the limits that the daemon uses.
fn over_the_wire<T: Wire>(value: &T) -> bosun_types::Result<T>
where
    for<'a> <T::Struct as capnp::traits::OwnedStruct>::Builder<'a>: capnp::traits::FromPointerBuilder<'a>,
    for<'a> <T::Struct as capnp::traits::OwnedStruct>::Reader<'a>: capnp::traits::FromPointerReader<'a>,
{
    let mut message = capnp::message::Builder::new_default();
    value.write(message.init_root());
    let bytes = capnp::serialize::write_message_to_words(&message);
    let options = crate::limits::reader_options(crate::limits::REQUEST_BYTES_MAX);
    let reader = capnp::serialize::read_message(bytes.as_slice(), options).expect("a message");
    T::read(reader.get_root().expect("a root"))
}

#[test]
fn metrics_cross_the_wire() {
    use bosun_types::metrics::{
        BlkioUsage, CgroupUsage, CpuUsage, HugetlbUsage, MemoryUsage, Metrics, PidsUsage,
    };
    let memory = MemoryUsage {
        usage: 1,
        limit: 2,
        max: 3,
        limit_hits: 4,
        swap_usage: 5,
        swap_limit: 6,
        kernel_usage: 7,
        oom_kills: 8,
        stat: vec![("cache".to_owned(), 9), ("rss".to_owned(), u64::MAX)],
    };
    let cpu = CpuUsage {
        total: 1,
        user: 2,
        kernel: 3,
        per_cpu: vec![4, 5],
        periods: 6,
        throttled_periods: 7,
        throttled: 8,
    };
    let usage = CgroupUsage {
        cgroup_version: 1,
        cpu,
        memory,
        pids: PidsUsage { current: 1, limit: 2 },
        blkio: vec![BlkioUsage { major: 8, minor: 1, read_bytes: 2, written_bytes: 3, reads: 4, writes: 5 }],
        hugetlb: vec![HugetlbUsage { page_bytes: 2 << 20, usage: 1, max: 2, limit_hits: 3 }],
    };
    round_trips(Metrics { container: id("c"), sampled_at: Timestamp(7), usage: CgroupUsage::default() });
    round_trips(Metrics { container: id("c"), sampled_at: Timestamp(7), usage });
}

#[track_caller]
pub(super) fn round_trips<T>(value: T)
where
    T: Wire + PartialEq + std::fmt::Debug,
    for<'a> <T::Struct as capnp::traits::OwnedStruct>::Builder<'a>: capnp::traits::FromPointerBuilder<'a>,
    for<'a> <T::Struct as capnp::traits::OwnedStruct>::Reader<'a>: capnp::traits::FromPointerReader<'a>,
{
    assert_eq!(over_the_wire(&value).expect("reads back"), value);
}

fn id<T: std::str::FromStr<Err = Error>>(text: &str) -> T {
    text.parse().expect("well formed")
}

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn labels() -> Labels {
    Labels::from([("a".into(), "1".into()), ("b".into(), String::new())])
}

fn exit() -> ExitStatus {
    ExitStatus { cause: ExitCause::Code(3), exited_at: Timestamp(77) }
}

fn stdio() -> Stdio {
    Stdio {
        stdin: Some("/run/in".into()),
        stdout: Some("/run/out".into()),
        stderr: None,
        terminal: true,
        log: Some(LogTarget { path: "/log".into(), bytes_max: 5, files_max: 2 }),
    }
}

fn image() -> ImageRecord {
    ImageRecord {
        namespace: id("web"),
        name: id("r.io/a:1"),
        target: Descriptor { media_type: "m/t".into(), digest: digest(7), size: 9 },
        labels: labels(),
        created_at: Timestamp(1),
        updated_at: Timestamp(-2),
    }
}

fn payload() -> Any {
    Any { type_url: "t".into(), value: vec![0, 255] }
}

#[test]
fn err_1_every_class_crosses_with_message_and_hint() {
    let classes = (0..=14).map(|number| crate::common_capnp::ErrorClass::try_from(number).expect("known"));
    for class in classes.map(super::common::class_from_wire) {
        round_trips(Error::new(class, format!("thing {}: why", class.text())));
        round_trips(Error::new(class, "").with_hint("try that"));
    }
}

#[test]
fn an_error_class_of_a_newer_peer_keeps_its_message() {
    let mut message = capnp::message::Builder::new_default();
    let mut root: crate::common_capnp::error::Builder<'_> = message.init_root();
    root.set_message("new thing");
    let mut bytes = capnp::serialize::write_message_to_words(&message);
    // Header (8), root pointer (8), then the data word that starts with the class.
    bytes[16] = 0xee;
    let reader = capnp::serialize::read_message(bytes.as_slice(), capnp::message::ReaderOptions::new())
        .expect("reads");
    let error = Error::read(reader.get_root().expect("root")).expect("an error");
    assert_eq!((error.class, error.message.as_str()), (ErrorClass::Unknown, "new thing"));
}

#[test]
fn small_words_round_trip() {
    round_trips(payload());
    round_trips(Platform::parse("linux/arm/v6").expect("platform"));
    round_trips(Mount {
        kind: "overlay".into(),
        source: "overlay".into(),
        target: String::new(),
        options: vec!["ro".into(), "lowerdir=/a:/b".into()],
    });
    for cause in [ExitCause::Code(255), ExitCause::Signal(9), ExitCause::Unknown("shim gone".into())] {
        round_trips(ExitStatus { cause, exited_at: Timestamp(5) });
    }
    round_trips(NamespaceRecord {
        name: id("team.web"),
        labels: labels(),
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
    });
    round_trips(image());
    round_trips(Usage { size_bytes: 1, inodes: 2 });
}

#[test]
fn access_round_trips() {
    use bosun_types::access::{Access, AuditQuery, AuditRecord, AuditResult, Reach, SocketRecord};
    for access in [Access::ReadWrite, Access::ReadOnly] {
        round_trips(Reach { namespace: Some(id("web")), access, uid: 0, pid: -1 });
        round_trips(Reach { namespace: None, access, uid: u32::MAX, pid: 7 });
        let (uid, gid, mode, created_at) = (1, 2, 0o600, Timestamp(5));
        round_trips(SocketRecord { id: id("s"), namespace: id("web"), uid, gid, mode, access, created_at });
    }
    let refused = AuditResult::Refused { error: Error::not_found("x"), micros: 4 };
    for result in [AuditResult::Begun, AuditResult::Done { micros: 4 }, refused] {
        round_trips(AuditRecord {
            sequence: 1,
            at: Timestamp(2),
            uid: 3,
            pid: 4,
            socket: Some(id("s")),
            call: "c".to_owned(),
            subject: "web/c".to_owned(),
            result,
        });
    }
    round_trips(AuditQuery::default());
    let (since, subject, call) = (Some(Timestamp(1)), Some("web".to_owned()), Some("task".to_owned()));
    round_trips(AuditQuery { since, uid: Some(0), subject, call, refused: true });
}

#[test]
fn leases_and_garbage_round_trip() {
    use bosun_types::gc::{Chain, Collection, Object, Root};
    use bosun_types::lease::{LeaseRecord, LeaseResource};
    let blob = Object::Blob(Digest::from_bytes([7; 32]));
    let snapshot = Object::Snapshot { snapshotter: "native".to_owned(), key: "k".parse().expect("good") };
    let labels = Labels::from([("a".to_owned(), "1".to_owned())]);
    let namespace = NamespaceName::default_name();
    let (id, created_at) = ("l-1".parse().expect("good"), Timestamp(3));
    round_trips(LeaseRecord { namespace: namespace.clone(), id, labels, created_at });
    for resource in [
        LeaseResource::Object(blob.clone()),
        LeaseResource::Object(snapshot.clone()),
        LeaseResource::Ingest("up".to_owned()),
    ] {
        round_trips(resource);
    }
    let root = Root { kind: "lease".to_owned(), id: "l-1".to_owned(), until: Some(Timestamp(9)) };
    round_trips(Chain { root, objects: vec![blob.clone(), snapshot.clone()] });
    round_trips(Collection {
        blobs: 1,
        blob_bytes: 2,
        snapshots: 3,
        snapshot_bytes: 4,
        leases: 5,
        ingests: 6,
        examined: 7,
        objects: vec![(namespace.clone(), blob), (namespace, snapshot)],
    });
}

#[test]
fn containers_round_trip() {
    let record = ContainerRecord {
        namespace: id("web"),
        id: id("c-1"),
        labels: labels(),
        image: Some(id("r.io/a:1")),
        runtime: RuntimeChoice { name: "runc".into(), options: Some(payload()) },
        spec: b"{}".to_vec(),
        snapshotter: Some("overlayfs".into()),
        snapshot_key: Some(id("c-1")),
        extensions: BTreeMap::from([("x".into(), payload())]),
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
    };
    round_trips(record.clone());
    round_trips(ContainerRecord { image: None, snapshotter: None, snapshot_key: None, ..record });
    let options = SpecOptions {
        args: vec!["sh".into(), "-c".into()],
        entrypoint: Some(vec![]),
        env: vec!["A=b".into(), "C".into()],
        cwd: Some("/".into()),
        user: Some("0:0".into()),
        terminal: true,
        hostname: Some("h".into()),
        mounts: vec![Mount {
            kind: "bind".into(),
            source: "/a".into(),
            target: "/b".into(),
            options: vec![],
        }],
        read_only_root: true,
        privileged: true,
        host_network: true,
        join_namespaces: BTreeMap::from([("network".into(), "/proc/1/ns/net".into())]),
        memory_bytes_max: Some(1 << 40),
        cpu_millis: Some(1),
        pids_max: None,
        capabilities_add: vec!["net_admin".to_owned()],
        capabilities_drop: vec!["ALL".to_owned()],
        may_gain_privileges: true,
        seccomp: Seccomp::Json(b"{}".to_vec()),
        apparmor_profile: Some("p".to_owned()),
        selinux_label: Some("u:r:t:s0".to_owned()),
        rlimits: vec![Rlimit { kind: "nofile".to_owned(), soft: 1, hard: u64::MAX }],
        masked_paths: vec!["/a".to_owned()],
        read_only_paths: vec!["/b".to_owned()],
        unmask_paths: vec!["all".to_owned()],
        devices: vec!["/dev/fuse".to_owned()],
        user_namespace: Some(UserNamespace {
            uids: vec![IdRange { container: 0, host: 100_000, size: 65_536 }],
            gids: vec![IdRange { container: 0, host: 7, size: 1 }],
            ownership: Ownership::Copy,
        }),
        annotations: BTreeMap::from([("a.io/b".into(), "c".into())]),
        cpu_shares: Some(512),
        cpu_quota_micros: Some(20_000),
        cpu_period_micros: Some(50_000),
    };
    for (root, spec) in [
        (RootRequest::Image { key: None }, SpecRequest::Build(Box::new(options))),
        (RootRequest::Image { key: Some(id("k")) }, SpecRequest::Build(Box::default())),
        (RootRequest::ImageView { key: None }, SpecRequest::Json(vec![2])),
        (RootRequest::ImageView { key: Some(id("k")) }, SpecRequest::Json(vec![2])),
        (RootRequest::Snapshot(id("k")), SpecRequest::Json(b"{}".to_vec())),
        (RootRequest::Directory("/srv".into()), SpecRequest::Json(vec![])),
        (RootRequest::FromSpec, SpecRequest::Json(vec![1])),
    ] {
        round_trips(ContainerRequest {
            id: id("c"),
            labels: labels(),
            image: None,
            snapshotter: Some("native".into()),
            root,
            runtime: RuntimeChoice::default(),
            spec,
            extensions: BTreeMap::new(),
            restart: Some(bosun_types::relaunch::RestartPolicy::new(
                bosun_types::relaunch::RestartWhen::Always,
            )),
            checkpoint: None,
        });
    }
    round_trips(ContainerRequest {
        id: id("c"),
        labels: labels(),
        image: None,
        snapshotter: None,
        root: RootRequest::Image { key: None },
        runtime: RuntimeChoice::default(),
        spec: SpecRequest::Checkpoint,
        extensions: BTreeMap::new(),
        restart: None,
        checkpoint: Some(id("cp")),
    });
}

#[test]
fn tasks_round_trip() {
    for on_shim_death in [OnShimDeath::Kill, OnShimDeath::Adopt] {
        let stdio = stdio();
        round_trips(TaskRequest {
            stdio,
            log_to_file: true,
            no_pivot_root: true,
            on_shim_death,
            ..TaskRequest::default()
        });
    }
    let part = Descriptor { media_type: "m/t".into(), digest: digest(7), size: 9 };
    for checkpoint in [None, Some(TaskCheckpoint::Image(id("i"))), Some(TaskCheckpoint::Descriptor(part))] {
        round_trips(TaskRequest {
            stdio: stdio(),
            log_to_file: true,
            no_pivot_root: true,
            checkpoint,
            ..TaskRequest::default()
        });
    }
    for image in [None, Some(id("i"))] {
        let dump = DumpOptions {
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".into()],
            cgroups_mode: image.as_ref().map(|_| "soft".into()),
        };
        round_trips(CheckpointRequest { image, exit: true, dump });
    }
    round_trips(CheckpointRequest::default());
    round_trips(TaskRequest::default());
    let inherit = ExecProcess::Inherit {
        args: vec!["true".into()],
        env: vec![],
        cwd: None,
        user: Some("nobody".into()),
    };
    for process in [inherit, ExecProcess::Json(b"{}".to_vec())] {
        round_trips(ExecRequest { id: id("e1"), process, stdio: stdio() });
    }
    for status in [
        ProcessStatus::Creating,
        ProcessStatus::Created,
        ProcessStatus::Running,
        ProcessStatus::Pausing,
        ProcessStatus::Paused,
        ProcessStatus::Stopped,
        ProcessStatus::Recovering,
    ] {
        round_trips(ProcessInfo {
            container: id("c"),
            exec: Some(id("e")),
            pid: 9,
            status,
            stdio: stdio(),
            exit: Some(exit()),
            created_at: Timestamp(1),
            started_at: None,
            confirmed_at: Some(Timestamp(3)),
        });
    }
    round_trips(PidInfo { pid: 1, exec: None });
    round_trips(LogRequest { follow: true, tail_lines: Some(0), since: Some(Timestamp(4)) });
    round_trips(LogRequest::default());
    round_trips(AttachRequest { from: AttachFrom::Replay(7), overflow: Overflow::Block });
    round_trips(AttachRequest { from: AttachFrom::Position(u64::MAX), overflow: Overflow::Spill });
    round_trips(AttachRecord::Output { stream: OutputStream::Stderr, bytes: vec![0, 255] });
    round_trips(AttachRecord::Output { stream: OutputStream::Stdout, bytes: Vec::new() });
    round_trips(AttachRecord::Missed(1 << 40));
    round_trips(LogRecord { at: Timestamp(1), stream: OutputStream::Stderr, bytes: b"x\n".to_vec() });
}

#[test]
fn details_of_images_and_parts_round_trip() {
    let descriptor = |number: u8| Descriptor { media_type: "m".into(), digest: digest(number), size: 7 };
    let record = ImageRecord {
        namespace: id("web"),
        name: id("a.b/c:d"),
        target: descriptor(1),
        labels: labels(),
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
    };
    let detail = ImageDetail {
        record,
        platforms: vec![Platform::host()],
        manifest: Some(descriptor(2)),
        config: Some(descriptor(3)),
        config_json: Some(b"{}".to_vec()),
        diff_ids: vec![digest(4), digest(5)],
        chain_id: Some(digest(6)),
        layers: vec![descriptor(7), descriptor(8)],
        size: u64::MAX,
        missing: vec![descriptor(8)],
        unpacked: true,
    };
    round_trips(ImageDetail {
        manifest: None,
        config: None,
        config_json: None,
        diff_ids: Vec::new(),
        chain_id: None,
        ..detail.clone()
    });
    round_trips(detail);
    let part = PartRecord {
        kind: "snapshotter".into(),
        id: "btrfs".into(),
        requires: vec!["metadata".into()],
        platforms: vec![Platform::host()],
        exports: labels(),
        capabilities: vec!["x".into()],
        failure: Some(Error::unavailable("why")),
    };
    round_trips(PartRecord { failure: None, ..part.clone() });
    round_trips(part);
}

#[test]
fn content_and_snapshots_round_trip() {
    round_trips(ContentRecord {
        namespace: id("web"),
        digest: digest(1),
        size: u64::MAX,
        labels: labels(),
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
    });
    round_trips(IngestStatus {
        reference: "layer/1".into(),
        offset: 1,
        total: 0,
        expected: Some(digest(2)),
        digest: Some(digest(3)),
        started_at: Timestamp(1),
        updated_at: Timestamp(2),
    });
    for kind in [SnapshotKind::View, SnapshotKind::Active, SnapshotKind::Committed] {
        round_trips(SnapshotRecord {
            namespace: id("web"),
            snapshotter: "overlayfs".into(),
            key: id("sha256:chain"),
            parent: Some(id("p")),
            kind,
            directory: 12,
            labels: labels(),
            usage: Some(Usage::default()),
            created_at: Timestamp(1),
            updated_at: Timestamp(2),
        });
    }
}

fn pull() -> PullRequest {
    PullRequest {
        reference: bosun_types::reference::Reference::parse("r.io:5000/a/b:1").expect("reference"),
        platforms: Platforms::Only(vec![Platform::host()]),
        unpack: Some("overlayfs".into()),
        plain_http: true,
        labels: labels(),
        convert_schema1: true,
    }
}

#[test]
fn transfers_round_trip() {
    round_trips(pull());
    round_trips(PullRequest { platforms: Platforms::All, ..pull() });
    round_trips(PullRequest { platforms: Platforms::Host, ..pull() });
    let reference = pull().reference;
    let sent = PushRequest::new(reference.clone());
    let (ours, platform) = (Some("a/b:1".parse().expect("good")), Some(Platform::host()));
    round_trips(PushRequest {
        image: ours,
        platform,
        plain_http: true,
        non_distributable: true,
        ..sent.clone()
    });
    round_trips(sent);
    let one = bosun_types::Digest::from_bytes([7; 32]);
    round_trips(ObjectRequest { reference, digest: one, media_type: "x/y".into(), plain_http: true });
    round_trips(Credential { user: "u".into(), secret: "s".into() });
    round_trips(ImportRequest {
        base_name: Some("x".into()),
        platform: None,
        unpack: None,
        all_platforms: true,
        digests: true,
    });
    for platforms in
        [Platforms::Host, Platforms::Only(vec![Platform::new("linux", "arm", "v7")]), Platforms::All]
    {
        for (docker, skip_non_distributable) in [(true, false), (false, true)] {
            let (images, platforms) = (vec![id("r.local/a:1")], platforms.clone());
            round_trips(ExportRequest { images, platforms, docker, skip_non_distributable });
        }
    }
    let parts = [
        PartStatus::Waiting,
        PartStatus::Downloading,
        PartStatus::Unpacking,
        PartStatus::Done,
        PartStatus::Exists,
    ]
    .map(|status| PartProgress { key: "layer-x".into(), digest: digest(3), status, offset: 1, total: 2 });
    for state in [
        TransferState::Running,
        TransferState::Done(vec![image()]),
        TransferState::Failed(Error::not_found("r.io/a: no such tag")),
    ] {
        round_trips(TransferProgress {
            id: 4,
            kind: TransferKind::PushObject,
            subject: "r.io/a:1".into(),
            parts: parts.to_vec(),
            bytes: 5,
            state,
        });
    }
}

#[test]
fn introspection_round_trips() {
    round_trips(DaemonStatus {
        version: "0.1.0".into(),
        revision: String::new(),
        pid: 7,
        started_at: Timestamp(1),
        recovering: true,
        read_only: Some("lost writes".into()),
        root: "/var/lib/bosun".into(),
        state: "/run/bosun".into(),
        containers: 1,
        tasks_live: 2,
        operations_open: 3,
        operations_parked: 4,
        event_sequence: 5,
    });
    let node = |name: &str, state, children| TreeNode {
        name: name.into(),
        kind: NodeKind::Worker,
        state,
        detail: "d".into(),
        restarts: 2,
        mailbox: Some(0),
        started_at: Some(Timestamp(1)),
        children,
    };
    // Twelve levels: deeper than the tree of the design, within the nesting limit.
    let tree = (0..12).fold(node("leaf", NodeState::Parked("why".into()), vec![]), |child, level| {
        node(
            &format!("level {level}"),
            NodeState::Running,
            vec![child, node("x", NodeState::Stopped, vec![])],
        )
    });
    round_trips(tree);
    let intents = [
        Intent::PrepareSnapshot { snapshotter: "o".into(), key: id("k"), directory: 1 },
        Intent::RemoveSnapshot { snapshotter: "o".into(), key: id("k"), directory: 1 },
        Intent::CreateTask { container: id("c"), nonce: "ab".into() },
        Intent::StartProcess { container: id("c"), nonce: "ab".into(), exec: Some(id("e")) },
        Intent::DeleteTask { container: id("c"), nonce: "ab".into() },
        Intent::Pull { transfer: 1, request: pull(), lease: None },
        Intent::CreateContainer { container: id("c"), snapshotter: "o".into(), key: id("k"), directory: 2 },
        Intent::DeleteContainer { container: id("c"), snapshotter: "o".into(), key: id("k"), directory: 2 },
        Intent::MakeLayer { snapshotter: "o".into(), key: id("k"), reference: "r".into(), keep: false },
        Intent::ApplyLayer { snapshotter: "o".into(), key: id("k"), directory: 2 },
        Intent::Relaunch { container: id("c"), nonce: "ab".into() },
        Intent::RemapSnapshot { snapshotter: "o".into(), key: id("k"), directory: 2 },
        Intent::Checkpoint {
            container: id("c"),
            nonce: "ab".into(),
            image: id("i"),
            frozen: true,
            exit: false,
            recorded: true,
        },
    ];
    for (number, intent) in (0..).zip(intents) {
        let cause = Error::unavailable("busy");
        let status = match number % 3 {
            0 => OperationStatus::Forward,
            1 => OperationStatus::Undoing { cause },
            _ => OperationStatus::Parked { cause },
        };
        round_trips(OperationRecord {
            id: OperationId(number),
            namespace: id("web"),
            intent,
            boot_id: "boot".into(),
            opened_at: Timestamp(1),
            status,
            attempts: 3,
            call: None,
        });
    }
}

fn every_event() -> Vec<Event> {
    let container = || id("c-1");
    vec![
        Event::NamespaceCreate { name: id("web"), labels: labels() },
        Event::NamespaceUpdate { name: id("web"), labels: labels() },
        Event::NamespaceDelete { name: id("web") },
        Event::ContainerCreate { id: container(), image: Some(id("i")), runtime: "bosun".into() },
        Event::ContainerUpdate {
            id: container(),
            image: None,
            labels: labels(),
            snapshot_key: Some(id("k")),
        },
        Event::ContainerDelete { id: container() },
        Event::ContentCreate { digest: digest(1), size: 2 },
        Event::ContentDelete { digest: digest(1) },
        Event::ImageCreate { name: id("i"), labels: labels() },
        Event::ImageUpdate { name: id("i"), labels: labels() },
        Event::ImageDelete { name: id("i") },
        Event::SnapshotPrepare { snapshotter: "o".into(), key: id("k"), parent: Some(id("p")) },
        Event::SnapshotCommit { snapshotter: "o".into(), key: id("k"), name: id("n") },
        Event::SnapshotRemove { snapshotter: "o".into(), key: id("k") },
        Event::TaskCreate { container_id: container(), bundle: "/run/b".into(), pid: 4, io: stdio() },
        Event::TaskStart { container_id: container(), pid: 4 },
        Event::TaskOom { container_id: container() },
        Event::TaskExit { container_id: container(), id: "c-1".into(), pid: 4, exit: exit() },
        Event::TaskDelete { container_id: container(), pid: 4, exit: None },
        Event::TaskDelete { container_id: container(), pid: 4, exit: Some(exit()) },
        Event::TaskExecAdded { container_id: container(), exec_id: id("e") },
        Event::TaskExecStarted { container_id: container(), exec_id: id("e"), pid: 5 },
        Event::TaskPaused { container_id: container() },
        Event::TaskResumed { container_id: container() },
        Event::TaskCheckpointed { container_id: container(), checkpoint: "cp".into() },
        Event::Custom { topic: "/mine/own".into(), payload: payload() },
        Event::Custom { topic: "/images/delete".into(), payload: payload() },
        Event::Forwarded { topic: "/tasks/exit".into(), payload: payload(), published_at: Timestamp(5) },
    ]
}

#[test]
fn evt_5_every_topic_round_trips() {
    for (sequence, event) in (1..).zip(every_event()) {
        let record = EventRecord { sequence, at: Timestamp(9), namespace: id("web"), event };
        round_trips(record.clone());
        round_trips(EventDelivery::Event(record));
    }
    round_trips(EventDelivery::Missed { from: 1, to: 9 });
    round_trips(EventStart::Now);
    round_trips(EventStart::Sequence(4));
    round_trips(EventStart::Time(Timestamp(5)));
}

#[test]
fn a_topic_of_a_newer_daemon_is_kept_as_custom() {
    let mut message = capnp::message::Builder::new_default();
    let mut root: crate::event_capnp::event_record::Builder<'_> = message.init_root();
    root.set_namespace("web");
    root.set_topic("/tasks/teleported");
    root.set_container("c");
    let record = EventRecord::read(root.into_reader()).expect("reads");
    assert_eq!(record.event.topic(), "/tasks/teleported");
}

#[test]
fn cursors_round_trip() {
    for namespace in [None, Some(id("web"))] {
        round_trips(bosun_types::event::CursorRecord {
            namespace,
            id: id("backup"),
            position: 7,
            created_at: Timestamp(1),
            updated_at: Timestamp(2),
        });
    }
}

#[test]
fn event_filters_round_trip() {
    for namespaces in [None, Some(vec![]), Some(vec![id::<NamespaceName>("web")])] {
        round_trips(bosun_types::event::EventFilter {
            namespaces,
            topics: vec!["/tasks".to_owned()],
            filters: vec!["event.id==a".to_owned(), String::new()],
        });
    }
}

#[test]
fn id_1_an_over_long_identifier_is_refused_by_the_reader() {
    let mut message = capnp::message::Builder::new_default();
    let mut root: crate::container_capnp::container_request::Builder<'_> = message.init_root();
    root.set_id("x".repeat(77).as_str());
    let error = ContainerRequest::read(root.into_reader()).expect_err("too long");
    assert_eq!(error.class, ErrorClass::InvalidArgument);
}

#[test]
fn a_label_given_twice_is_refused() {
    let mut message = capnp::message::Builder::new_default();
    let root: crate::container_capnp::container_request::Builder<'_> = message.init_root();
    let mut pairs = root.init_labels(2);
    for index in 0..2 {
        pairs.reborrow().get(index).set_key("same");
    }
    let error = super::read_pairs(Ok(pairs.into_reader())).expect_err("twice");
    assert!(error.message.contains("\"same\""), "{error}");
}

#[test]
fn interface_ids_never_change() {
    // The contract of the wire: an id that changes breaks every client built before.
    assert_eq!(crate::daemon_capnp::bosun::Client::TYPE_ID, BOSUN_ID);
}

/// What `capnp` derived from the file id of daemon.capnp when it was first published.
const BOSUN_ID: u64 = 0xee89_7209_bbb6_2f16;

proptest! {
    #[test]
    fn labels_of_any_text_round_trip(labels in proptest::collection::btree_map(".{0,40}", ".{0,40}", 0..20)) {
        let mut record = image();
        record.labels = labels;
        round_trips(record);
    }

    #[test]
    fn options_of_any_text_round_trip(
        args in proptest::collection::vec(".{0,30}", 0..8),
        entrypoint in proptest::option::of(proptest::collection::vec(".{0,9}", 0..4)),
        cwd in proptest::option::of(".{0,30}"),
        memory in proptest::option::of(1u64..),
        flags in proptest::array::uniform4(any::<bool>()),
    ) {
        let [terminal, privileged, read_only_root, host_network] = flags;
        round_trips(SpecOptions {
            args, entrypoint, cwd, memory_bytes_max: memory, terminal, privileged, read_only_root, host_network,
            ..SpecOptions::default()
        });
    }

    #[test]
    fn random_words_never_panic_a_reader(words in proptest::collection::vec(any::<u64>(), 1..64)) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let options = crate::limits::reader_options(crate::limits::REQUEST_BYTES_MAX);
        let segments = [bytes.as_slice()];
        let message = capnp::message::Reader::new(capnp::message::SegmentArray::new(&segments), options);
        let _ = message.get_root().map(ContainerRequest::read);
        let _ = message.get_root().map(EventRecord::read);
        let _ = message.get_root().map(TreeNode::read);
        let _ = message.get_root().map(TransferProgress::read);
        let _ = message.get_root().map(ExecRequest::read);
    }
}
