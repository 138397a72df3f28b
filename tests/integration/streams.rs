//! Live output and input of processes (IO-*): many readers, slow readers, readers over a restart of the daemon, people at a terminal.

use std::io::Write as _;
use std::process::Stdio as Streams;
use std::sync::{Arc, Mutex};

use bosun_client::{Client, Incoming, RunRequest, Task};
use bosun_tests::client::{import, log_of, namespace, shell};
use bosun_tests::invariants::identity;
use bosun_tests::terminal::Person;
use bosun_tests::world::{Daemon, World, eventually, wait_until};
use bosun_types::stdio::{
    AttachFrom, AttachRecord, AttachRequest, LogRequest, Overflow, STDIN_ATTACH, Stdio,
};
use bosun_types::task::{ExecProcess, ExecRequest, ExitCause, ProcessStatus, TaskRequest};
use bosun_types::{ContainerId, ErrorClass, ExecId};

/// More than all buffers between a process and a reader hold together.
const MUCH: u64 = 48 << 20;
/// Twenty million bytes of lines that can be told apart.
const PADDED: &str = "BEGIN { for (i = 1; i <= 20000; i++) printf \"%01000d\\n\", i }";
const ALL_KEPT: AttachFrom = AttachFrom::Replay(u32::MAX);

async fn started() -> (World, Daemon, Client) {
    let world = World::new();
    let daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    (world, daemon, client)
}

fn attachable() -> Stdio {
    Stdio { stdin: Some(STDIN_ATTACH.to_owned()), ..Stdio::default() }
}

async fn run(client: &Client, name: &str, command: &str, log_to_file: bool) -> Task {
    let task = TaskRequest { stdio: attachable(), log_to_file, ..TaskRequest::default() };
    namespace(client).run(RunRequest { container: shell(name, command), task }).await.expect("runs");
    namespace(client).container(ContainerId::new(name).expect("good")).task()
}

async fn reader(task: &Task, from: AttachFrom, overflow: Overflow) -> Incoming<AttachRecord> {
    task.init().attach(AttachRequest { from, overflow }).await.expect("attaches")
}

/// Everything up to the end: the bytes, and how many are gone.
async fn read(mut reader: Incoming<AttachRecord>) -> (Vec<u8>, u64) {
    let (mut all, mut gone) = (Vec::new(), 0);
    while let Some(record) = reader.next().await {
        match record.expect("goes on") {
            AttachRecord::Output { bytes, .. } => all.extend(bytes),
            AttachRecord::Missed(bytes) => gone += bytes,
        }
    }
    (all, gone)
}

async fn text(reader: Incoming<AttachRecord>) -> String {
    let (bytes, gone) = read(reader).await;
    assert_eq!(gone, 0);
    String::from_utf8(bytes).expect("text")
}

fn seq(last: u32) -> Vec<u8> {
    (1..=last).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn io_8_many_read_at_once_each_with_as_much_of_the_past_as_it_asks_for() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, "many", "echo early; read word; echo got $word; echo aside >&2", true).await;
    eventually("the first line", || async { log_of(&client, "many").await.contains("early") }).await;
    let mut readers = Vec::new();
    for from in [ALL_KEPT, AttachFrom::Replay(3), AttachFrom::default(), AttachFrom::Position(1)] {
        readers.push(reader(&task, from, Overflow::DropOldest).await);
    }
    task.init().write_stdin(b"a word\n".to_vec()).await.expect("writes");
    for (reader, past) in readers.into_iter().zip(["early\n", "ly\n", "", "arly\n"]) {
        let read = text(reader).await;
        // Two streams are two pipes: which comes first is nobody's promise.
        let rest = read.strip_prefix(past).expect(&read);
        assert!(rest.len() == 17 && rest.contains("got a word\n") && rest.contains("aside\n"), "{read:?}");
    }
    assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Code(0));
    // What is kept outlives the process, until the task is deleted.
    assert!(text(reader(&task, ALL_KEPT, Overflow::DropOldest).await).await.starts_with("early\n"));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_stalls_nothing_and_is_told_what_it_missed() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, "flood", &format!("read go; head -c {MUCH} /dev/zero"), false).await;
    let stopped = reader(&task, ALL_KEPT, Overflow::DropOldest).await;
    task.init().write_stdin(b"\n".to_vec()).await.expect("writes");
    assert_eq!(task.wait().await.expect("ends although nobody reads").cause, ExitCause::Code(0));
    let (bytes, gone) = read(stopped).await;
    assert_eq!(bytes.len() as u64 + gone, MUCH, "to the byte");
    assert!(gone > 0);
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_blocks_gets_everything_and_holds_up_nobody_once_it_has_gone() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, "patient", "read go; seq 1 3000000", false).await;
    let (blocking, leaving) =
        (reader(&task, ALL_KEPT, Overflow::Block).await, reader(&task, ALL_KEPT, Overflow::Block).await);
    task.init().write_stdin(b"\n".to_vec()).await.expect("writes");
    let all = tokio::spawn(read(blocking));
    // The one that never reads holds it up: it cannot have ended.
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Running);
    drop(leaving);
    let (bytes, gone) = all.await.expect("reads");
    assert_eq!((bytes.len(), gone), (seq(3_000_000).len(), 0));
    assert!(bytes == seq(3_000_000));
    assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Code(0));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_reader_misses_is_read_from_the_log() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, "spilled", &format!("read go; awk '{PADDED}'"), true).await;
    let slow = reader(&task, ALL_KEPT, Overflow::Spill).await;
    task.init().write_stdin(b"\n".to_vec()).await.expect("writes");
    task.wait().await.expect("ends although nobody reads");
    let (bytes, gone) = read(slow).await;
    assert_eq!(gone, 0);
    let wanted: String = (1..=20_000).map(|number| format!("{number:01000}\n")).collect();
    assert!(bytes == wanted.as_bytes(), "in order, nothing twice");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_output_goes_on_over_a_restart_without_a_gap() {
    let (world, daemon, client) = started().await;
    let count = "trap 'echo end; exit' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    let task = run(&client, "counter", count, true).await;
    let live = reader(&task, AttachFrom::Position(0), Overflow::DropOldest).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let reading = tokio::spawn(collect(live, seen.clone()));
    let lines = || String::from_utf8_lossy(&seen.lock().expect("sound")).lines().count();
    wait_until("some lines", || lines() > 10);
    let log = task.info().await.expect("known").stdio.log.expect("has a log").path;
    daemon.kill();
    let before = std::fs::metadata(&log).expect("has a log").len();
    wait_until("more output while the daemon is down", || {
        std::fs::metadata(&log).is_ok_and(|now| now.len() > before + 1000)
    });
    let at_restart = lines();
    let _daemon = world.start();
    wait_until("lines of after the restart", || lines() > at_restart + 10);
    world.recovered(&client).await;
    task.kill(15, false).await.expect("is asked to end");
    reading.await.expect("ends");
    let text = String::from_utf8(std::mem::take(&mut *seen.lock().expect("sound"))).expect("text");
    let numbers = text.strip_suffix("end\n").expect("the last line");
    assert!(numbers.as_bytes() == seq(u32::try_from(numbers.lines().count()).expect("few")));
    world.check(&client).await;
}

async fn collect(mut live: Incoming<AttachRecord>, seen: Arc<Mutex<Vec<u8>>>) {
    while let Some(record) = live.next().await {
        match record.expect("goes on") {
            AttachRecord::Output { bytes, .. } => seen.lock().expect("sound").extend(bytes),
            AttachRecord::Missed(bytes) => panic!("{bytes} bytes are missing"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_of_an_exec_is_written_and_ended_by_clients() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, "host", "read go", false).await;
    let request = ExecRequest {
        id: ExecId::new("cat").expect("good"),
        process: ExecProcess::Inherit {
            args: vec!["/bin/cat".to_owned()],
            env: Vec::new(),
            cwd: None,
            user: None,
        },
        stdio: attachable(),
    };
    let running = task.run_exec(request).await.expect("runs");
    let cat = running.process().clone();
    let request = AttachRequest { from: AttachFrom::Position(0), overflow: Overflow::Block };
    let back = cat.attach(request).await.expect("attaches");
    // More than its pipes hold: the write returns when it was read, and the reader is needed for that.
    let much: Vec<u8> = seq(200_000);
    let writing = tokio::spawn({
        let (cat, much) = (cat.clone(), much.clone());
        async move {
            cat.write_stdin(much).await.expect("writes");
            cat.close_stdin().await.expect("closes");
        }
    });
    let (bytes, gone) = read(back).await;
    writing.await.expect("writes");
    assert!(gone == 0 && bytes == much);
    assert_eq!(running.wait().await.expect("ends").cause, ExitCause::Code(0));
    let refusal = cat.write_stdin(b"late".to_vec()).await.expect_err("it is closed");
    assert_eq!(refusal.class, ErrorClass::FailedPrecondition, "{refusal}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_is_refused_with_a_reason() {
    let (world, _daemon, client) = started().await;
    let silent = TaskRequest { stdio: Stdio::default(), log_to_file: false, ..TaskRequest::default() };
    namespace(&client)
        .run(RunRequest { container: shell("silent", "sleep 1000"), task: silent })
        .await
        .expect("runs");
    let silent = namespace(&client).container(ContainerId::new("silent").expect("good")).task();
    let refusal = silent.init().attach(AttachRequest::default()).await.expect_err("it writes to /dev/null");
    assert_eq!(refusal.class, ErrorClass::FailedPrecondition, "{refusal}");
    assert!(refusal.to_string().contains("nowhere"), "{refusal}");
    let refusal = silent.init().write_stdin(b"x".to_vec()).await.expect_err("it reads /dev/null");
    assert_eq!(refusal.class, ErrorClass::FailedPrecondition, "{refusal}");
    silent.kill(9, true).await.expect("kills");

    let task = run(&client, "full", "read go", false).await;
    let mut readers = Vec::new();
    for _ in 0..8 {
        readers.push(reader(&task, ALL_KEPT, Overflow::DropOldest).await);
    }
    let refusal = task.init().attach(AttachRequest::default()).await.expect_err("there are eight");
    assert_eq!(refusal.class, ErrorClass::ResourceExhausted, "{refusal}");
    readers.pop();
    // The shim hears of it in its time.
    eventually("a place", || async { task.init().attach(AttachRequest::default()).await.is_ok() }).await;
    let unknown = task.process(ExecId::new("none").expect("good"));
    let refusal = unknown.attach(AttachRequest::default()).await.expect_err("there is none");
    assert_eq!(refusal.class, ErrorClass::NotFound, "{refusal}");
    task.init().write_stdin(b"\n".to_vec()).await.expect("writes");
    task.wait().await.expect("ends");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn detach_keys_leave_a_container_that_can_be_attached_to_again() {
    let (world, _daemon, client) = started().await;
    let image = import(&client).await;
    let words = ["run", "-it", "--name", "shell", "--detach-keys", "ctrl-p,x", image.as_str(), "/bin/sh"];
    let mut first = Person::at(world.bosun(&words));
    first.types(b"echo $((40 + 2))\n");
    first.sees("42");
    // The first of the keys alone is the process's: its line editor goes back in its history.
    first.types(b"\x10\r");
    wait_until("the line again", || first.screen().matches("42\r\n").count() >= 2);
    first.types(b"\x10x");
    first.sees("detached from shell");
    assert_eq!(first.code(), Some(0));
    let task = namespace(&client).container(ContainerId::new("shell").expect("good")).task();
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Running);

    let mut second = Person::at(world.bosun(&["attach", "--replay", "100", "shell"]));
    second.sees("42");
    second.types(b"stty size; exit 7\n");
    assert_eq!(second.code(), Some(7));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_container_takes_input_from_a_pipe() {
    let (world, _daemon, client) = started().await;
    let image = import(&client).await;
    let run = world.bosun(&["run", "-d", "-i", "--name", "sums", image.as_str(), "/bin/sh"]).output();
    assert!(run.expect("runs").status.success());
    let mut attach = world.bosun(&["attach", "--close-stdin", "sums"]);
    attach.stdin(Streams::piped()).stdout(Streams::piped()).stderr(Streams::piped());
    let mut attach = attach.spawn().expect("starts");
    // The reader comes before what it writes: else the first words may be written before there is one.
    attach.stdin.take().expect("piped").write_all(b"sleep 0; echo $((6 * 7)); exit 3\n").expect("writes");
    let done = attach.wait_with_output().expect("ends");
    assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stdout).as_ref()), (Some(3), "42\n"));
    world.check(&client).await;
}

/// A program that copies its streams to files, as the words after its path say.
fn logger(world: &World, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = world.path("logger.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("is made executable");
    format!(
        "binary://{}?out={}&err={}",
        path.display(),
        world.path("out").display(),
        world.path("err").display()
    )
}

/// Keeps descriptor 5 from what it starts, so that closing it is seen.
const COPY: &str = r#"cat <&3 > "$2" 5>&- & echo "$CONTAINER_NAMESPACE/$CONTAINER_ID" > "$4"; cat <&4 >> "$4" 5>&- & exec 5>&-; wait"#;

#[tokio::test(flavor = "multi_thread")]
async fn io_12_a_logging_program_gets_both_streams_also_while_the_daemon_is_down() {
    let (world, daemon, client) = started().await;
    let stdio = Stdio { stdout: Some(logger(&world, COPY)), ..attachable() };
    let task = TaskRequest { stdio, ..TaskRequest::default() };
    let command = "echo one; read go; echo two; echo three >&2; exit 4";
    let running =
        namespace(&client).run(RunRequest { container: shell("logged", command), task }).await.expect("runs");
    let said = |name: &str| std::fs::read_to_string(world.path(name)).unwrap_or_default();
    wait_until("the first line", || said("out") == "one\n");
    daemon.kill();
    let _daemon = world.start();
    let process = running.process().clone();
    let live =
        process.attach(AttachRequest { from: ALL_KEPT, overflow: Overflow::Block }).await.expect("attaches");
    process.write_stdin(b"\n".to_vec()).await.expect("writes");
    assert!(text(live).await.starts_with("one\n"), "both get it");
    assert_eq!(running.wait().await.expect("ends").cause, ExitCause::Code(4));
    wait_until("all of it", || said("out") == "one\ntwo\n" && said("err") == "default/logged\nthree\n");
    let logged = namespace(&client).container(ContainerId::new("logged").expect("good")).task();
    let refusal = logged.logs(LogRequest::default()).await.expect_err("it has no log file");
    assert_eq!(refusal.class, ErrorClass::NotFound, "{refusal}");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn io_12_a_logging_program_that_dies_stalls_nothing_and_one_that_cannot_start_leaves_nothing() {
    let (world, _daemon, client) = started().await;
    let with = |uri: String| TaskRequest {
        stdio: Stdio { stdout: Some(uri), ..Stdio::default() },
        ..TaskRequest::default()
    };
    let flood = shell("dead", &format!("head -c {MUCH} /dev/zero; exit 5"));
    let task = with(logger(&world, "exit 0"));
    let running = namespace(&client).run(RunRequest { container: flood, task }).await.expect("runs");
    assert_eq!(running.wait().await.expect("ends").cause, ExitCause::Code(5));

    let container = namespace(&client).containers().create(shell("refused", "true")).await.expect("creates");
    let container = namespace(&client).container(container.id);
    let missing = container.create_task(with("binary:///no/such/logger".to_owned())).await;
    let missing = missing.err().expect("there is none");
    assert_eq!(missing.class, ErrorClass::NotFound, "{missing}");
    assert!(missing.to_string().contains("/no/such/logger"), "{missing}");
    let hung = container
        .create_task(with(logger(&world, "echo $$ > $2; exec sleep 1000")))
        .await
        .err()
        .expect("never ready");
    assert_eq!(hung.class, ErrorClass::DeadlineExceeded, "{hung}");
    let pid = std::fs::read_to_string(world.path("out")).expect("it ran").trim().parse().expect("a pid");
    wait_until("it to be killed", || identity(pid).is_none());
    let bad = container.create_task(with("binary://logger".to_owned())).await.err().expect("no path");
    assert_eq!(bad.class, ErrorClass::InvalidArgument, "{bad}");
    let good =
        container.create_task(with(logger(&world, COPY))).await.expect("nothing of the others is left");
    good.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn io_12_log_files_are_where_and_as_large_as_asked() {
    let (world, _daemon, client) = started().await;
    let image = import(&client).await;
    let place = format!("file://{}", world.path("own.log").display());
    let words = ["run", "-d", "--name", "own", "--log-uri", &place, "--log-opt", "max-size=4k", "--log-opt"];
    let run =
        world.bosun(&words).args(["max-file=2", image.as_str(), "/bin/seq", "1000"]).output().expect("runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(world.bosun(&["wait", "own"]).output().expect("waits").status.code(), Some(0));
    assert!(log_of(&client, "own").await.ends_with("999\n1000\n"));
    assert!(world.path("own.log.1").exists() && !world.path("own.log.2").exists());
    world.check(&client).await;
}
