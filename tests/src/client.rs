//! What tests do with the daemon over RPC: connect, import, run, and ask what it says it holds.

use std::collections::BTreeMap;

use bosun_client::{Client, ConnectOptions, Namespace};
use bosun_types::event::{EventDelivery, EventRecord, EventStart};
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::spec::{ContainerRequest, RootRequest, SpecOptions, SpecRequest};
use bosun_types::task::{ProcessStatus, TaskRequest};
use bosun_types::transfer::ImportRequest;
use bosun_types::{ContainerId, ErrorClass, ImageName, NamespaceName};
use bytes::Bytes;

use crate::invariants::{Expected, SNAPSHOTTERS, violations};
use crate::world::{DEADLINE, World, eventually};

/// Name of the image that [`import`] makes.
pub const IMAGE: &str = "test.local/busybox:latest";

impl World {
    /// A client of this world's daemon.
    pub async fn client(&self) -> Client {
        let options = ConnectOptions {
            connect_deadline: DEADLINE,
            reconnect_deadline: DEADLINE,
            call_deadline: DEADLINE,
            ..ConnectOptions::address(&self.address().to_string_lossy())
        };
        Client::connect(options).await.expect("connects")
    }

    /// Waits until recovery has nothing left to do.
    pub async fn recovered(&self, client: &Client) {
        eventually("recovery to end", || async {
            client.status().await.is_ok_and(|status| !status.recovering)
        })
        .await;
    }

    /// Fails with every difference between the host and what the daemon says. A process that ended a moment ago is told a moment later:
    /// what is still different after some seconds is broken.
    pub async fn check(&self, client: &Client) {
        let begin = std::time::Instant::now();
        loop {
            let found = violations(self.places(), &expected(client).await);
            if found.is_empty() {
                return;
            }
            assert!(begin.elapsed() < SETTLE, "invariants broken:\n  {}", found.join("\n  "));
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// How long the daemon may take to tell what has just happened on the host.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(5);

/// The default namespace.
pub fn namespace(client: &Client) -> Namespace {
    client.namespace(NamespaceName::default_name())
}

/// Imports busybox, unpacked.
pub async fn import(client: &Client) -> ImageName {
    let mut archive = Vec::new();
    crate::fixture::busybox_image()
        .and_then(|image| Ok(image.write_oci_tar(&mut archive, Some(IMAGE))?))
        .expect("an archive");
    import_bytes(client, archive).await.expect("imports")
}

/// Imports any archive.
pub async fn import_bytes(client: &Client, archive: Vec<u8>) -> bosun_types::Result<ImageName> {
    let request = ImportRequest {
        base_name: Some("test.local/imported".to_owned()),
        unpack: Some(SNAPSHOTTER_DEFAULT.to_owned()),
        ..ImportRequest::default()
    };
    let mut import = namespace(client).transfers().import(request).await?;
    for chunk in archive.chunks(256 << 10) {
        // A refused archive says why at the end.
        if import.write(Bytes::copy_from_slice(chunk)).await.is_err() {
            break;
        }
    }
    let images = import.finish().await?.wait().await?;
    Ok(images.first().expect("an image").name.clone())
}

/// A container of the imported image that runs a shell command.
pub fn shell(id: &str, command: &str) -> ContainerRequest {
    let args = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
    ContainerRequest {
        id: ContainerId::new(id).expect("a good id"),
        labels: BTreeMap::new(),
        image: Some(ImageName::new(IMAGE).expect("a good name")),
        snapshotter: None,
        root: RootRequest::Image { key: None },
        runtime: bosun_types::container::RuntimeChoice::default(),
        spec: SpecRequest::Build(Box::new(SpecOptions { args, ..SpecOptions::default() })),
        extensions: BTreeMap::new(),
        restart: None,
        checkpoint: None,
    }
}

/// A task with a log and no other streams.
pub fn logged() -> TaskRequest {
    TaskRequest { log_to_file: true, ..TaskRequest::default() }
}

/// The text of a container's log.
pub async fn log_of(client: &Client, id: &str) -> String {
    let task = namespace(client).container(ContainerId::new(id).expect("good")).task();
    let mut records = task.logs(bosun_types::stdio::LogRequest::default()).await.expect("has a log");
    let mut text = Vec::new();
    while let Some(record) = records.next().await {
        text.extend_from_slice(&record.expect("reads").bytes);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Every event of the log up to now.
pub async fn events(client: &Client) -> Vec<EventRecord> {
    let head = client.status().await.expect("answers").event_sequence;
    let mut all = Vec::new();
    if head == 0 {
        return all;
    }
    let mut stream = client
        .events()
        .subscribe(bosun_client::EventFilter::default(), EventStart::Sequence(1))
        .await
        .expect("subscribes");
    while let Some(delivery) = stream.next().await {
        if let EventDelivery::Event(event) = delivery.expect("reads") {
            let last = event.sequence >= head;
            all.push(event);
            if last {
                break;
            }
        }
    }
    all
}

/// What the daemon says it holds, in all namespaces.
pub async fn expected(client: &Client) -> Expected {
    let mut expected = Expected::default();
    for record in client.namespaces().await.expect("lists") {
        let namespace = client.namespace(record.name.clone());
        for task in namespace.tasks().await.expect("lists") {
            let owner = format!("{}/{}", record.name, task.container);
            expected.tasks.insert(owner.clone());
            if matches!(task.status, ProcessStatus::Running | ProcessStatus::Paused) {
                expected.frozen.insert((owner.clone(), task.pid), task.status == ProcessStatus::Paused);
            }
            if matches!(task.status, ProcessStatus::Running | ProcessStatus::Created | ProcessStatus::Paused)
            {
                expected.live.insert((owner, task.pid));
            }
        }
        for snapshotter in SNAPSHOTTERS {
            let count = match namespace.snapshots(snapshotter).list().await {
                Ok(all) => all.len(),
                // There is no btrfs on this host.
                Err(error) if error.class == ErrorClass::InvalidArgument => continue,
                Err(error) => panic!("{snapshotter}: {error}"),
            };
            *expected.snapshots.entry(snapshotter.to_owned()).or_default() += count;
        }
        expected
            .blobs
            .extend(namespace.content().list().await.expect("lists").iter().map(|blob| blob.digest.hex()));
    }
    expected
}
