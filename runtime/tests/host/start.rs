//! Starting shims, and a container's ordinary life.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use bosun_runtime::observe::observe;
use bosun_runtime::reaper::Reaper;
use bosun_runtime::shim::ShimLauncher;
use bosun_runtime::{log, process};
use bosun_types::ErrorClass;
use bosun_types::shim::{Request, Response};
use bosun_types::stdio::LogRequest;
use bosun_types::task::ExitCause;
use futures::FutureExt as _;

use crate::world::{PATIENCE, World, exit_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_by_the_default_spec_runs_is_observed_and_leaves_nothing() {
    let world = World::new();
    let mut task = world.run("id; echo $PATH; exit 7", "web", "bosun").await;
    let exit = exit_of(&mut task.notices).await;
    assert_eq!((exit.exec, exit.process, exit.status.cause), (None, task.init, ExitCause::Code(7)));

    let observed = observe(&world.state(), &world.cgroup_parent).unwrap();
    assert_eq!(observed.tasks.len(), 1);
    let seen = &observed.tasks[0];
    assert_eq!(seen.owner, Some((world.namespace.clone(), world.id.clone())));
    assert!(seen.shim_lives && !seen.init_lives);
    assert_eq!(seen.exits.len(), 1);
    assert_eq!((observed.shims[0].process, observed.shims.len()), (task.shim, 1));
    assert_eq!(observed.cgroups, [("default".to_owned(), "c1".to_owned())]);

    let ack = task.connection.request(Request::AckExit { exec: None }, PATIENCE).await.unwrap();
    assert_eq!(ack, Response::Done);
    assert_eq!(task.directory.exit_records().unwrap(), []);
    task.connection.request(Request::Delete, PATIENCE).await.unwrap();
    task.connection.request(Request::Shutdown, PATIENCE).await.unwrap();
    let ended = Reaper::get().unwrap().wait(&task.shim).await;
    assert_eq!(ended.cause, ExitCause::Code(0));
    task.directory.ensure_not().unwrap();

    let follow = LogRequest { follow: true, ..LogRequest::default() };
    let mut records = log::read(world.log(), follow, futures::future::ready(()).boxed());
    let mut text = String::new();
    while let Some(record) = records.recv().await {
        text.push_str(&String::from_utf8(record.unwrap().bytes).unwrap());
    }
    assert!(text.starts_with("uid=33(web) gid=34(www) groups=34(www),40(logs)"), "CVE-2023-25173: {text}");
    assert!(text.contains("/usr/local/sbin:/usr/local/bin"), "{text}");
    world.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_has_its_own_session_and_only_the_descriptors_it_needs() {
    let world = World::new();
    // Neither end may reach the shim.
    let held = nix::unistd::pipe().unwrap();
    let inherited = fs::read_link(format!("/proc/self/fd/{}", held.0.as_raw_fd())).unwrap();
    let directory = world.directory(&world.spec("true", ""));
    let shim = world.shim(&directory).await;
    let stat = fs::read_to_string(format!("/proc/{}/stat", shim.pid)).unwrap();
    let session: u32 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert_eq!(session, shim.pid);
    for entry in fs::read_dir(format!("/proc/{}/fd", shim.pid)).unwrap() {
        // One may be closed between the listing and the look: the ready pipe is.
        let link = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert_ne!(link, inherited);
    }
    drop(held);
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", shim.pid)).unwrap(), directory.path());
    process::kill(&shim, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(Reaper::get().unwrap().wait(&shim).await.cause, ExitCause::Signal(9));
    directory.ensure_not().unwrap();
    world.assert_nothing_left();
}

/// A program that is no shim.
fn script(world: &World, text: &str) -> PathBuf {
    let path = world.home.path().join("not-a-shim");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_a_shim_that_dies_at_once_is_told_with_its_last_words() {
    let world = World::new();
    let launcher = ShimLauncher::new(script(&world, "echo something is wrong >&2; exit 3")).unwrap();
    let directory = world.directory(b"{}");
    let started = launcher.spawn(&directory, &world.namespace, &world.id, PATIENCE).await;
    let error = bosun_types::Error::from(started.unwrap_err());
    assert_eq!(error.class, ErrorClass::Unavailable);
    assert!(error.message.contains("something is wrong") && error.message.contains("Code(3)"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_a_shim_that_never_listens_is_killed_at_its_deadline() {
    let world = World::new();
    let launcher = ShimLauncher::new(script(&world, "echo $$ > pid; exec sleep 1000")).unwrap();
    let directory = world.directory(b"{}");
    let started = launcher.spawn(&directory, &world.namespace, &world.id, Duration::from_secs(1)).await;
    assert_eq!(started.unwrap_err().class(), ErrorClass::DeadlineExceeded);
    let pid: u32 = fs::read_to_string(directory.path().join("pid")).unwrap().trim().parse().unwrap();
    crate::world::until("it is killed and reaped", || process::identity_of(pid).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_a_shim_that_cannot_be_started_is_an_error() {
    let world = World::new();
    assert_eq!(ShimLauncher::new("/no/such/shim".into()).unwrap_err().class(), ErrorClass::NotFound);
    let path = script(&world, "");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let launcher = ShimLauncher::new(path).unwrap();
    let directory = world.directory(b"{}");
    let started = launcher.spawn(&directory, &world.namespace, &world.id, PATIENCE).await;
    assert_eq!(started.unwrap_err().class(), ErrorClass::PermissionDenied);
}
