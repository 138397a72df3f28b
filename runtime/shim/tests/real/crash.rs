//! Daemons come and go, the shim is killed: what is told, and what is left for recovery.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use bosun_types::shim::{ExitNotice, FromShim, Request, Response, ShimBeacon, ToShim, codec, file};
use bosun_types::stdio::Stdio;
use bosun_types::task::KillTarget;

use crate::client::{receive, send};
use crate::task::{NONCE, Task, alive, code, until};

#[test]
fn i4_an_exit_is_told_to_every_daemon_until_one_acknowledges_it() {
    let task = Task::new("exit 9");
    let (client, init) = task.run(&Stdio::default());
    drop(client);
    until("the record is written", || task.directory.join(file::EXIT_INIT).exists());
    let bytes = std::fs::read(task.directory.join(file::EXIT_INIT)).unwrap();
    let record: ExitNotice = codec::decode_record(&bytes).unwrap();
    assert_eq!((record.exec.clone(), record.process, code(&record.status.cause)), (None, init, 9));
    for _ in 0..2 {
        assert_eq!(task.connect().exit(), record);
    }
    let (mut first, mut second) = (task.connect(), task.connect());
    assert_eq!((first.exit(), second.exit()), (record.clone(), record));
    first.request(Request::AckExit { exec: None }).unwrap();
    let mut third = task.connect();
    assert!(matches!(third.request(Request::State), Ok(Response::State(_))));
    assert!(!third.has_more_exits());
    drop((first, second));
    task.finish(third);
}

#[test]
fn a_request_whose_daemon_left_is_finished_all_the_same() {
    let task = Task::new("sleep 1000");
    let mut client = task.connect();
    client.begin(Request::Create(task.create_request(&Stdio::default())));
    drop(client);
    let mut client = task.connect();
    let init = task.create(&mut client, &Stdio::default());
    assert!(alive(init.pid));
    client.request(Request::Delete).unwrap();
    task.finish(client);
}

#[test]
fn f4_a_killed_shim_leaves_its_beacon_and_the_container() {
    let mut task = Task::new("sleep 1000");
    let (client, init) = task.run(&Stdio::default());
    let shim = client.shim;
    task.shim.kill().unwrap();
    // Nothing of the container holds the shim's connections open.
    client.wait_closed();
    assert!(alive(init.pid));
    let bytes = std::fs::read(task.directory.join(file::BEACON)).unwrap();
    let beacon: ShimBeacon = codec::decode_record(&bytes).unwrap();
    assert_eq!((beacon.nonce.as_str(), beacon.shim, beacon.init), (NONCE, shim, Some(init)));
    assert_eq!(beacon.cgroup_path, Some(format!("{}/c1", task.cgroup_parent)));
    assert_eq!(beacon.runtime.as_deref(), Some("bosun"));
}

#[test]
fn f4_a_shim_killed_with_a_created_container_lets_go_of_its_socket_too() {
    let mut task = Task::new("sleep 1000");
    let mut client = task.connect();
    task.create(&mut client, &Stdio::default());
    task.shim.kill().unwrap();
    client.wait_closed();
}

#[test]
fn shm_7_sigterm_kills_deletes_and_leaves_the_record() {
    let mut task = Task::new("sleep 1000");
    let (client, init) = task.run(&Stdio::default());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(task.shim.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    assert!(task.shim.wait().unwrap().success());
    client.wait_closed();
    assert!(!alive(init.pid));
    assert!(task.cgroups().is_empty());
    assert!(task.directory.join(file::EXIT_INIT).exists());
    assert!(!task.directory.join(file::SOCKET).exists());
}

#[test]
fn a_stranger_without_the_nonce_gets_nothing() {
    let task = Task::new("true");
    let mut stream = UnixStream::connect(task.directory.join(file::SOCKET)).unwrap();
    send(&mut stream, &ToShim::Hello { version: 1, nonce: "wrong".into() });
    assert_eq!(receive(&mut stream), None);
    let mut stream = UnixStream::connect(task.directory.join(file::SOCKET)).unwrap();
    send(&mut stream, &ToShim::Request { id: 1, request: Request::State });
    assert_eq!(receive(&mut stream), None);
    let mut stream = UnixStream::connect(task.directory.join(file::SOCKET)).unwrap();
    stream.write_all(&[0xff; 64]).unwrap();
    assert_eq!(receive(&mut stream), None);
    let client = task.connect();
    task.finish(client);
}

#[test]
fn an_unknown_request_of_a_newer_daemon_is_answered() {
    let task = Task::new("true");
    let mut stream = UnixStream::connect(task.directory.join(file::SOCKET)).unwrap();
    send(&mut stream, &ToShim::Hello { version: 99, nonce: NONCE.into() });
    assert!(matches!(receive(&mut stream), Some(FromShim::Hello { .. })));
    let body = [1_u8, 55, 240];
    stream.write_all(&3_u32.to_le_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let Some(FromShim::Reply { id: 55, result: Err(error) }) = receive(&mut stream) else {
        panic!("no answer")
    };
    assert_eq!(error.class, bosun_types::ErrorClass::NotImplemented);
    let client = task.connect();
    task.finish(client);
}

#[test]
fn i2_a_kill_of_everything_while_creating_is_cleaned_by_delete() {
    let task = Task::new("sleep 1000");
    let mut client = task.connect();
    task.create(&mut client, &Stdio::default());
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    client.exit();
    assert_eq!(client.request(Request::Delete), Ok(Response::Deleted(None)));
    task.finish(client);
}

#[test]
fn cve_2019_5736_the_binary_cannot_be_written_through_the_container() {
    let task = Task::new("sleep 1000");
    let mut client = task.connect();
    let init = task.create(&mut client, &Stdio::default());
    // Held before exec, init still runs the shim's binary: through its link it must not be writable, not even when
    // nothing runs from it (ETXTBSY would hide that), so the mount itself must be read-only.
    let link = format!("/proc/{}/exe", init.pid);
    let binary = nix::sys::statvfs::statvfs(link.as_str()).unwrap();
    assert!(binary.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
    let error = std::fs::OpenOptions::new().append(true).open(&link).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(nix::libc::EROFS | nix::libc::ETXTBSY)), "{error}");
    task.finish(client);
}

#[test]
fn a_runtime_that_hangs_does_not_keep_the_shim_from_its_end() {
    let mut task = Task::new("sleep 1000");
    let script = task.home.path().join("hangs");
    std::fs::write(&script, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    task.runtime = script.to_str().unwrap().to_owned();
    let mut client = task.connect();
    client.begin(Request::Create(task.create_request(&Stdio::default())));
    // Other requests are answered meanwhile.
    assert!(matches!(client.request(Request::State), Ok(Response::State(_))));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(task.shim.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    assert!(task.shim.wait().unwrap().success());
    assert!(task.cgroups().is_empty());
}

#[test]
fn i2_a_second_shim_leaves_the_first_alone() {
    let task = Task::new("sleep 1000");
    let mut client = task.connect();
    let beacon = std::fs::read(task.directory.join(file::BEACON)).unwrap();
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_bosun-shim"))
        .arg(bosun_types::shim::flag::DIRECTORY)
        .arg(&task.directory)
        .args([bosun_types::shim::flag::NONCE, NONCE])
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another shim"));
    assert_eq!(std::fs::read(task.directory.join(file::BEACON)).unwrap(), beacon);
    task.create(&mut client, &Stdio::default());
    // What it started (a created container included) does not hold the lock: a successor of a dead shim gets it.
    let mut task = task;
    task.shim.kill().unwrap();
    task.shim.wait().unwrap();
    client.wait_closed();
    task.shim = crate::task::spawn(&task.directory);
}
