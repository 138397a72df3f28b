//! A shim dies, and another one takes its container over.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use bosun_types::ErrorClass;
use bosun_types::shim::{AdoptedExec, Adoption, Request, Response, ShimPhase, codec, file};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExitCause, KillTarget, ProcessIdentity};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::client::Client;
use crate::exec::{self, id};
use crate::task::{Task, alive, code, log_lines, log_target, process, spawn_to_adopt, until};

/// An adoptable container that runs.
fn run(task: &Task, stdio: &Stdio) -> (Client, ProcessIdentity) {
    // What the dead shim leaves comes to this process, which reaps init like a daemon would.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let mut client = task.connect();
    let mut request = task.create_request(stdio);
    request.adoptable = true;
    let init = process(client.request(Request::Create(request)).unwrap());
    client.request(Request::Start { exec: None }).unwrap();
    (client, init)
}

fn kill_shim(task: &mut Task) {
    task.shim.kill().unwrap();
    task.shim.wait().unwrap();
}

fn adopt(task: &mut Task, stdio: &Stdio, init: ProcessIdentity, execs: Vec<AdoptedExec>) -> Client {
    let request = task.create_request(stdio);
    let adoption =
        Adoption { request: bosun_types::shim::CreateRequest { adoptable: true, ..request }, init, execs };
    fs::write(task.directory.join(file::ADOPTION), codec::encode_frame(&adoption).unwrap()).unwrap();
    task.shim = spawn_to_adopt(&task.directory).expect("it listens");
    task.connect()
}

/// In a thread: the shim waits for it.
fn reap(init: ProcessIdentity) {
    std::thread::spawn(move || {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(init.pid).unwrap());
        nix::sys::wait::waitpid(pid, None)
    });
}

#[test]
fn f4_a_new_shim_takes_over_streams_signals_execs_and_the_true_end() {
    let script = "trap 'echo got it' USR1; trap 'exit 42' USR2; i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.01; done";
    let mut task = Task::new(script);
    let log = log_target(&task, 0, 1);
    let stdio = Stdio { log: Some(log.clone()), ..Stdio::default() };
    let (_, init) = run(&task, &stdio);
    until("it ticks", || log_lines(log.path.as_ref()).len() > 3);
    kill_shim(&mut task);
    let before = log_lines(log.path.as_ref()).len();
    // Without a shim it writes on; a pipe that nobody has open for reading would have killed it.
    let pipe = fs::File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(task.directory.join("pipe-init-stdout"))
        .unwrap();
    until("it goes on alone", || {
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    });
    drop(pipe);
    assert!(alive(init.pid));
    let mut client = adopt(&mut task, &stdio, init, Vec::new());
    reap(init);
    until("its output comes", || log_lines(log.path.as_ref()).len() > before + 3);
    match client.request(Request::State).unwrap() {
        Response::State(state) => assert_eq!(state.init, ShimPhase::Running(init)),
        other => panic!("{other:?}"),
    }
    client.request(Request::Kill { target: KillTarget::Init, signal: 10, call: None }).unwrap();
    until("the signal comes", || log_lines(log.path.as_ref()).iter().any(|line| line.ends_with("got it")));
    // An exec of the new shim's own.
    exec::add(&mut client, "e", "exit 7", Stdio::default());
    client.request(Request::Start { exec: Some(id("e")) }).unwrap();
    let exit = client.exit();
    assert_eq!((exit.exec, code(&exit.status.cause)), (Some(id("e")), 7));
    client.request(Request::Kill { target: KillTarget::Init, signal: 12, call: None }).unwrap();
    let exit = client.exit();
    assert_eq!((exit.exec, code(&exit.status.cause)), (None, 42));
    // Not one tick is missing, and none came twice.
    let lines = log_lines(log.path.as_ref());
    let ticks: Vec<_> =
        lines.iter().filter_map(|line| line.split_once("tick ")?.1.parse::<usize>().ok()).collect();
    assert_eq!(ticks, (1..=ticks.len()).collect::<Vec<_>>());
    task.finish(client);
}

#[test]
fn f4_execs_are_taken_over_with_their_streams_or_told_to_be_unknown() {
    let mut task = Task::new("sleep 1000");
    let log = log_target(&task, 0, 1);
    let exec_stdio = Stdio { log: Some(log.clone()), ..Stdio::default() };
    let (mut client, init) = run(&task, &Stdio::default());
    let mut start = |name: &str, script: &str| {
        let stdio = exec_stdio.clone();
        exec::add(&mut client, name, script, stdio.clone());
        let started = client.request(Request::Start { exec: Some(id(name)) }).unwrap();
        AdoptedExec {
            id: id(name),
            process: Vec::new(),
            stdio,
            identity: Some(crate::task::process(started)),
        }
    };
    let lives = start("lives", "while [ ! -e /go ]; do sleep 0.01; done; echo here; exit 5");
    let gone = AdoptedExec {
        id: id("gone"),
        identity: Some(ProcessIdentity { pid: init.pid, start_ticks: init.start_ticks + 1 }),
        ..lives.clone()
    };
    let registered =
        AdoptedExec { id: id("registered"), process: exec::spec("true"), identity: None, ..lives.clone() };
    let pid = lives.identity.unwrap();
    kill_shim(&mut task);
    let mut client = adopt(&mut task, &Stdio::default(), init, vec![lives, gone, registered]);
    let exit = client.exit();
    assert_eq!(exit.exec, Some(id("gone")));
    assert!(matches!(exit.status.cause, ExitCause::Unknown(_)), "{exit:?}");
    assert!(alive(init.pid), "its pid was given to another, which is left alone");
    fs::write(format!("/proc/{}/root/go", init.pid), "").unwrap();
    reap(pid);
    let exit = client.exit();
    assert_eq!((exit.exec, code(&exit.status.cause)), (Some(id("lives")), 5));
    until("its output comes", || log_lines(log.path.as_ref()) == ["stdout F here"]);
    client.request(Request::Start { exec: Some(id("registered")) }).unwrap();
    assert_eq!(code(&client.exit().status.cause), 0);
    reap(init);
    client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap();
    assert_eq!(client.exit().status.cause, ExitCause::Signal(9));
    task.finish(client);
}

#[test]
fn f4_a_paused_container_is_taken_over_paused() {
    let mut task = Task::new("sleep 1000");
    let (mut client, init) = run(&task, &Stdio::default());
    client.request(Request::Pause).unwrap();
    kill_shim(&mut task);
    let mut client = adopt(&mut task, &Stdio::default(), init, Vec::new());
    match client.request(Request::State).unwrap() {
        Response::State(state) => assert_eq!(state.init, ShimPhase::Paused(init)),
        other => panic!("{other:?}"),
    }
    client.request(Request::Resume).unwrap();
    reap(init);
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    assert_eq!(client.exit().status.cause, ExitCause::Signal(9));
    let refusal =
        client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap_err();
    assert_eq!(refusal.class, ErrorClass::NotFound);
    task.finish(client);
}

#[test]
fn f31_what_is_not_the_same_init_is_not_taken_over() {
    let mut task = Task::new("sleep 1000");
    let (_, init) = run(&task, &Stdio::default());
    kill_shim(&mut task);
    let request = task.create_request(&Stdio::default());
    let other = ProcessIdentity { start_ticks: init.start_ticks + 1, ..init };
    let beacon = fs::read(task.directory.join(file::BEACON)).unwrap();
    let adoption = Adoption { request, init: other, execs: Vec::new() };
    fs::write(task.directory.join(file::ADOPTION), codec::encode_frame(&adoption).unwrap()).unwrap();
    assert!(spawn_to_adopt(&task.directory).is_none(), "it ends");
    assert!(alive(init.pid), "and touches nobody");
    assert_eq!(fs::read(task.directory.join(file::BEACON)).unwrap(), beacon);
}
