//! External OCI runtimes. One that is not installed, or refuses this host's cgroups, is skipped with a message.

use bosun_types::shim::Request;
use bosun_types::stdio::Stdio;
use bosun_types::task::KillTarget;

use crate::exec;
use crate::task::{Task, code, log_lines, log_target};

fn life_of_a_container(runtime: &str) {
    let installed = std::process::Command::new(runtime).arg("--version").output();
    if !installed.is_ok_and(|it| it.status.success()) {
        eprintln!("skipped: {runtime} is not installed");
        return;
    }
    let mut task = Task::new("echo up; sleep 1000");
    task.runtime = runtime.to_owned();
    let log = log_target(&task, 0, 1);
    let stdio = Stdio { log: Some(log.clone()), ..Stdio::default() };
    let mut client = task.connect();
    if let Err(error) = client.request(Request::Create(task.create_request(&stdio))) {
        assert_eq!(runtime, "crun", "{error}");
        eprintln!("skipped: {error}");
        return task.finish(client);
    }
    client.request(Request::Start { exec: None }).unwrap();
    exec::add(&mut client, "e1", "echo exec; exit 6", stdio);
    client.request(Request::Start { exec: Some(exec::id("e1")) }).unwrap();
    let exit = client.exit();
    assert_eq!((exit.exec, code(&exit.status.cause)), (Some(exec::id("e1")), 6));
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    assert_eq!(client.exit().exec, None);
    let mut lines = log_lines(log.path.as_ref());
    lines.sort();
    assert_eq!(lines, ["stdout F exec", "stdout F up"]);
    task.finish(client);
}

#[test]
fn shm_12_runc() {
    life_of_a_container("runc");
}

#[test]
fn shm_12_crun() {
    life_of_a_container("crun");
}

#[test]
fn tsk_33_the_text_of_a_runtime_reaches_the_daemon() {
    let mut task = Task::with("", |spec| spec["process"]["args"] = serde_json::json!(["/bin/none"]));
    task.runtime = "runc".into();
    let mut client = task.connect();
    let error = client.request(Request::Create(task.create_request(&Stdio::default()))).unwrap_err();
    assert!(error.message.contains("create container") && error.message.contains("/bin/none"), "{error}");
    task.finish(client);
}

#[test]
fn an_unknown_runtime_is_named() {
    let mut task = Task::new("true");
    task.runtime = "no-such-runtime".into();
    let mut client = task.connect();
    let error = client.request(Request::Create(task.create_request(&Stdio::default()))).unwrap_err();
    assert!(error.message.contains("no-such-runtime"), "{error}");
    task.finish(client);
}
