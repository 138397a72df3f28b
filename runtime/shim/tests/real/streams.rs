//! Standard streams through FIFOs, log, files and terminals.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use bosun_types::shim::{Request, Response};
use bosun_types::stdio::Stdio;
use bosun_types::task::KillTarget;

use crate::exec;
use crate::task::{Task, code, log_lines, log_target, mkfifo, until};

/// As a client opens it: without waiting for the other side.
fn open_fifo(path: &str) -> File {
    File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).unwrap()
}

/// Reads until the shim closes, or until `enough` says so.
fn read_until(file: &mut File, mut enough: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    until("the bytes arrive", || {
        let mut buffer = [0; 4096];
        match file.read(&mut buffer) {
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        enough(&bytes)
    });
    bytes
}

#[test]
fn io_2_output_goes_to_the_fifos_and_the_log_and_stdin_comes_in() {
    let task = Task::new("cat; echo problem >&2");
    let [stdin, stdout, stderr] = ["in", "out", "err"].map(|name| mkfifo(&task.home.path().join(name)));
    let (mut out, mut err) = (open_fifo(&stdout), open_fifo(&stderr));
    let log = log_target(&task, 0, 1);
    let stdio = Stdio {
        stdin: Some(stdin.clone()),
        stdout: Some(stdout),
        stderr: Some(stderr),
        log: Some(log.clone()),
        terminal: false,
    };
    let (mut client, _) = task.run(&stdio);
    let mut input = File::options().write(true).open(&stdin).unwrap();
    input.write_all(b"one\n").unwrap();
    assert_eq!(read_until(&mut out, |bytes| bytes.len() >= 4), b"one\n");
    // A client that goes away is no end of file, until CloseStdin says so (TSK-27).
    drop(input);
    let mut input = File::options().write(true).open(&stdin).unwrap();
    input.write_all(b"two\n").unwrap();
    assert_eq!(read_until(&mut out, |bytes| bytes.len() >= 4), b"two\n");
    assert_eq!(client.request(Request::CloseStdin { exec: None }), Ok(Response::Done));
    drop(input);
    assert_eq!(code(&client.exit().status.cause), 0);
    assert_eq!(read_until(&mut err, |bytes| bytes.len() >= 8), b"problem\n");
    assert_eq!(log_lines(log.path.as_ref()), ["stdout F one", "stdout F two", "stderr F problem"]);
    task.finish(client);
}

#[test]
fn io_3_a_missing_reader_neither_stops_nor_kills_the_container() {
    let task = Task::new("seq 1 200000; exit 5");
    let stdout = mkfifo(&task.home.path().join("out"));
    let log = log_target(&task, 0, 1);
    let stdio = Stdio { stdout: Some(stdout), log: Some(log.clone()), ..Stdio::default() };
    let (mut client, _) = task.run(&stdio);
    assert_eq!(code(&client.exit().status.cause), 5);
    assert_eq!(log_lines(log.path.as_ref()).last().map(String::as_str), Some("stdout F 200000"));
    task.finish(client);
}

#[test]
fn io_3_a_slow_reader_gets_everything_in_order() {
    let task = Task::new("seq 1 50000");
    let stdout = mkfifo(&task.home.path().join("out"));
    let mut out = open_fifo(&stdout);
    let (mut client, _) = task.run(&Stdio { stdout: Some(stdout), ..Stdio::default() });
    let bytes = read_until(&mut out, |bytes| bytes.ends_with(b"\n50000\n"));
    let expected: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(bytes.len(), expected.len());
    assert!(bytes == expected.as_bytes());
    client.exit();
    task.finish(client);
}

#[test]
fn io_13_the_log_rotates_and_loses_nothing_that_is_kept() {
    let task = Task::new("seq 1 20000");
    let log = log_target(&task, 256 << 10, 10);
    let (mut client, _) = task.run(&Stdio { log: Some(log.clone()), ..Stdio::default() });
    client.exit();
    let mut lines = Vec::new();
    for number in (1..10).rev() {
        lines.extend(log_lines(format!("{}.{number}", log.path).as_ref()));
    }
    assert!(!lines.is_empty(), "never rotated");
    lines.extend(log_lines(log.path.as_ref()));
    let expected: Vec<String> = (1..=20_000).map(|number| format!("stdout F {number}")).collect();
    assert!(without_parts(lines) == expected);
    for entry in std::fs::read_dir(task.home.path().join("logs")).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() < 300 << 10);
    }
    task.finish(client);
}

/// Joins records that are parts of one line.
fn without_parts(records: Vec<String>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for record in records {
        match record.strip_prefix("stdout P ") {
            Some(part) => open.push_str(part),
            None => {
                lines.push(format!("stdout F {}{}", std::mem::take(&mut open), &record["stdout F ".len()..]))
            }
        }
    }
    lines
}

#[test]
fn io_4_output_goes_to_a_file_that_exists() {
    let task = Task::new("echo out; echo err >&2");
    let path = task.home.path().join("both");
    std::fs::write(&path, "before\n").unwrap();
    let path = path.to_str().unwrap().to_owned();
    let stdio = Stdio { stdout: Some(path.clone()), stderr: Some(path.clone()), ..Stdio::default() };
    let (mut client, _) = task.run(&stdio);
    client.exit();
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text == "before\nout\nerr\n" || text == "before\nerr\nout\n", "{text}");
    task.finish(client);
}

#[test]
fn io_4_a_missing_file_is_refused_and_nothing_is_left() {
    let task = Task::new("true");
    let mut client = task.connect();
    let stdio = Stdio { stdout: Some("/nowhere/out".into()), ..Stdio::default() };
    let error = client.request(Request::Create(task.create_request(&stdio))).unwrap_err();
    assert_eq!(error.class, bosun_types::ErrorClass::NotFound);
    task.finish(client);
}

#[test]
fn io_6_a_terminal_is_made_resized_and_read() {
    let task = Task::new("stty size; cat; stty size");
    let [stdin, stdout] = ["in", "out"].map(|name| mkfifo(&task.home.path().join(name)));
    let mut out = open_fifo(&stdout);
    let stdio =
        Stdio { stdin: Some(stdin.clone()), stdout: Some(stdout), terminal: true, ..Stdio::default() };
    let mut client = task.connect();
    task.create(&mut client, &stdio);
    client.request(Request::Resize { exec: None, width: 120, height: 40 }).unwrap();
    client.request(Request::Start { exec: None }).unwrap();
    assert_eq!(read_until(&mut out, |bytes| bytes.ends_with(b"\n")), b"40 120\r\n");
    client.request(Request::Resize { exec: None, width: 80, height: 25 }).unwrap();
    let mut input = File::options().write(true).open(&stdin).unwrap();
    input.write_all(b"hi\n\x04").unwrap();
    assert_eq!(read_until(&mut out, |bytes| bytes.ends_with(b"25 80\r\n")), b"hi\r\nhi\r\n25 80\r\n");
    assert_eq!(code(&client.exit().status.cause), 0);
    task.finish(client);
}

#[test]
fn io_6_an_exec_gets_a_terminal_of_its_own() {
    let task = Task::new("sleep 1000");
    let (mut client, _) = task.run(&Stdio::default());
    let stdout = mkfifo(&task.home.path().join("out"));
    let mut out = open_fifo(&stdout);
    exec::add(
        &mut client,
        "t",
        "[ -t 0 ] && [ -t 2 ] && echo terminal",
        Stdio { stdout: Some(stdout), terminal: true, ..Stdio::default() },
    );
    client.request(Request::Start { exec: Some(exec::id("t")) }).unwrap();
    assert_eq!(read_until(&mut out, |bytes| bytes.ends_with(b"\n")), b"terminal\r\n");
    assert_eq!(code(&client.exit().status.cause), 0);
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    client.exit();
    task.finish(client);
}

#[test]
fn an_exec_whose_children_hold_its_output_still_ends() {
    let task = Task::new("sleep 1000");
    let (mut client, _) = task.run(&Stdio::default());
    let log = log_target(&task, 0, 1);
    let stdio = Stdio { log: Some(log.clone()), ..Stdio::default() };
    exec::add(&mut client, "e", "echo first; sleep 1000 & exit 4", stdio);
    client.request(Request::Start { exec: Some(exec::id("e")) }).unwrap();
    assert_eq!(code(&client.exit().status.cause), 4);
    assert_eq!(log_lines(log.path.as_ref()), ["stdout F first"]);
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    client.exit();
    task.finish(client);
}

#[test]
fn io_11_an_ordinary_user_may_reopen_its_own_output() {
    let task = Task::with("echo again > /proc/self/fd/1", |spec| {
        spec["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000});
    });
    let log = log_target(&task, 0, 1);
    let (mut client, _) = task.run(&Stdio { log: Some(log.clone()), ..Stdio::default() });
    assert_eq!(code(&client.exit().status.cause), 0);
    assert_eq!(log_lines(log.path.as_ref()), ["stdout F again"]);
    task.finish(client);
}

#[test]
fn a_reader_that_stands_still_does_not_hide_the_exit() {
    let task = Task::new("busybox head -c 100000 /dev/zero; exit 8");
    let stdout = mkfifo(&task.home.path().join("out"));
    let mut out = open_fifo(&stdout);
    let (mut client, _) = task.run(&Stdio { stdout: Some(stdout), ..Stdio::default() });
    assert_eq!(code(&client.exit().status.cause), 8);
    // And what it did not read is still there for it.
    assert_eq!(read_until(&mut out, |bytes| bytes.len() >= 100_000).len(), 100_000);
    task.finish(client);
}
