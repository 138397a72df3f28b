//! A namespace's socket reaches that namespace and nothing else; a read-only one changes nothing; a revoked one ends; and who did what is known.

use std::path::PathBuf;

use crate::support::{Served, client_of, eventually, request, web};
use bosun_client::{Client, ErrorClass, EventFilter, Result};
use bosun_types::access::{Access, AuditQuery, AuditRecord, AuditResult, SocketRecord};
use bosun_types::container::Any;
use bosun_types::event::EventStart;
use bosun_types::{Labels, NamespaceName, OperationId, Timestamp};

fn name(text: &str) -> NamespaceName {
    text.parse().expect("well formed")
}

/// The owner of the tests' own process, so that they may connect whoever runs them.
fn wanted(id: &str, namespace: &str, access: Access) -> SocketRecord {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let (id, namespace) = (id.parse().expect("well formed"), name(namespace));
    SocketRecord { id, namespace, uid, gid, mode: 0o600, access, created_at: Timestamp::default() }
}

async fn socket(client: &Client, id: &str, namespace: &str, access: Access) -> PathBuf {
    client.create_socket(wanted(id, namespace, access)).await.expect("makes").1
}

fn denied<T>(what: &str, result: Result<T>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} is allowed"));
    assert_eq!(error.class, ErrorClass::PermissionDenied, "{what}: {error}");
    assert!(error.hint.is_some(), "{what}: it says what to do");
}

async fn audit(client: &Client, query: AuditQuery) -> Vec<AuditRecord> {
    client.audit(query, 0, 0).await.expect("answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_socket_reaches_nothing_else() {
    let served = Served::start().await;
    let root = served.client().await;
    root.namespace(name("other")).run(request("secret")).await.expect("runs");
    let confined = client_of(socket(&root, "web", "web", Access::ReadWrite).await).await;
    let reach = confined.reach().await.expect("answers");
    assert_eq!((reach.namespace, reach.access), (Some(name("web")), Access::ReadWrite));
    assert_eq!(root.reach().await.expect("answers").namespace, None);
    web(&confined).run(request("own")).await.expect("its own namespace is whole");

    let other = confined.namespace(name("other"));
    denied("other containers", other.containers().list().await);
    denied("another container", other.container("secret".parse().expect("good")).record().await);
    denied("another task", other.container("secret".parse().expect("good")).task().kill(9, true).await);
    denied("other tasks", other.tasks().await);
    denied("other images", other.images().list().await);
    denied("other content", other.content().list().await);
    denied("other snapshots", other.snapshots("overlayfs").list().await);
    denied("other transfers", other.transfers().list().await);
    denied("other events", other.events().subscribe(EventFilter::default(), EventStart::Now).await.map(drop));
    denied("status", confined.status().await);
    denied("tree", confined.tree().await);
    denied("namespaces", confined.namespaces().await);
    denied("a new namespace", confined.create_namespace(name("mine"), Labels::new()).await);
    denied("labels", confined.update_namespace(name("web"), Labels::new(), true).await);
    denied("its namespace's end", confined.delete_namespace(name("web")).await);
    denied("operations", confined.operations().await);
    denied("a retry", confined.retry_operation(OperationId(1)).await);
    denied("a forgetting", confined.forget_operation(OperationId(1)).await);
    denied(
        "all events",
        confined.events().subscribe(EventFilter::default(), EventStart::Now).await.map(drop),
    );
    denied("a further socket", confined.create_socket(wanted("w2", "other", Access::ReadWrite)).await);
    denied("sockets", confined.sockets().await);
    denied("a revocation", confined.remove_socket("web".parse().expect("good")).await);
    denied("the audit log", confined.audit(AuditQuery::default(), 0, 0).await);
    denied("a collection", confined.collect_garbage(true).await);
    denied("its parts", confined.parts().await);

    // What it may see of events is its own namespace's, whatever it asks for.
    let filter = EventFilter { namespaces: Some(vec![name("other"), name("web")]), ..EventFilter::default() };
    let mut events =
        web(&confined).events().subscribe(filter, EventStart::Sequence(1)).await.expect("subscribes");
    let first = events.next().await.expect("an event").expect("reads");
    let bosun_types::event::EventDelivery::Event(first) = first else { panic!("{first:?}") };
    assert_eq!(first.namespace, name("web"));
    let payload = Any { type_url: "t".to_owned(), value: vec![1] };
    denied("an event elsewhere", {
        let result = web(&confined).events().publish(name("other"), "/x".to_owned(), payload).await;
        result.map_err(|error| error.with_hint("as the caller sees it"))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_socket_looks_and_changes_nothing() {
    let served = Served::start().await;
    let root = served.client().await;
    let running = web(&root).run(request("c1")).await.expect("runs");
    let look = client_of(socket(&root, "look", "web", Access::ReadOnly).await).await;
    let task = web(&look).container("c1".parse().expect("good")).task();
    assert_eq!(web(&look).containers().list().await.expect("lists").len(), 1);
    assert_eq!(task.info().await.expect("tells").pid, running.pid());
    assert_eq!(web(&look).tasks().await.expect("lists").len(), 1);

    denied("create", web(&look).containers().create(request("c2").container).await);
    denied("kill", task.kill(9, true).await);
    denied("pause", task.pause().await);
    denied("delete", task.delete().await);
    denied("stdin", task.init().write_stdin(b"x".to_vec()).await);
    denied("resize", task.init().resize(80, 24).await);
    denied("remove", web(&look).container("c1".parse().expect("good")).delete(true).await);
    denied("image", web(&look).images().delete("r.io/a:1".parse().expect("good")).await);
    let request = bosun_types::stdio::AttachRequest::default();
    denied("attach", task.init().attach(request).await.map(drop));
    assert_eq!(task.info().await.expect("tells").pid, running.pid(), "it runs on");

    // The tries are on record, with who it was and through which socket.
    let tries = audit(&root, AuditQuery { refused: true, ..AuditQuery::default() }).await;
    let kill = tries.iter().find(|entry| entry.call == "process.kill").expect("recorded");
    assert_eq!(kill.subject, "web/c1");
    assert_eq!(kill.socket.as_ref().map(ToString::to_string).as_deref(), Some("look"));
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert_eq!((kill.uid, kill.pid), (nix::unistd::getuid().as_raw(), own));
}

/// Whatever a call is about, and whether that exists or not: no noun has a way around.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_socket_refuses_every_change_of_every_noun() {
    let served = Served::start().await;
    let root = served.client().await;
    web(&root).run(request("c1")).await.expect("runs");
    let before = root.status().await.expect("answers").event_sequence;
    let look = client_of(socket(&root, "look", "web", Access::ReadOnly).await).await;
    let (space, labels) = (web(&look), Labels::new);
    let (digest, lease) = (bosun_types::Digest::from_bytes([7; 32]), || "l".parse().expect("good"));
    let container = space.container("c1".parse().expect("good"));
    let task = container.task();
    denied("container update", container.set_labels(Labels::from([("a".to_owned(), "b".to_owned())])).await);
    denied("task create", container.create_task(Default::default()).await.map(drop));
    denied("container start", container.start().await);
    denied("container stop", container.stop(Default::default()).await);
    denied("container restart", container.restart(Default::default()).await);
    let policy = bosun_types::relaunch::RestartPolicy::new("always".parse().expect("good"));
    denied("policy", container.set_restart_policy(policy).await);
    denied("task start", task.start().await);
    denied("task resume", task.resume().await);
    denied("task update", task.update(b"{}".to_vec()).await);
    denied("stdin's end", task.close_stdin().await);
    denied("checkpoint", task.checkpoint(Default::default()).await);
    let exec = bosun_types::task::ExecRequest::new("e".parse().expect("good"), ["true"]);
    denied("exec", task.exec(exec.clone()).await.map(drop));
    denied("run of an exec", task.run_exec(exec).await.map(drop));
    denied("run", space.run(request("c9")).await.map(drop));
    denied("image unpack", space.image("r.io/a:1".parse().expect("good")).unpack("overlayfs").await);
    denied("image delete", space.images().delete_sync("r.io/a:1".parse().expect("good")).await);
    denied("writer", space.content().writer("w".to_owned(), 0, None).await.map(drop));
    denied("content labels", space.content().update_labels(digest, labels(), true).await);
    denied("content delete", space.content().delete(digest).await);
    denied("content abort", space.content().abort("w".to_owned()).await);
    denied("content repair", space.content().verify(digest, true).await);
    denied("lease create", space.leases().create(Some(lease()), labels()).await);
    denied("lease delete", space.leases().delete(lease()).await);
    denied("lease", space.begin_lease().await.map(drop));
    let reference: bosun_types::reference::Reference = "r.io/a:1".parse().expect("good");
    let pull = bosun_types::transfer::PullRequest::new(reference.clone(), "overlayfs");
    denied("pull", space.transfers().pull(pull).await.map(drop));
    denied(
        "push",
        space.transfers().push(bosun_types::transfer::PushRequest::new(reference)).await.map(drop),
    );
    denied("import", space.transfers().import(Default::default()).await.map(drop));
    let payload = Any { type_url: "t".to_owned(), value: vec![1] };
    denied("publish", space.events().publish(name("web"), "/x/y".to_owned(), payload).await);
    // What is to be seen is seen.
    space.containers().list().await.expect("lists");
    space.images().list().await.expect("lists");
    space.content().list().await.expect("lists");
    space.leases().list().await.expect("lists");
    assert_eq!(root.status().await.expect("answers").event_sequence, before, "nothing has happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_socket_ends_with_its_connections_and_the_others_stay() {
    let served = Served::start().await;
    let root = served.client().await;
    let path = socket(&root, "web", "web", Access::ReadWrite).await;
    let stays = client_of(socket(&root, "second", "web", Access::ReadWrite).await).await;
    let ends = client_of(path.clone()).await;
    web(&ends).run(request("c1")).await.expect("runs");
    let before = served.edge.as_ref().expect("serves").connections();
    root.remove_socket("web".parse().expect("good")).await.expect("revokes");
    eventually("the connection to end", || served.edge.as_ref().expect("serves").connections() < before)
        .await;
    assert!(!path.exists());
    let error = web(&ends).containers().list().await.expect_err("revoked");
    assert_eq!(error.class, ErrorClass::Unavailable, "{error}");
    assert_eq!(web(&stays).containers().list().await.expect("lists").len(), 1);
    let again = root.remove_socket("web".parse().expect("good")).await.expect_err("gone");
    assert_eq!(again.class, ErrorClass::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_cannot_be_made_leaves_no_record() {
    let served = Served::start().await;
    let root = served.client().await;
    let long = "x".repeat(76);
    let error = root.create_socket(wanted(&long, "web", Access::ReadWrite)).await.expect_err("too long");
    assert_eq!(error.class, ErrorClass::InvalidArgument, "{error}");
    // Something that is no socket stands in its place: it is left alone.
    let path = socket(&root, "first", "web", Access::ReadWrite).await.with_file_name("taken.sock");
    std::fs::write(&path, "kept").expect("writes");
    let error = root.create_socket(wanted("taken", "web", Access::ReadWrite)).await.expect_err("taken");
    assert_eq!(error.class, ErrorClass::FailedPrecondition, "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "kept");
    let left: Vec<String> =
        root.sockets().await.expect("lists").iter().map(|socket| socket.id.to_string()).collect();
    assert_eq!(left, ["first"]);
    let bad = SocketRecord { mode: 0o4777, ..wanted("bad", "web", Access::ReadWrite) };
    assert_eq!(root.create_socket(bad).await.expect_err("mode").class, ErrorClass::InvalidArgument);
    let error = root.create_socket(wanted("first", "web", Access::ReadOnly)).await.expect_err("taken");
    assert_eq!(error.class, ErrorClass::AlreadyExists);
    let error = root.delete_namespace(name("web")).await.expect_err("somebody has a way in");
    assert_eq!(error.class, ErrorClass::FailedPrecondition, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_something_is_recorded_and_what_looks_is_not() {
    let served = Served::start().await;
    let root = served.client().await;
    root.create_namespace(name("web"), Labels::new()).await.expect("makes");
    root.create_namespace(name("web"), Labels::new()).await.expect_err("is there");
    web(&root).run(request("c1")).await.expect("runs");
    web(&root).containers().list().await.expect("lists");
    let told: Vec<(String, String, bool)> = audit(&root, AuditQuery::default())
        .await
        .into_iter()
        .rev()
        .map(|entry| {
            let done = matches!(entry.result, AuditResult::Done { .. });
            (entry.call, entry.subject, done)
        })
        .collect();
    let wanted = [
        ("namespace.create", "web", true),
        ("namespace.create", "web", false),
        ("container.create", "web/c1", true),
        ("task.create", "web/c1", true),
        ("process.start", "web/c1", true),
    ];
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(call, subject, done)| ((*call).to_owned(), (*subject).to_owned(), *done))
        .collect();
    assert_eq!(told, wanted);
    let of = |call: &str| AuditQuery { call: Some(call.to_owned()), ..AuditQuery::default() };
    assert_eq!(audit(&root, of("container")).await.len(), 1);
    assert_eq!(root.audit(AuditQuery::default(), 0, 2).await.expect("a page").len(), 2);
}
