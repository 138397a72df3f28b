//! The stored bytes of every kind of row, as released: `golden_v1.txt` holds one line a sample, `name hex`. A line never changes; a new
//! layout gets a new version, a new file, and `decode_old` for this one. (Before the first release a changed record may still rewrite it:
//! run this test with `BOSUN_GOLDEN=write`.)

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bosun_types::access::{Access, AuditRecord, AuditResult, SocketRecord};
use bosun_types::container::{Any, ContainerRecord, RuntimeChoice};
use bosun_types::content::{ContentRecord, Descriptor};
use bosun_types::event::{CursorRecord, Event, EventRecord};
use bosun_types::group::{
    GroupMember, GroupPhase, GroupRecord, GroupSpec, GroupState, GroupStrategy, MemberName, MemberRestart,
    Round,
};
use bosun_types::image::ImageRecord;
use bosun_types::lease::{LeaseEntry, LeaseRecord, LeaseResource};
use bosun_types::namespace::NamespaceRecord;
use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::platform::Platform;
use bosun_types::reference::Reference;
use bosun_types::relaunch::{
    Attempt, Heritage, RelaunchPhase, RelaunchRecord, RelaunchState, RestartIntensity, RestartPolicy,
    RestartWhen,
};
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord, Usage};
use bosun_types::stdio::{LogTarget, Stdio};
use bosun_types::task::{
    ExecRecord, ExitCause, ExitStatus, OnShimDeath, ProcessIdentity, StoredPhase, TaskRecord,
};
use bosun_types::transfer::{ObjectRequest, Platforms, PullRequest, PushRequest};
use bosun_types::{
    ContainerId, CursorId, Digest, Error, ExecId, GroupName, ImageName, Labels, LeaseId, NamespaceName,
    OperationId, SnapshotKey, SocketId, Timestamp,
};

use crate::codec;
use crate::table::Record;

const GOLDEN: &str = include_str!("golden_v1.txt");

fn namespace() -> NamespaceName {
    NamespaceName::new("team.web").expect("good")
}

fn container() -> ContainerId {
    ContainerId::new("redis-1").expect("good")
}

fn exec() -> ExecId {
    ExecId::new("shell").expect("good")
}

fn image() -> ImageName {
    ImageName::new("registry.example/library/redis:7").expect("good")
}

fn snapshot() -> SnapshotKey {
    SnapshotKey::new("redis-1-root").expect("good")
}

fn digest() -> Digest {
    Digest::from_bytes(std::array::from_fn(|index| u8::try_from(index).expect("small")))
}

fn labels() -> Labels {
    Labels::from([("a".to_owned(), "1".to_owned()), ("containerd.io/gc.root".to_owned(), String::new())])
}

const MADE: Timestamp = Timestamp(1_764_000_000_123_456_789);
const CHANGED: Timestamp = Timestamp(1_764_000_001_000_000_000);

fn stdio() -> Stdio {
    Stdio {
        stdin: Some("/run/fifo/in".to_owned()),
        stdout: Some("/run/fifo/out".to_owned()),
        stderr: None,
        terminal: true,
        log: Some(LogTarget { path: "/var/log/c".to_owned(), bytes_max: 1 << 24, files_max: 4 }),
    }
}

fn exit(cause: ExitCause) -> ExitStatus {
    ExitStatus { cause, exited_at: CHANGED }
}

fn task(phase: StoredPhase) -> TaskRecord {
    TaskRecord {
        namespace: namespace(),
        container: container(),
        nonce: "0123abcd".to_owned(),
        boot_id: "boot".to_owned(),
        shim: Some(ProcessIdentity { pid: 4711, start_ticks: 99_000 }),
        init: None,
        stdio: stdio(),
        runtime: "bosun".to_owned(),
        phase,
        created_at: MADE,
        started_at: Some(CHANGED),
        on_shim_death: OnShimDeath::Adopt,
    }
}

fn operation(intent: Intent, status: OperationStatus) -> OperationRecord {
    OperationRecord {
        id: OperationId(300),
        namespace: namespace(),
        intent,
        boot_id: "boot".to_owned(),
        opened_at: MADE,
        status,
        attempts: 2,
        call: None,
    }
}

fn descriptor() -> Descriptor {
    let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
    Descriptor { media_type, digest: digest(), size: 70_000 }
}

/// Samples by name, encoded, and whether they read back as they were.
#[derive(Default)]
struct Samples(BTreeMap<String, Vec<u8>>);

impl Samples {
    fn add<R: Record + PartialEq + std::fmt::Debug>(&mut self, name: &str, record: &R) {
        let name = format!("{}/{name}", R::TABLE.name());
        let golden = GOLDEN.lines().filter_map(|line| line.split_once(' ')).find(|(of, _)| *of == name);
        if let Some((_, hex)) = golden.filter(|_| !rewriting()) {
            let read: R = codec::decode(&record.key(), &unhex(hex)).expect("the released bytes decode");
            assert_eq!(read, *record, "{name}: the released bytes mean something else now");
        }
        self.0.insert(name, codec::encode(record).expect("encodes"));
    }
}

fn rewriting() -> bool {
    std::env::var("BOSUN_GOLDEN").is_ok_and(|wish| wish == "write")
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex")).collect()
}

fn add_rows(samples: &mut Samples) {
    let (created_at, updated_at) = (MADE, CHANGED);
    samples.add("one", &NamespaceRecord { name: namespace(), labels: labels(), created_at, updated_at });
    let any = Any { type_url: "example/type".to_owned(), value: vec![0, 255] };
    samples.add(
        "full",
        &ContainerRecord {
            namespace: namespace(),
            id: container(),
            labels: labels(),
            image: Some(image()),
            runtime: RuntimeChoice { name: "runc".to_owned(), options: Some(any.clone()) },
            spec: b"{\"ociVersion\":\"1.2.0\"}".to_vec(),
            snapshotter: Some("overlayfs".to_owned()),
            snapshot_key: Some(snapshot()),
            extensions: BTreeMap::from([("x".to_owned(), any)]),
            created_at,
            updated_at,
        },
    );
    samples.add(
        "one",
        &ImageRecord {
            namespace: namespace(),
            name: image(),
            target: descriptor(),
            labels: labels(),
            created_at,
            updated_at,
        },
    );
    samples.add(
        "one",
        &ContentRecord {
            namespace: namespace(),
            digest: digest(),
            size: u64::MAX,
            labels: labels(),
            created_at,
            updated_at,
        },
    );
    for (name, kind) in [
        ("view", SnapshotKind::View),
        ("active", SnapshotKind::Active),
        ("committed", SnapshotKind::Committed),
    ] {
        samples.add(
            name,
            &SnapshotRecord {
                namespace: namespace(),
                snapshotter: "overlayfs".to_owned(),
                key: snapshot(),
                parent: Some(snapshot()),
                kind,
                directory: 17,
                labels: labels(),
                usage: (kind == SnapshotKind::Committed)
                    .then_some(Usage { size_bytes: 1 << 33, inodes: 12_000 }),
                created_at,
                updated_at,
            },
        );
    }
}

fn add_access(samples: &mut Samples) {
    let socket = SocketId::new("web-look").expect("good");
    samples.add(
        "one",
        &SocketRecord {
            id: socket.clone(),
            namespace: namespace(),
            uid: 1000,
            gid: 100,
            mode: 0o660,
            access: Access::ReadOnly,
            created_at: MADE,
        },
    );
    let error = Error::permission_denied("container.create: this socket is read-only");
    for (name, result) in [
        ("begun", AuditResult::Begun),
        ("done", AuditResult::Done { micros: 1500 }),
        ("refused", AuditResult::Refused { error, micros: 3 }),
    ] {
        samples.add(
            name,
            &AuditRecord {
                sequence: 9,
                at: MADE,
                uid: 1000,
                pid: 4711,
                socket: Some(socket.clone()),
                call: "container.create".to_owned(),
                subject: "team.web/redis-1".to_owned(),
                result,
            },
        );
    }
}

fn add_leases(samples: &mut Samples) {
    let lease = || LeaseId::new("1764000000-aZ09").expect("good");
    samples
        .add("one", &LeaseRecord { namespace: namespace(), id: lease(), labels: labels(), created_at: MADE });
    for (name, kind, id) in [
        ("blob", "content", digest().to_string()),
        ("snapshot", "snapshots/overlayfs", snapshot().to_string()),
        ("ingest", "ingests", "upload-1".to_owned()),
    ] {
        let resource = LeaseResource::parse(kind, &id).expect("good");
        samples.add(name, &LeaseEntry { namespace: namespace(), lease: lease(), resource });
    }
}

fn add_tasks(samples: &mut Samples) {
    for (name, phase) in [
        ("creating", StoredPhase::Creating),
        ("created", StoredPhase::Created),
        ("running", StoredPhase::Running),
        ("paused", StoredPhase::Paused),
        ("code", StoredPhase::Stopped(exit(ExitCause::Code(3)))),
        ("signal", StoredPhase::Stopped(exit(ExitCause::Signal(9)))),
        ("unknown", StoredPhase::Stopped(exit(ExitCause::Unknown("rebooted".to_owned())))),
    ] {
        samples.add(name, &task(phase));
    }
    samples.add(
        "one",
        &ExecRecord {
            namespace: namespace(),
            container: container(),
            id: exec(),
            process: b"{}".to_vec(),
            stdio: Stdio::default(),
            phase: StoredPhase::Running,
            identity: Some(ProcessIdentity { pid: 1, start_ticks: 2 }),
            created_at: MADE,
        },
    );
}

fn intents() -> Vec<Intent> {
    let snapshotter = || "overlayfs".to_owned();
    let (key, directory, container, nonce) = (snapshot(), 17, container(), "0123abcd".to_owned());
    let request = PullRequest {
        reference: Reference::parse("registry.example/library/redis:7").expect("good"),
        platforms: Platforms::Only(vec![Platform::new("linux", "arm", "v7")]),
        unpack: Some(snapshotter()),
        plain_http: true,
        labels: labels(),
        convert_schema1: false,
    };
    let push = PushRequest {
        reference: request.reference.clone(),
        image: Some(ImageName::new("local/redis:7").expect("good")),
        platform: None,
        plain_http: false,
        non_distributable: true,
    };
    let object = ObjectRequest {
        reference: request.reference.clone(),
        digest: Digest::from_bytes([9; 32]),
        media_type: String::new(),
        plain_http: false,
    };
    vec![
        Intent::PrepareSnapshot { snapshotter: snapshotter(), key: key.clone(), directory },
        Intent::RemoveSnapshot { snapshotter: snapshotter(), key: key.clone(), directory },
        Intent::CreateTask { container: container.clone(), nonce: nonce.clone() },
        Intent::StartProcess { container: container.clone(), nonce: nonce.clone(), exec: Some(exec()) },
        Intent::DeleteTask { container: container.clone(), nonce },
        Intent::Pull { transfer: 5, request, lease: Some(LeaseId::new("l").expect("good")) },
        Intent::CreateContainer {
            container: container.clone(),
            snapshotter: snapshotter(),
            key: key.clone(),
            directory,
        },
        Intent::MakeLayer {
            snapshotter: snapshotter(),
            key: key.clone(),
            reference: "ref".to_owned(),
            keep: true,
        },
        Intent::ApplyLayer { snapshotter: snapshotter(), key: key.clone(), directory },
        Intent::DeleteContainer {
            container: container.clone(),
            snapshotter: snapshotter(),
            key: key.clone(),
            directory,
        },
        Intent::Relaunch { container, nonce: "4567cdef".to_owned() },
        Intent::RemapSnapshot { snapshotter: snapshotter(), key, directory },
        Intent::Push { transfer: 6, request: push },
        Intent::FetchObject { transfer: 7, request: object.clone(), lease: None },
        Intent::PushObject { transfer: 8, request: object },
        Intent::Collect { directories: vec![(snapshotter(), directory)], blobs: vec![digest()] },
    ]
}

fn group() -> GroupName {
    GroupName::new("shop").expect("good")
}

fn add_groups(samples: &mut Samples) {
    let member = |name, restart| GroupMember { name, restart, shutdown_ms: 10_000 };
    let spec = GroupSpec {
        name: group(),
        strategy: GroupStrategy::RestForOne,
        intensity: RestartIntensity { restarts: 3, period_ms: 5000 },
        members: vec![
            member(MemberName::Container(container()), MemberRestart::Transient),
            member(MemberName::Group(group()), MemberRestart::Temporary),
        ],
    };
    let incarnations = || BTreeMap::from([(0, "0123abcd".to_owned())]);
    let round = Round { members: vec![0], stop_only: vec![1], before: incarnations(), started: 1 };
    for (name, phase) in [
        ("stopped", GroupPhase::Stopped),
        ("starting", GroupPhase::Starting(round)),
        ("up", GroupPhase::Up),
        ("stopping", GroupPhase::Stopping { failure: Some("too often".to_owned()) }),
        ("failed", GroupPhase::Failed { cause: "too often".to_owned() }),
    ] {
        let state = GroupState {
            phase,
            handled: incarnations(),
            history: vec![MADE],
            restarts: 2,
            generation: 3,
            boot_id: "boot".to_owned(),
        };
        samples
            .add(name, &GroupRecord { namespace: namespace(), spec: spec.clone(), state, created_at: MADE });
    }
}

fn add_relaunches(samples: &mut Samples) {
    let attempt = Attempt {
        operation: OperationId(300),
        old: Some("0123abcd".to_owned()),
        nonce: "4567cdef".to_owned(),
        by_person: true,
    };
    let policy = RestartPolicy {
        intensity: Some(RestartIntensity { restarts: 3, period_ms: 5000 }),
        ..RestartPolicy::new(RestartWhen::OnFailure { most: 4 })
    };
    for (name, phase) in [
        ("idle", RelaunchPhase::Idle),
        ("waiting", RelaunchPhase::Waiting { until: CHANGED }),
        ("relaunching", RelaunchPhase::Relaunching(attempt)),
        ("stopping", RelaunchPhase::Stopping { signal: 15, until: CHANGED, then_start: true }),
        ("given-up", RelaunchPhase::GivenUp { cause: "too often".to_owned() }),
    ] {
        let state = RelaunchState {
            phase,
            handled: Some("0123abcd".to_owned()),
            count: 2,
            tries: 1,
            history: vec![MADE, CHANGED],
            stopped: true,
            stopped_task: Some("0123abcd".to_owned()),
            last_exit: Some(exit(ExitCause::Code(3))),
            daemon: MADE,
            heritage: Some(Heritage { stdio: stdio(), on_shim_death: OnShimDeath::Kill }),
        };
        samples.add(name, &RelaunchRecord { namespace: namespace(), container: container(), policy, state });
    }
}

fn add_operations(samples: &mut Samples) {
    for intent in intents() {
        samples.add(intent.name(), &operation(intent, OperationStatus::Forward));
    }
    let intent = || Intent::CreateTask { container: container(), nonce: "0".to_owned() };
    let cause = || Error::unavailable("the shim is away").with_hint("try again");
    samples.add("undoing", &operation(intent(), OperationStatus::Undoing { cause: cause() }));
    samples.add("parked", &operation(intent(), OperationStatus::Parked { cause: cause() }));
}

fn events() -> Vec<Event> {
    let (id, key, name) = (container(), snapshot(), image());
    let snapshotter = || "overlayfs".to_owned();
    let code = || exit(ExitCause::Code(0));
    vec![
        Event::NamespaceCreate { name: namespace(), labels: labels() },
        Event::NamespaceUpdate { name: namespace(), labels: labels() },
        Event::NamespaceDelete { name: namespace() },
        Event::ContainerCreate { id: id.clone(), image: Some(name.clone()), runtime: "bosun".to_owned() },
        Event::ContainerUpdate {
            id: id.clone(),
            image: None,
            labels: labels(),
            snapshot_key: Some(key.clone()),
        },
        Event::ContainerDelete { id: id.clone() },
        Event::ContentCreate { digest: digest(), size: 5 },
        Event::ContentDelete { digest: digest() },
        Event::ImageCreate { name: name.clone(), labels: labels() },
        Event::ImageUpdate { name: name.clone(), labels: labels() },
        Event::ImageDelete { name },
        Event::SnapshotPrepare { snapshotter: snapshotter(), key: key.clone(), parent: None },
        Event::SnapshotCommit { snapshotter: snapshotter(), key: key.clone(), name: key.clone() },
        Event::SnapshotRemove { snapshotter: snapshotter(), key },
        Event::TaskCreate { container_id: id.clone(), bundle: "/run/b".to_owned(), pid: 7, io: stdio() },
        Event::TaskStart { container_id: id.clone(), pid: 7 },
        Event::TaskOom { container_id: id.clone() },
        Event::TaskExit { container_id: id.clone(), id: "shell".to_owned(), pid: 7, exit: code() },
        Event::TaskDelete { container_id: id.clone(), pid: 7, exit: Some(code()) },
        Event::TaskExecAdded { container_id: id.clone(), exec_id: exec() },
        Event::TaskExecStarted { container_id: id.clone(), exec_id: exec(), pid: 8 },
        Event::TaskPaused { container_id: id.clone() },
        Event::TaskResumed { container_id: id.clone() },
        Event::TaskCheckpointed { container_id: id, checkpoint: "/c".to_owned() },
        Event::ContainerRelaunched { id: container(), pid: 9, count: 2 },
        Event::ContainerGivenUp { id: container(), count: 3, cause: "too often".to_owned() },
        Event::GroupCreate { name: group() },
        Event::GroupDelete { name: group() },
        Event::GroupUp { name: group() },
        Event::GroupRestarting { name: group(), cause: "a ended".to_owned() },
        Event::GroupStopped { name: group() },
        Event::GroupFailed { name: group(), cause: "too often".to_owned() },
        Event::Custom {
            topic: "/custom/topic".to_owned(),
            payload: Any { type_url: "t".to_owned(), value: vec![1] },
        },
        Event::Forwarded {
            topic: "/forwarded/topic".to_owned(),
            payload: Any { type_url: "t".to_owned(), value: vec![1] },
            published_at: CHANGED,
        },
    ]
}

#[test]
fn released_bytes_are_written_and_read_as_they_were() {
    let mut samples = Samples::default();
    add_rows(&mut samples);
    add_access(&mut samples);
    add_tasks(&mut samples);
    add_leases(&mut samples);
    add_operations(&mut samples);
    add_relaunches(&mut samples);
    add_groups(&mut samples);
    for (event, sequence) in events().into_iter().zip(1_000_000..) {
        let topic = event.topic().to_owned();
        samples.add(&topic, &EventRecord { sequence, at: MADE, namespace: namespace(), event });
    }
    for namespace in [None, Some(namespace())] {
        let id = CursorId::new("backup").expect("good");
        let name = namespace.as_ref().map_or("cursor of all", |_| "cursor");
        let record = CursorRecord { namespace, id, position: 7, created_at: MADE, updated_at: CHANGED };
        samples.add(name, &record);
    }
    let text = samples.0.iter().fold(String::new(), |mut text, (name, bytes)| {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let _ = writeln!(text, "{name} {hex}");
        text
    });
    if rewriting() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/records/golden_v1.txt");
        return std::fs::write(path, text).expect("writes");
    }
    assert!(text == GOLDEN, "this build writes other bytes than golden_v1.txt; it would write:\n{text}");
}

#[test]
fn a_length_that_claims_more_than_the_limit_is_refused_before_anything_is_allocated() {
    let key = crate::key::namespace(&namespace());
    // The name's length: 0xfd is a u64 to follow.
    let body = [&[0xfd][..], &(1_u64 << 40).to_le_bytes()].concat();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[1]);
    hasher.update(&body);
    let value = [&[1][..], &hasher.finalize().to_le_bytes(), &body].concat();
    let error = codec::decode::<NamespaceRecord>(&key, &value).expect_err("refused");
    assert!(error.to_string().contains("namespaces"), "{error}");
}

#[test]
fn an_unknown_version_names_both_and_the_row() {
    let record = task(StoredPhase::Running);
    let mut value = codec::encode(&record).expect("encodes");
    value[0] = 200;
    let body = value[5..].to_vec();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[200]);
    hasher.update(&body);
    value[1..5].copy_from_slice(&hasher.finalize().to_le_bytes());
    let error = codec::decode::<TaskRecord>(&record.key(), &value).expect_err("unknown").to_string();
    assert!(error.contains("tasks") && error.contains("redis-1") && error.contains("version 200"), "{error}");
}
