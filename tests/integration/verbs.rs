//! Verbs on a task that lives, and the ends that a container can come to (TSK-12 to TSK-32, MET-*).

use std::time::Duration;

use bosun_client::{Client, RunRequest, Task};
use bosun_tests::client::{events, import, log_of, logged, namespace, shell};
use bosun_tests::invariants::shim_of;
use bosun_tests::world::{Daemon, World, eventually};
use bosun_types::event::Event;
use bosun_types::spec::{ContainerRequest, SpecOptions, SpecRequest};
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExecProcess, ExecRequest, ExitCause, ProcessStatus, TaskRequest};
use bosun_types::{ContainerId, ErrorClass, ExecId};

async fn started() -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    (world, daemon, client)
}

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).expect("good")
}

/// The options of a request that [`shell`] made.
fn options(request: &mut ContainerRequest) -> &mut SpecOptions {
    match &mut request.spec {
        SpecRequest::Build(options) => options,
        SpecRequest::Json(_) | SpecRequest::Checkpoint => unreachable!("shell builds"),
    }
}

async fn run(client: &Client, container: ContainerRequest) -> Task {
    let name = container.id.clone();
    namespace(client).run(RunRequest { container, task: logged() }).await.expect("runs");
    namespace(client).container(name).task()
}

fn exec(name: &str, command: &str) -> ExecRequest {
    ExecRequest {
        id: ExecId::new(name).expect("good"),
        process: ExecProcess::Inherit {
            args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
            env: Vec::new(),
            cwd: None,
            user: None,
        },
        stdio: Stdio::default(),
    }
}

async fn said(client: &Client, name: &str, word: &str) {
    eventually(word, || async { log_of(client, name).await.contains(word) }).await;
}

async fn end(task: &Task) -> ExitCause {
    task.kill(9, true).await.expect("kills");
    let exit = task.wait().await.expect("ends");
    task.delete().await.expect("deletes");
    exit.cause
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_19_a_process_that_ignores_sigterm_lives_until_sigkill() {
    let (world, _daemon, client) = started().await;
    let stubborn = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done";
    let task = run(&client, shell("stubborn", stubborn)).await;
    said(&client, "stubborn", "ready").await;
    task.kill(15, false).await.expect("is delivered");
    said(&client, "stubborn", "asked").await;
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Running);
    assert_eq!(end(&task).await, ExitCause::Signal(9));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_21_what_init_leaves_behind_in_the_hosts_pid_namespace_is_killed_before_its_exit_is_told() {
    let (world, _daemon, client) = started().await;
    let mut request = shell("parent", "sleep 1000 & sleep 1000 & exit 5");
    options(&mut request).join_namespaces.insert("pid".to_owned(), "/proc/self/ns/pid".to_owned());
    let task = run(&client, request).await;
    assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Code(5));
    // The signal was sent before the exit was told; dying takes its moment.
    eventually("what was left to die", || async {
        task.metrics().await.expect("samples").usage.pids.current == 0
    })
    .await;
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_22_an_exec_goes_on_when_its_client_leaves() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, shell("host", "sleep 1000")).await;
    let leaving = world.client().await;
    let process = namespace(&leaving)
        .container(id("host"))
        .task()
        .exec(exec("orphan", "while ! test -e /tmp/go; do sleep 0.05; done; exit 6"))
        .await
        .expect("registers");
    process.start().await.expect("starts");
    drop((process, leaving));
    let go = task.exec(exec("go", "touch /tmp/go")).await.expect("registers");
    go.start().await.expect("starts");
    let orphan = task.process(ExecId::new("orphan").expect("good"));
    assert_eq!(orphan.wait().await.expect("ends").cause, ExitCause::Code(6));
    assert_eq!(end(&task).await, ExitCause::Signal(9));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn met_5_a_fork_bomb_stays_within_its_limit_and_dies_whole() {
    let (world, _daemon, client) = started().await;
    // Init itself forks no more: a shell that cannot fork would end, and with it everything before we looked.
    let mut request = shell("bomb", "b() { while :; do b & done; }; b & exec sleep 1000");
    options(&mut request).pids_max = Some(48);
    let task = run(&client, request).await;
    eventually("the limit to be reached", || async {
        task.metrics().await.is_ok_and(|metrics| metrics.usage.pids.current >= 40)
    })
    .await;
    assert_eq!(task.metrics().await.expect("samples").usage.pids.limit, 48);
    // The host and its neighbours go on.
    let neighbour = run(&client, shell("neighbour", "exit 3")).await;
    assert_eq!(neighbour.wait().await.expect("ends").cause, ExitCause::Code(3));
    assert_eq!(end(&task).await, ExitCause::Signal(9));
    neighbour.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn met_7_a_container_that_fills_its_memory_is_killed_and_says_so() {
    let (world, _daemon, client) = started().await;
    let mut request = shell("hog", "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done");
    options(&mut request).memory_bytes_max = Some(16 << 20);
    let task = run(&client, request).await;
    assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Signal(9));
    let is_oom =
        |event: &Event| matches!(event, Event::TaskOom { container_id } if *container_id == id("hog"));
    eventually("the event", || async { events(&client).await.iter().any(|record| is_oom(&record.event)) })
        .await;
    // MET-6: the cgroup is there until the task is deleted.
    let memory = task.metrics().await.expect("samples").usage.memory;
    assert!(memory.oom_kills >= 1 && memory.limit == 16 << 20, "{memory:?}");
    task.delete().await.expect("deletes");
    assert_eq!(task.metrics().await.expect_err("is gone").class, ErrorClass::NotFound);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_25_tsk_22_a_paused_container_refuses_and_goes_on_where_it_was() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, shell("still", "sleep 1000")).await;
    let refused = task.resume().await.expect_err("runs");
    assert!(refused.class == ErrorClass::FailedPrecondition && refused.message.contains("running"));
    task.pause().await.expect("freezes");
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Paused);
    for refused in
        [task.exec(exec("no", "true")).await.err(), task.pause().await.err(), task.delete().await.err()]
    {
        let refused = refused.expect("is paused");
        assert_eq!(refused.class, ErrorClass::FailedPrecondition);
        assert!(refused.message.contains("paused"), "{refused}");
    }
    task.resume().await.expect("thaws");
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Running);
    let topics: Vec<String> =
        events(&client).await.iter().map(|record| record.event.topic().to_owned()).collect();
    let once = |topic: &str| topics.iter().filter(|it| *it == topic).count() == 1;
    assert!(once("/tasks/paused") && once("/tasks/resumed"), "{topics:?}");
    // Frozen processes can be killed too.
    task.pause().await.expect("freezes");
    assert_eq!(end(&task).await, ExitCause::Signal(9));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_25_tsk_19_a_kill_of_a_frozen_exec_takes_effect_when_it_is_thawed_and_one_of_init_at_once() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, shell("host", "sleep 1000")).await;
    let process = task.exec(exec("doomed", "sleep 1000")).await.expect("registers");
    process.start().await.expect("starts");
    task.pause().await.expect("freezes");
    process.kill(9, false).await.expect("is sent");
    assert_eq!(task.info().await.expect("answers").status, ProcessStatus::Paused);
    world.check(&client).await;
    task.resume().await.expect("thaws");
    assert_eq!(process.wait().await.expect("ends").cause, ExitCause::Signal(9));
    task.pause().await.expect("freezes");
    task.kill(9, false).await.expect("thaws it too");
    assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Signal(9));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_26_tsk_27_a_resize_without_terminal_is_no_error() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, shell("plain", "sleep 1000")).await;
    task.init().resize(80, 24).await.expect("has no effect");
    task.init().close_stdin().await.expect("has no effect");
    assert_eq!(end(&task).await, ExitCause::Signal(9));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_28_pids_carry_the_exec_they_are_of_and_many_execs_run_at_once() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, shell("host", "sleep 1000")).await;
    let starts: Vec<_> = (0..32)
        .map(|number| {
            let task = task.clone();
            tokio::spawn(async move {
                let request = exec(&format!("e{number}"), &format!("exec sleep 100{number}"));
                let process = task.exec(request).await.expect("registers");
                (process.start().await.expect("starts"), format!("e{number}"))
            })
        })
        .collect();
    let mut wanted = Vec::new();
    for start in starts {
        wanted.push(start.await.expect("joins"));
    }
    wanted.sort();
    let mut found: Vec<(u32, String)> = task
        .pids()
        .await
        .expect("lists")
        .into_iter()
        .filter_map(|it| it.exec.map(|exec| (it.pid, exec.to_string())))
        .collect();
    found.sort();
    assert_eq!(found, wanted);
    assert_eq!(end(&task).await, ExitCause::Signal(9));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_20_a_created_exec_that_is_killed_can_still_be_started() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, shell("host", "sleep 1000")).await;
    let process = task.exec(exec("later", "exit 8")).await.expect("registers");
    process.kill(9, false).await.expect("has no effect");
    process.start().await.expect("starts");
    assert_eq!(process.wait().await.expect("ends").cause, ExitCause::Code(8));
    assert_eq!(process.kill(9, false).await.expect_err("has ended").class, ErrorClass::NotFound);
    assert_eq!(end(&task).await, ExitCause::Signal(9));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_29_an_update_is_felt_by_the_live_container_and_refused_after_its_end() {
    let (world, _daemon, client) = started().await;
    for runtime in ["bosun", "runc"] {
        let mut request = shell(&format!("by-{runtime}"), "sleep 1000");
        request.runtime.name = runtime.to_owned();
        options(&mut request).pids_max = Some(99);
        let task = run(&client, request).await;
        let resources = br#"{"pids": {"limit": 7}, "memory": {"limit": 33554432}}"#.to_vec();
        task.update(resources.clone()).await.expect(runtime);
        let usage = task.metrics().await.expect("samples").usage;
        assert_eq!((usage.pids.limit, usage.memory.limit), (7, 32 << 20), "{runtime}");
        task.pause().await.expect("freezes");
        task.update(br#"{"pids": {"limit": 9}}"#.to_vec()).await.expect("also while frozen");
        let usage = task.metrics().await.expect("samples").usage;
        assert_eq!((usage.pids.limit, usage.memory.limit), (9, 32 << 20), "{runtime}: the rest stays");
        let malformed = task.update(b"[]".to_vec()).await.expect_err("is no object");
        assert_eq!(malformed.class, ErrorClass::InvalidArgument);
        task.kill(9, true).await.expect("kills");
        task.wait().await.expect("ends");
        let refused = task.update(resources).await.expect_err("has ended");
        assert!(refused.class == ErrorClass::FailedPrecondition && refused.message.contains("stopped"));
        task.delete().await.expect("deletes");
    }
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_30_metrics_count_and_do_not_wait_for_a_stopped_shim() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, shell("busy", "while :; do :; done")).await;
    eventually("processor time", || async {
        task.metrics().await.expect("samples").usage.cpu.total > 20_000_000
    })
    .await;
    let usage = task.metrics().await.expect("samples").usage;
    assert!(usage.memory.usage > 0 && usage.pids.current >= 1, "{usage:?}");
    let shim = shim_of(task.info().await.expect("known").pid);
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGSTOP).expect("stops");
    let sample = tokio::time::timeout(Duration::from_secs(5), task.metrics()).await;
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGCONT).expect("goes on");
    assert!(sample.expect("in time").expect("samples").usage.cpu.total >= usage.cpu.total);
    assert_eq!(end(&task).await, ExitCause::Signal(9));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_12_waiters_that_leave_disturb_nobody() {
    let (world, _daemon, client) = started().await;
    let containers = namespace(&client).containers();
    containers.create(shell("awaited", "exit 4")).await.expect("creates");
    let task = containers.get(id("awaited")).create_task(TaskRequest::default()).await.expect("creates");
    for _ in 0..20 {
        let leaving = world.client().await;
        let other = namespace(&leaving).container(id("awaited")).task();
        let wait = tokio::spawn(async move { other.wait().await });
        wait.abort();
        let _ = wait.await;
    }
    task.start().await.expect("starts");
    assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Code(4));
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_the_everyday_words_for_a_live_container() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, shell("web", "trap 'exit 21' USR1; while :; do sleep 0.05; done")).await;
    let words = |words: &[&str]| {
        let output = world.bosun(words).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        text
    };
    assert_eq!(words(&["pause", "web"]), "web\n");
    assert!(words(&["ps"]).contains("paused"));
    assert_eq!(words(&["unpause", "web"]), "web\n");
    assert_eq!(words(&["update", "--pids-limit", "11", "--memory", "64m", "web"]), "web\n");
    let usage = task.metrics().await.expect("samples").usage;
    assert_eq!((usage.pids.limit, usage.memory.limit), (11, 64 << 20));
    let record = namespace(&client).container(id("web")).record().await.expect("reads");
    let spec: serde_json::Value = serde_json::from_slice(&record.spec).expect("JSON");
    assert_eq!(spec.pointer("/linux/resources/pids/limit"), Some(&11.into()), "the spec has it too");
    let pid = task.info().await.expect("known").pid.to_string();
    let top = words(&["top", "web"]);
    assert!(top.contains(&pid) && top.contains("(init)"), "{top}");
    let stats = words(&["stats"]);
    assert!(stats.contains("web") && stats.contains("64.0 MiB"), "{stats}");
    let json: serde_json::Value = serde_json::from_str(&words(&["--json", "stats", "web"])).expect("is JSON");
    assert_eq!(json.pointer("/0/pids/limit"), Some(&11.into()), "{json}");
    let nothing = world.bosun(&["update", "web"]).output().expect("runs");
    assert!(!nothing.status.success() && String::from_utf8_lossy(&nothing.stderr).contains("--memory"));
    words(&["kill", "--signal", "usr1", "web"]);
    assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Code(21));
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn met_1_met_6_prometheus_text_of_live_hung_and_deleted_containers() {
    let world = World::new();
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        free.local_addr().expect("has one").to_string()
    };
    let _daemon = world.start_with_words(&["--metrics-address", &address]);
    let client = world.client().await;
    import(&client).await;
    let task = run(&client, shell("seen", "sleep 1000")).await;
    let gone = run(&client, shell("gone", "sleep 1000")).await;
    let scrape = |path: &'static str| {
        let address = address.clone();
        tokio::task::spawn_blocking(move || get(&address, path))
    };
    let text = scrape("/v1/metrics").await.expect("joins");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("container_pids_current{container_id=\"seen\",namespace=\"default\"} 1"), "{text}");
    assert_eq!(end(&gone).await, ExitCause::Signal(9));
    let shim = shim_of(task.info().await.expect("known").pid);
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGSTOP).expect("stops");
    let text = tokio::time::timeout(Duration::from_secs(5), scrape("/metrics")).await;
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGCONT).expect("goes on");
    let text = text.expect("in time").expect("joins");
    assert!(text.contains("container_id=\"seen\""), "a hung shim hides nothing: {text}");
    assert!(text.contains("container_id=\"gone\""), "the last sample is told: {text}");
    let text = scrape("/v1/metrics").await.expect("joins");
    assert!(!text.contains("container_id=\"gone\""), "once: {text}");
    assert!(scrape("/else").await.expect("joins").starts_with("HTTP/1.1 404"));
    assert_eq!(end(&task).await, ExitCause::Signal(9));
    world.check(&client).await;
}

/// One request, the whole answer.
fn get(address: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asks");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answers");
    text
}
