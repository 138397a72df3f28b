//! The fields that the rows give to each noun.

use std::collections::BTreeMap;

use bosun_types::container::{Any, ContainerRecord, RuntimeChoice};
use bosun_types::content::{ContentRecord, Descriptor, IngestStatus};
use bosun_types::event::{Event, EventRecord};
use bosun_types::image::ImageRecord;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord};
use bosun_types::task::{ExitCause, ExitStatus};
use bosun_types::{Digest, Labels, Timestamp};

use crate::{Fields, Filter};

const NOW: Timestamp = Timestamp(1_000_000_000);

fn id<T: std::str::FromStr<Err = bosun_types::Error>>(text: &str) -> T {
    text.parse().expect("well formed")
}

fn labels() -> Labels {
    Labels::from([("tier".to_owned(), "web".to_owned()), ("a.b/c".to_owned(), "x".to_owned())])
}

/// Each of the first matches, none of the second does.
fn check(value: &impl Fields, matching: &[&str], others: &[&str]) {
    let matches = |text: &str| Filter::parse(text).unwrap_or_else(|error| panic!("{error}")).matches(value);
    for text in matching {
        assert!(matches(text), "{text}");
    }
    for text in others {
        assert!(!matches(text), "{text}");
    }
}

const LABELS: &[&str] = &["labels.tier==web", "labels.\"a.b/c\"==x", "labels.tier,labels.none!=x"];

#[test]
fn ctr_6_fields_of_a_container() {
    let record = ContainerRecord {
        namespace: id("web"),
        id: id("c1"),
        labels: labels(),
        image: Some(id("r.io/a:1")),
        runtime: RuntimeChoice { name: "runc".to_owned(), options: None },
        spec: Vec::new(),
        snapshotter: None,
        snapshot_key: None,
        extensions: BTreeMap::new(),
        created_at: NOW,
        updated_at: NOW,
    };
    check(&record, LABELS, &["labels.none", "namespace"]);
    check(
        &record,
        &["id==c1", "image==r.io/a:1", "runtime.name~=^run", "snapshotter!=x"],
        &["runtime", "name"],
    );
    check(&ContainerRecord { image: None, ..record }, &["image!=r.io/a:1"], &["image"]);
}

#[test]
fn img_3_fields_of_an_image() {
    let digest = Digest::from_bytes([7; 32]);
    let record = ImageRecord {
        namespace: id("web"),
        name: id("r.io/a:1"),
        target: Descriptor { media_type: "m/t".to_owned(), digest, size: 1 },
        labels: labels(),
        created_at: NOW,
        updated_at: NOW,
    };
    check(&record, LABELS, &["labels", "target", "target.size"]);
    check(
        &record,
        &["name==r.io/a:1", &format!("target.digest=={digest}"), "target.mediatype==m/t"],
        &["size"],
    );
}

#[test]
fn con_6_con_21_fields_of_blobs_and_ingests() {
    let digest = Digest::from_bytes([7; 32]);
    let record = ContentRecord {
        namespace: id("web"),
        digest,
        size: 5,
        labels: labels(),
        created_at: NOW,
        updated_at: NOW,
    };
    check(&record, LABELS, &["size", "size==5"]);
    check(&record, &[&format!("digest=={digest}"), "digest~=^sha256:07"], &["digest==x"]);
    let status = IngestStatus {
        reference: "layer-1".to_owned(),
        offset: 1,
        total: 2,
        expected: None,
        digest: None,
        started_at: NOW,
        updated_at: NOW,
    };
    check(&status, &["ref==layer-1", "ref~=^layer"], &["offset", "ref==layer"]);
}

#[test]
fn ns_4_snp_9_fields_of_namespaces_and_snapshots() {
    let record = NamespaceRecord { name: id("web"), labels: labels(), created_at: NOW, updated_at: NOW };
    check(&record, LABELS, &["created_at"]);
    check(&record, &["name==web"], &["name==we"]);
    let record = SnapshotRecord {
        namespace: id("web"),
        snapshotter: "overlayfs".to_owned(),
        key: id("k"),
        parent: Some(id("p")),
        kind: SnapshotKind::Active,
        directory: 1,
        labels: labels(),
        usage: None,
        created_at: NOW,
        updated_at: NOW,
    };
    check(&record, LABELS, &["directory"]);
    check(&record, &["name==k,parent==p,kind==active"], &["kind==committed"]);
}

fn event(event: Event) -> EventRecord {
    EventRecord { sequence: 1, at: NOW, namespace: id("web"), event }
}

#[test]
fn evt_8_fields_of_events() {
    let exit = ExitStatus { cause: ExitCause::Code(3), exited_at: NOW };
    let record = event(Event::TaskExit { container_id: id("c"), id: "e".to_owned(), pid: 9, exit });
    check(
        &record,
        &[
            "namespace==web",
            "topic==/tasks/exit",
            "topic~=^/tasks/,event.container_id==c,event.id==e",
            "event.pid==9",
            "event.exit_status==3",
            "event.exited_at~=^1970-01-01T00:00:01",
        ],
        &["event", "event.exec_id", "event.exit_status==4", "container_id==c"],
    );
    let record = event(Event::ContainerCreate { id: id("c"), image: None, runtime: "runc".to_owned() });
    check(&record, &["event.id==c", "event.runtime.name==runc", "event.runtime==runc"], &["event.image"]);
    let record = event(Event::ImageCreate { name: id("n"), labels: labels() });
    check(
        &record,
        &["event.name==n", "event.labels.tier==web", "event.labels.\"a.b/c\"", "event.labels.none!=x"],
        &["event.labels", "event.labels.a"],
    );
    let payload = Any { type_url: "t/x".to_owned(), value: br#"{"a":{"b":true},"n":1.5}"#.to_vec() };
    let record = event(Event::Custom { topic: "/mine/x".to_owned(), payload });
    check(
        &record,
        &["topic==/mine/x,event.type_url==t/x", "event.a.b==true", "event.n==1.5"],
        &["event.a", "event.z"],
    );
    let record = event(Event::NamespaceDelete { name: id("web") });
    check(&record, &["event.name==web"], &["event.labels"]);
}
