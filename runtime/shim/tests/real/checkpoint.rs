//! Dump and restore with a real CRIU.

use std::path::{Path, PathBuf};
use std::process::Command;

use bosun_types::ErrorClass;
use bosun_types::checkpoint::DumpOptions;
use bosun_types::shim::{DumpRequest, Request, Response, RestoreRequest, ShimPhase, file};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExitCause, KillTarget, ProcessIdentity};
use bosun_types::{Error, ExecId};

use crate::client::Client;
use crate::task::{Task, alive, log_lines, log_target, process, until};

const COUNTER: &str = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done";

/// CRIU, or why there is none here.
pub fn criu() -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/criu/fetch.sh");
    let cache = Path::new(env!("CARGO_BIN_EXE_bosun-shim")).ancestors().nth(2).unwrap().join("criu");
    let output = Command::new(script).arg(cache).output().unwrap();
    if !output.status.success() {
        eprintln!("SKIPPED, CRIU cannot be had: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn logged(task: &Task) -> Stdio {
    Stdio { log: Some(log_target(task, 1 << 20, 2)), ..Stdio::default() }
}

fn counted(task: &Task) -> Vec<u32> {
    let lines = log_lines(&task.home.path().join("logs/c.log"));
    lines.iter().filter_map(|line| line.split(' ').next_back()?.parse().ok()).collect()
}

fn dump(task: &Task, criu: &str) -> DumpRequest {
    let directory = task.home.path().join("dump").to_str().unwrap().to_owned();
    DumpRequest { criu: criu.to_owned(), directory, options: DumpOptions::default() }
}

fn restore(task: &Task, criu: &str, images: &Path, client: &mut Client) -> ProcessIdentity {
    restore_with(task, &logged(task), criu, images, client)
}

fn restore_with(
    task: &Task,
    stdio: &Stdio,
    criu: &str,
    images: &Path,
    client: &mut Client,
) -> ProcessIdentity {
    let request = Request::CreateFromDump {
        request: Box::new(task.create_request(stdio)),
        from: RestoreRequest { criu: criu.to_owned(), directory: images.to_str().unwrap().to_owned() },
    };
    process(client.request(request).unwrap())
}

fn kill(client: &mut Client) {
    client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap();
    assert_eq!(client.exit().status.cause, ExitCause::Signal(9));
    client.request(Request::AckExit { exec: None }).unwrap();
}

fn phase(client: &mut Client) -> ShimPhase {
    let Ok(Response::State(state)) = client.request(Request::State) else { panic!("no state") };
    state.init
}

fn last(task: &Task) -> u32 {
    counted(task).last().copied().unwrap_or(0)
}

/// A counter that was dumped while frozen, and lives on.
fn dumped(criu: &str) -> (Task, Client, PathBuf, u32) {
    let task = Task::new(COUNTER);
    let (mut client, _) = task.run(&logged(&task));
    until("it counts", || last(&task) >= 3);
    assert_eq!(
        client.request(Request::Dump(dump(&task, criu))).unwrap_err().class,
        ErrorClass::FailedPrecondition
    );
    client.request(Request::Pause).unwrap();
    let at = last(&task);
    assert_eq!(client.request(Request::Dump(dump(&task, criu))), Ok(Response::Done));
    assert!(matches!(phase(&mut client), ShimPhase::Paused(_)));
    let images = task.home.path().join("dump/images");
    assert!(images.join("inventory.img").exists() && !task.directory.join(file::DUMP_LOG).exists());
    (task, client, images, at)
}

#[test]
fn ckp_10_a_counter_goes_on_where_it_was_and_is_held_like_any_other() {
    let Some(criu) = criu() else { return };
    let (first, mut one, images, at) = dumped(&criu);
    one.request(Request::Resume).unwrap();
    until("the first counts on", || last(&first) > at + 3);
    let second = Task::new("echo never");
    let mut two = second.connect();
    let held = restore(&second, &criu, &images, &mut two);
    assert_eq!(phase(&mut two), ShimPhase::Created(held));
    let process_json =
        br#"{"args":["/bin/true"],"cwd":"/","env":["PATH=/bin"],"user":{"uid":0,"gid":0}}"#.to_vec();
    let add = |id: &str| Request::AddExec {
        id: ExecId::new(id).unwrap(),
        process: process_json.clone(),
        stdio: Stdio::default(),
    };
    assert_eq!(two.request(add("early")).unwrap_err().class, ErrorClass::FailedPrecondition);
    let init = process(two.request(Request::Start { exec: None }).unwrap());
    assert_ne!(init, held);
    assert_eq!(process(two.request(Request::Start { exec: None }).unwrap()), init);
    until("the held init is gone", || !alive(held.pid));
    until("it counts on", || last(&second) > at + 5);
    let counted = counted(&second);
    assert!(counted[0] >= at && counted[0] <= at + 1, "{counted:?} after {at}");
    assert!(counted.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counted:?}");
    two.request(add("e1")).unwrap();
    let exec = Some(ExecId::new("e1").unwrap());
    two.request(Request::Start { exec: exec.clone() }).unwrap();
    assert_eq!(two.exit().status.cause, ExitCause::Code(0));
    two.request(Request::AckExit { exec }).unwrap();
    kill(&mut two);
    second.finish(two);
    kill(&mut one);
    first.finish(one);
}

#[test]
fn a_terminal_of_the_container_s_own_is_restored_and_resized() {
    let Some(criu) = criu() else { return };
    let script = format!("stty -echo; ({COUNTER}) & while read word; do stty size; done");
    let stdio = |task: &Task| Stdio {
        terminal: true,
        stdin: Some(bosun_types::stdio::STDIN_ATTACH.to_owned()),
        ..logged(task)
    };
    let first = Task::new(&script);
    let (mut one, _) = first.run(&stdio(&first));
    until("it counts", || last(&first) >= 3);
    one.request(Request::Pause).unwrap();
    let at = last(&first);
    one.request(Request::Dump(dump(&first, &criu))).unwrap();
    kill(&mut one);
    let second = Task::new("echo never");
    let mut two = second.connect();
    let images = first.home.path().join("dump/images");
    restore_with(&second, &stdio(&second), &criu, &images, &mut two);
    two.request(Request::Start { exec: None }).unwrap();
    until("it counts on", || last(&second) > at + 3);
    two.request(Request::Resize { exec: None, width: 99, height: 33 }).unwrap();
    two.request(Request::WriteStdin { exec: None, bytes: b"go\n".to_vec() }).unwrap();
    let log = second.home.path().join("logs/c.log");
    until("it sees the size", || log_lines(&log).iter().any(|line| line.contains("33 99")));
    kill(&mut two);
    second.finish(two);
    first.finish(one);
}

#[test]
fn what_is_bound_from_outside_is_bound_from_where_the_new_container_says() {
    let Some(criu) = criu() else { return };
    let bound = |name: &str, source: &Path| {
        std::fs::create_dir(source).unwrap();
        std::fs::write(source.join("word"), name).unwrap();
        serde_json::json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", "rw"]})
    };
    let home = tempfile::tempdir().unwrap();
    let script = "while true; do cat /data/word; echo; sleep 0.05; done";
    let task = |name: &str| {
        let mount = bound(name, &home.path().join(name));
        Task::with(script, |spec| spec["mounts"].as_array_mut().unwrap().push(mount))
    };
    let said = |task: &Task, word: &str| {
        let log = log_lines(&task.home.path().join("logs/c.log"));
        log.iter().any(|line| line.contains(word))
    };
    let first = task("old");
    let (mut one, _) = first.run(&logged(&first));
    until("it reads", || said(&first, "old"));
    one.request(Request::Pause).unwrap();
    one.request(Request::Dump(dump(&first, &criu))).unwrap();
    kill(&mut one);
    let images = first.home.path().join("dump/images");
    let second = task("new");
    let mut two = second.connect();
    restore(&second, &criu, &images, &mut two);
    two.request(Request::Start { exec: None }).unwrap();
    until("it reads the other", || said(&second, "new"));
    kill(&mut two);
    let third = Task::new(script);
    let mut three = third.connect();
    restore(&third, &criu, &images, &mut three);
    let error = three.request(Request::Start { exec: None }).unwrap_err();
    assert_eq!(error.class, ErrorClass::FailedPrecondition);
    assert!(error.message.contains("/data"), "{error:?}");
    three.request(Request::Delete).unwrap();
    third.finish(three);
    second.finish(two);
    first.finish(one);
}

#[test]
fn ckp_7_a_dump_that_fails_says_why_keeps_its_log_and_leaves_the_container_as_it_was() {
    let Some(criu) = criu() else { return };
    let task = Task::new(COUNTER);
    let (mut client, _) = task.run(&logged(&task));
    until("it counts", || last(&task) >= 2);
    client.request(Request::Pause).unwrap();
    let missing = DumpRequest { criu: "/nowhere/criu".into(), ..dump(&task, &criu) };
    let error: Error = client.request(Request::Dump(missing)).unwrap_err();
    assert!(error.hint.unwrap().contains("criu_path"));
    let poor = DumpRequest { criu: poor_criu(&task, &criu), ..dump(&task, &criu) };
    let error = client.request(Request::Dump(poor)).unwrap_err();
    assert!(error.message.starts_with("criu: ") && !error.message.contains('\n'), "{error:?}");
    let log = task.directory.join(file::DUMP_LOG);
    assert!(error.hint.unwrap().contains(log.to_str().unwrap()));
    assert!(std::fs::read_to_string(log).unwrap().contains("Dumping FAILED"));
    client.request(Request::Resume).unwrap();
    let at = last(&task);
    until("it counts on", || last(&task) > at + 2);
    kill(&mut client);
    task.finish(client);
}

/// A CRIU whose files may not be as large as a process.
fn poor_criu(task: &Task, criu: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = task.home.path().join("criu");
    std::fs::write(&path, format!("#!/bin/bash\ntrap '' XFSZ\nulimit -f 16\nexec {criu} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_restore_that_fails_leaves_the_container_created_and_can_be_repeated() {
    let Some(criu) = criu() else { return };
    let (first, mut one, images, _) = dumped(&criu);
    kill(&mut one);
    let task = Task::new("echo never");
    let mut client = task.connect();
    let away = task.home.path().join("inventory");
    let held = restore(&task, &criu, &images, &mut client);
    std::fs::rename(images.join("inventory.img"), &away).unwrap();
    let error = client.request(Request::Start { exec: None }).unwrap_err();
    assert!(error.message.starts_with("criu: "), "{error:?}");
    assert!(task.directory.join(file::RESTORE_LOG).exists());
    assert_eq!(phase(&mut client), ShimPhase::Created(held));
    std::fs::rename(&away, images.join("inventory.img")).unwrap();
    client.request(Request::Start { exec: None }).unwrap();
    until("it counts on", || last(&task) > 3);
    kill(&mut client);
    task.finish(client);
    first.finish(one);
}

#[test]
fn a_created_from_dump_container_can_be_killed_and_deleted_without_ever_running() {
    let Some(criu) = criu() else { return };
    let task = Task::new("echo never");
    let mut client = task.connect();
    let held = restore(&task, &criu, task.home.path(), &mut client);
    let error = client.request(Request::Start { exec: None }).unwrap_err();
    assert_eq!(error.class, ErrorClass::InvalidArgument, "{error:?}");
    assert_eq!(client.request(Request::Delete), Ok(Response::Deleted(None)));
    assert!(!alive(held.pid));
    task.finish(client);
}
