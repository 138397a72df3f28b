//! Create, start, end, delete; repeats; kills.

use bosun_types::ErrorClass;
use bosun_types::shim::{Request, Response, ShimPhase, file};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExitCause, KillTarget};

use crate::task::{Task, alive, code, process, until};

#[test]
fn tsk_14_the_exit_code_arrives_and_nothing_is_left() {
    let task = Task::new("exit 42");
    let (mut client, init) = task.run(&Stdio::default());
    let exit = client.exit();
    assert_eq!((exit.exec, exit.process, code(&exit.status.cause)), (None, init, 42));
    assert!(task.directory.join(file::EXIT_INIT).exists());
    assert_eq!(client.request(Request::AckExit { exec: None }), Ok(Response::Done));
    assert!(!task.directory.join(file::EXIT_INIT).exists());
    task.finish(client);
}

#[test]
fn tsk_14_a_signal_is_told_as_a_signal() {
    let task = Task::new("kill -TERM $$; sleep 100");
    // As pid 1 of its own namespace a shell would not die of a signal it sends to itself.
    let (mut client, _) = task.run(&Stdio::default());
    client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap();
    assert_eq!(client.exit().status.cause, ExitCause::Signal(9));
    let late = client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap_err();
    assert_eq!(late.class, ErrorClass::NotFound);
    task.finish(client);
}

#[test]
fn i10_every_request_may_be_repeated() {
    let task = Task::new("sleep 1000");
    let mut client = task.connect();
    let request = task.create_request(&Stdio::default());
    let ids = [
        client.begin(Request::Create(request.clone())),
        client.begin(Request::Create(request.clone())),
        client.begin(Request::State),
    ];
    // State is answered while the container is being made.
    assert!(matches!(client.answer(ids[2]), Ok(Response::State(_))));
    let init = process(client.answer(ids[0]).unwrap());
    assert_eq!(process(client.answer(ids[1]).unwrap()), init);
    assert_eq!(process(client.request(Request::Create(request.clone())).unwrap()), init);
    let mut other = request.clone();
    other.no_pivot_root = true;
    assert_eq!(client.request(Request::Create(other)).unwrap_err().class, ErrorClass::AlreadyExists);
    for _ in 0..2 {
        assert_eq!(process(client.request(Request::Start { exec: None }).unwrap()), init);
    }
    let busy = client.request(Request::Delete).unwrap_err();
    assert_eq!(busy.class, ErrorClass::FailedPrecondition);
    assert_eq!(client.request(Request::Shutdown).unwrap_err().class, ErrorClass::FailedPrecondition);
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    let exit = client.exit();
    assert_eq!(process(client.request(Request::Start { exec: None }).unwrap()), init);
    for _ in 0..2 {
        assert_eq!(client.request(Request::Delete), Ok(Response::Deleted(Some(exit.status.clone()))));
    }
    for _ in 0..2 {
        assert_eq!(client.request(Request::AckExit { exec: None }), Ok(Response::Done));
    }
    assert!(!client.has_more_exits());
    task.finish(client);
}

#[test]
fn a_created_container_is_held_and_can_be_deleted_without_ever_running() {
    let task = Task::new("echo ran > /tmp/ran");
    let mut client = task.connect();
    let init = task.create(&mut client, &Stdio::default());
    assert!(alive(init.pid));
    let Ok(Response::State(state)) = client.request(Request::State) else { panic!("no state") };
    assert_eq!(state.init, ShimPhase::Created(init));
    assert_eq!(client.request(Request::Delete), Ok(Response::Deleted(None)));
    assert!(!alive(init.pid));
    assert!(!task.home.path().join("upper/tmp/ran").exists());
    task.finish(client);
}

#[test]
fn a_create_that_fails_says_why_leaves_nothing_and_may_be_repeated() {
    let task = Task::with("", |spec| spec["process"]["args"] = serde_json::json!(["/bin/none"]));
    let mut client = task.connect();
    for _ in 0..2 {
        let request = task.create_request(&Stdio::default());
        let error = client.request(Request::Create(request)).unwrap_err();
        assert!(error.message.contains("/bin/none"), "{error}");
        assert!(task.cgroups().is_empty());
    }
    assert_eq!(client.request(Request::Delete), Ok(Response::Deleted(None)));
    task.finish(client);
}

#[test]
fn tsk_21_what_init_leaves_behind_is_killed_before_its_exit_is_told() {
    // Without a pid namespace the kernel does not do it by itself.
    let task = Task::with("sleep 1000 & sleep 1000 & exit 3", |spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|it| it["type"] != "pid");
    });
    let (mut client, _) = task.run(&Stdio::default());
    assert_eq!(code(&client.exit().status.cause), 3);
    for directory in task.cgroups() {
        let left = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap();
        assert_eq!(left, "", "{}", directory.display());
    }
    task.finish(client);
}

#[test]
fn tsk_25_a_frozen_container_thaws_and_dies_of_a_kill() {
    let task = Task::new("sleep 1000");
    let (mut client, init) = task.run(&Stdio::default());
    for _ in 0..2 {
        client.request(Request::Pause).unwrap();
    }
    let Ok(Response::State(state)) = client.request(Request::State) else { panic!("no state") };
    assert_eq!(state.init, ShimPhase::Paused(init));
    client.request(Request::Resume).unwrap();
    client.request(Request::Pause).unwrap();
    client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap();
    assert_eq!(client.exit().status.cause, ExitCause::Signal(9));
    task.finish(client);
}

#[test]
fn tsk_28_the_pids_are_those_of_the_cgroup() {
    let task = Task::new("sleep 1000 & wait");
    let (mut client, init) = task.run(&Stdio::default());
    until("both processes are listed", || match client.request(Request::Pids).unwrap() {
        Response::Pids(pids) => pids.len() == 2 && pids.iter().any(|it| it.pid == init.pid),
        other => panic!("{other:?}"),
    });
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    client.exit();
    task.finish(client);
}

#[test]
fn the_container_inherits_nothing_of_the_shim() {
    let script = "ls -l /proc/self/fd; cat /proc/self/oom_score_adj; grep -E 'Sig(Blk|Ign)' /proc/self/status; \
                  umask; cat /proc/self/cgroup | grep -v bosun-test";
    let task = Task::new(script);
    let log = task.home.path().join("c.log");
    let target =
        bosun_types::stdio::LogTarget { path: log.to_str().unwrap().into(), bytes_max: 0, files_max: 1 };
    let (mut client, _) = task.run(&Stdio { log: Some(target), ..Stdio::default() });
    client.exit();
    let lines = crate::task::log_lines(&log);
    let text = lines.join("\n");
    // 0, 1 and 2; the directory that ls itself has open is gone when it reads the link.
    assert_eq!(lines.iter().filter(|line| line.contains(" -> ")).count(), 3, "{text}");
    assert!(text.contains("stdout F 100"), "{text}");
    assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
    let ignored = lines.iter().find_map(|line| line.split_once("SigIgn:\t")).expect("SigIgn is printed").1;
    // 32 and 33 are glibc's own.
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !0x1_8000_0000, 0, "{text}");
    assert!(text.contains("stdout F 0022"), "{text}");
    task.finish(client);
}

#[test]
fn tsk_29_new_limits_reach_the_live_cgroup() {
    let task = Task::new("sleep 1000");
    let (mut client, _) = task.run(&Stdio::default());
    let resources = serde_json::json!({"pids": {"limit": 77}}).to_string().into_bytes();
    assert_eq!(client.request(Request::Update { resources }), Ok(Response::Done));
    let limits: Vec<String> =
        task.cgroups().iter().filter_map(|it| std::fs::read_to_string(it.join("pids.max")).ok()).collect();
    assert_eq!(limits, ["77\n"]);
    let error = client.request(Request::Update { resources: b"{".to_vec() }).unwrap_err();
    assert_eq!(error.class, ErrorClass::InvalidArgument);
    client.request(Request::Kill { target: KillTarget::All, signal: 9, call: None }).unwrap();
    client.exit();
    task.finish(client);
}

#[test]
fn a_spec_without_a_cgroup_is_refused() {
    let task = Task::with("true", |spec| {
        spec["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    });
    let mut client = task.connect();
    let request = task.create_request(&Stdio::default());
    let error = client.request(Request::Create(request)).unwrap_err();
    assert_eq!(error.class, ErrorClass::InvalidArgument);
    task.finish(client);
}

#[test]
fn met_7_the_out_of_memory_killer_is_told() {
    let task =
        Task::with("busybox head -c 200000000 /dev/zero | busybox tail -c 150000000; exit 0", |spec| {
            spec["linux"]["resources"]["memory"] = serde_json::json!({"limit": 16 << 20});
        });
    let (mut client, _) = task.run(&Stdio::default());
    client.exit();
    assert!(client.saw_out_of_memory);
    task.finish(client);
    let task = Task::new("exit 0");
    let (mut client, _) = task.run(&Stdio::default());
    client.exit();
    assert!(!client.saw_out_of_memory);
    task.finish(client);
}

#[test]
fn tsk_6_a_root_of_very_many_layers_is_mounted() {
    let task = Task::new("exit 11");
    let mut client = task.connect();
    let mut request = task.create_request(&Stdio::default());
    let store =
        task.home.path().join("a-directory-whose-name-is-so-long-that-a-page-cannot-hold-it-so-many-times");
    std::fs::create_dir(&store).unwrap();
    std::fs::rename(task.home.path().join("image"), store.join("image")).unwrap();
    let mut layers = vec![store.join("image")];
    layers.extend((0..120).map(|number| store.join(format!("{number}/fs"))));
    let layers: Vec<_> = layers.iter().map(|path| path.to_str().unwrap()).collect();
    layers.iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
    request.rootfs[0].options[0] = format!("lowerdir={}", layers.join(":"));
    assert!(request.rootfs[0].options[0].len() > 8000);
    client.request(Request::Create(request)).unwrap();
    client.request(Request::Start { exec: None }).unwrap();
    assert_eq!(code(&client.exit().status.cause), 11);
    task.finish(client);
}
