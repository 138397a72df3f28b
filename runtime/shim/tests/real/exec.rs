//! Execs: register, start, end, delete.

use bosun_types::shim::{Request, Response, ShimPhase};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExitCause, KillTarget};
use bosun_types::{ErrorClass, ExecId};
use serde_json::json;

use crate::client::Client;
use crate::task::{Task, code, log_lines, log_target, process};

pub fn spec(script: &str) -> Vec<u8> {
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": true
    })
    .to_string()
    .into_bytes()
}

pub fn id(text: &str) -> ExecId {
    ExecId::new(text).unwrap()
}

pub fn add(client: &mut Client, name: &str, script: &str, stdio: Stdio) {
    let request = Request::AddExec { id: id(name), process: spec(script), stdio };
    assert_eq!(client.request(request), Ok(Response::Done));
}

fn start(client: &mut Client, name: &str) -> bosun_types::task::ProcessIdentity {
    process(client.request(Request::Start { exec: Some(id(name)) }).unwrap())
}

#[test]
fn tsk_22_an_exec_runs_in_the_container_and_its_exit_is_told() {
    let task = Task::new("sleep 1000");
    let (mut client, init) = task.run(&Stdio::default());
    let log = log_target(&task, 0, 1);
    let stdio = Stdio { log: Some(log.clone()), ..Stdio::default() };
    add(&mut client, "e1", "readlink /proc/1/ns/pid; readlink /proc/self/ns/pid; exit 7", stdio.clone());
    let again = Request::AddExec { id: id("e1"), process: spec("other"), stdio };
    assert_eq!(client.request(again).unwrap_err().class, ErrorClass::AlreadyExists);
    let first = start(&mut client, "e1");
    assert_eq!(start(&mut client, "e1"), first);
    let exit = client.exit();
    assert_eq!((exit.exec, exit.process, code(&exit.status.cause)), (Some(id("e1")), first, 7));
    let lines = log_lines(log.path.as_ref());
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], lines[1], "not in the container's pid namespace");
    assert!(task.directory.join("exit-e1.rec").exists());
    client.request(Request::AckExit { exec: Some(id("e1")) }).unwrap();
    assert!(!task.directory.join("exit-e1.rec").exists());
    for _ in 0..2 {
        assert_eq!(client.request(Request::DeleteExec { id: id("e1") }), Ok(Response::Done));
    }
    client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap();
    assert_eq!(client.exit().process, init);
    task.finish(client);
}

#[test]
fn tsk_32_an_exec_that_cannot_start_stays_registered_and_says_why() {
    let task = Task::new("sleep 1000");
    let (mut client, _) = task.run(&Stdio::default());
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["/none"], "env": ["PATH=/bin"], "cwd": "/"});
    let request =
        Request::AddExec { id: id("e1"), process: process.to_string().into_bytes(), stdio: Stdio::default() };
    client.request(request).unwrap();
    let error = client.request(Request::Start { exec: Some(id("e1")) }).unwrap_err();
    assert!(error.message.contains("/none"), "{error}");
    let Ok(Response::State(state)) = client.request(Request::State) else { panic!("no state") };
    assert_eq!(state.execs, [(id("e1"), ShimPhase::Registered)]);
    client.request(Request::DeleteExec { id: id("e1") }).unwrap();
    client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap();
    assert_eq!(client.exit().exec, None);
    assert!(!client.has_more_exits());
    task.finish(client);
}

#[test]
fn i4_execs_end_before_init_and_each_exactly_once() {
    let task = Task::new("sleep 1000");
    let (mut client, _) = task.run(&Stdio::default());
    for name in ["a", "b", "c"] {
        add(&mut client, name, "sleep 1000", Stdio::default());
    }
    // All at once: none waits for another.
    let ids = ["a", "b", "c"].map(|name| client.begin(Request::Start { exec: Some(id(name)) }));
    let mut answered = ids.map(|_| false);
    for _ in &ids {
        let (at, result) = client.any_answer(&ids);
        result.unwrap();
        answered[at] = true;
    }
    assert_eq!(answered, [true; 3]);
    let busy = client.request(Request::DeleteExec { id: id("a") }).unwrap_err();
    assert_eq!(busy.class, ErrorClass::FailedPrecondition);
    client.request(Request::Kill { target: KillTarget::Exec(id("a")), signal: 15, call: None }).unwrap();
    let exit = client.exit();
    assert_eq!((exit.exec, exit.status.cause), (Some(id("a")), ExitCause::Signal(15)));
    client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap();
    let mut order: Vec<_> = (0..3).map(|_| client.exit().exec).collect();
    assert_eq!(order.pop(), Some(None), "init is last");
    order.sort();
    assert_eq!(order, [Some(id("b")), Some(id("c"))]);
    assert!(!client.has_more_exits());
    task.finish(client);
}

#[test]
fn a_short_exec_is_never_lost_between_its_start_and_its_end() {
    let task = Task::new("sleep 1000");
    let (mut client, _) = task.run(&Stdio::default());
    for number in 0..20_u8 {
        let name = format!("e{number}");
        add(&mut client, &name, &format!("exit {number}"), Stdio::default());
        let process = start(&mut client, &name);
        let exit = client.exit();
        assert_eq!((exit.process, code(&exit.status.cause)), (process, number));
        client.request(Request::DeleteExec { id: id(&name) }).unwrap();
    }
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    client.exit();
    task.finish(client);
}

#[test]
fn cve_2022_29162_an_exec_has_no_inheritable_capabilities() {
    let task = Task::new("sleep 1000");
    let (mut client, _) = task.run(&Stdio::default());
    let log = log_target(&task, 0, 1);
    let stdio = Stdio { log: Some(log.clone()), ..Stdio::default() };
    add(&mut client, "e1", "grep -E 'CapInh|CapAmb' /proc/self/status", stdio);
    start(&mut client, "e1");
    client.exit();
    for line in log_lines(log.path.as_ref()) {
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    client.exit();
    task.finish(client);
}

#[test]
fn cve_2024_21626_a_working_directory_cannot_be_a_leaked_descriptor() {
    let task = Task::new("sleep 1000");
    let (mut client, _) = task.run(&Stdio::default());
    for number in 3..24 {
        let process = json!({
            "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "env": ["PATH=/bin"],
            "cwd": format!("/proc/self/fd/{number}")
        });
        let name = format!("e{number}");
        let process = process.to_string().into_bytes();
        client.request(Request::AddExec { id: id(&name), process, stdio: Stdio::default() }).unwrap();
        assert!(client.request(Request::Start { exec: Some(id(&name)) }).is_err(), "descriptor {number}");
    }
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    client.exit();
    task.finish(client);
}

/// A filter that lets everything through but the making of directories.
fn no_mkdir(spec: &mut serde_json::Value, no_new_privileges: bool) {
    spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
    // Without no_new_privs a filter needs CAP_SYS_ADMIN to be loaded, which init has until it drops it.
    spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    });
}

#[test]
fn an_exec_is_under_the_seccomp_filter_of_its_container() {
    for (filtered, no_new_privileges) in [(false, true), (true, true), (true, false)] {
        let task = Task::with("sleep 1000", |spec| {
            if filtered {
                no_mkdir(spec, no_new_privileges);
            }
        });
        let (mut client, _) = task.run(&Stdio::default());
        let process = json!({
            "user": {"uid": 0, "gid": 0}, "args": ["/bin/busybox", "mkdir", "/tmp/made"], "env": ["PATH=/bin"],
            "cwd": "/", "noNewPrivileges": no_new_privileges,
            "capabilities": {"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []}
        });
        let process = process.to_string().into_bytes();
        client.request(Request::AddExec { id: id("e"), process, stdio: Stdio::default() }).unwrap();
        client.request(Request::Start { exec: Some(id("e")) }).unwrap();
        let refused = u8::from(filtered);
        assert_eq!(code(&client.exit().status.cause), refused, "{filtered} {no_new_privileges}");
        client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
        client.exit();
        task.finish(client);
    }
}

/// What it wrote, without the log's own words.
fn said(log: &std::path::Path) -> Vec<String> {
    log_lines(log).iter().map(|line| line.trim_start_matches("stdout F ").to_owned()).collect()
}

#[test]
fn tsk_22_an_exec_is_all_that_its_process_says() {
    let task = Task::new("sleep 1000");
    let (mut client, _) = task.run(&Stdio::default());
    let log = log_target(&task, 0, 1);
    let script = "umask; cat /proc/self/oom_score_adj; cut -d ' ' -f 19 /proc/self/stat; grep Cpus_allowed_list /proc/self/status; \
                  ulimit -n; id -u; id -G; pwd; echo $HOME; ls /proc/self/fd | wc -l";
    let mut process: serde_json::Value = serde_json::from_slice(&spec(script)).unwrap();
    process["user"] = json!({"uid": 33, "gid": 34, "additionalGids": [34, 7], "umask": 0o27});
    process["cwd"] = json!("/tmp");
    process["oomScoreAdj"] = json!(321);
    process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    process["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]);
    let stdio = Stdio { log: Some(log.clone()), ..Stdio::default() };
    let request = Request::AddExec { id: id("e1"), process: serde_json::to_vec(&process).unwrap(), stdio };
    assert_eq!(client.request(request), Ok(Response::Done));
    start(&mut client, "e1");
    assert_eq!(code(&client.exit().status.cause), 0);
    let lines: Vec<String> = said(log.path.as_ref());
    // `ls` has the directory open beside its three streams.
    let wanted = ["0027", "321", "5", "Cpus_allowed_list:\t0", "77", "33", "34 7", "/tmp", "/", "4"];
    assert_eq!(lines, wanted, "{lines:?}");
}

/// CVE-2019-14271's way: a name service of the container would be loaded into a process that is not confined yet.
#[test]
fn a_home_is_read_from_passwd_and_nothing_of_the_container_is_asked() {
    let task = Task::new("echo $HOME; sleep 1000");
    let etc = task.home.path().join("image/etc");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::write(etc.join("passwd"), "root:x:0:0::/home/of-root:/bin/sh\n").unwrap();
    std::fs::write(etc.join("nsswitch.conf"), "passwd: evil\n").unwrap();
    let log = log_target(&task, 0, 1);
    let stdio = Stdio { log: Some(log.clone()), ..Stdio::default() };
    let (mut client, _) = task.run(&stdio);
    add(&mut client, "e1", "echo $HOME", stdio);
    start(&mut client, "e1");
    client.exit();
    assert_eq!(said(log.path.as_ref()), ["/home/of-root", "/home/of-root"]);
}

#[test]
fn an_exec_of_what_is_not_there_says_so_and_leaves_no_process() {
    let task = Task::new("sleep 1000");
    let (mut client, _) = task.run(&Stdio::default());
    for (name, word, wanted) in [
        ("e1", "no-such-program", "executable 'no-such-program' not found in $PATH"),
        ("e2", "/bin", "execute /bin: EACCES"),
    ] {
        let mut process: serde_json::Value = serde_json::from_slice(&spec("")).unwrap();
        process["args"] = json!([word]);
        let process = serde_json::to_vec(&process).unwrap();
        let request = Request::AddExec { id: id(name), process, stdio: Stdio::default() };
        assert_eq!(client.request(request), Ok(Response::Done));
        let error = client.request(Request::Start { exec: Some(id(name)) }).unwrap_err();
        assert!(error.message.contains(wanted), "{error:?}");
        assert_eq!(client.request(Request::DeleteExec { id: id(name) }), Ok(Response::Done));
    }
    let Response::Pids(pids) = client.request(Request::Pids).unwrap() else { panic!("no pids") };
    assert_eq!(pids.len(), 1, "{pids:?}");
}
