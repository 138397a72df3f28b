//! What many do at once and what comes and goes: waiters, terminals, signals to everybody, readers of a log that rotates; and one shim that stands still among them.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio as Streams;
use std::time::{Duration, Instant};

use bosun_client::{Client, RunRequest, Task};
use bosun_tests::client::{import, log_of, namespace, shell};
use bosun_tests::invariants::shim_of;
use bosun_tests::world::{eventually, wait_until};
use bosun_types::ContainerId;
use bosun_types::stdio::{AttachFrom, AttachRecord, AttachRequest, Overflow, Stdio};
use bosun_types::task::{ExecProcess, ExecRequest, ExitCause, ProcessStatus, TaskRequest};
use nix::sys::signal::Signal;

use super::deaths::{exec, send, started, task_of};

async fn run(client: &Client, name: &str, command: &str) -> Task {
    let task = TaskRequest { log_to_file: true, ..TaskRequest::default() };
    namespace(client).run(RunRequest { container: shell(name, command), task }).await.expect("runs");
    task_of(client, name)
}

async fn end(task: &Task) {
    task.kill(9, false).await.expect("kills");
    task.wait().await.expect("ends");
    task.delete().await.expect("deletes");
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_12_waiters_come_and_go_with_their_connections_and_those_who_stay_are_told() {
    let (world, _daemon, client) = started().await;
    let containers = namespace(&client).containers();
    containers.create(shell("awaited", "exit 4")).await.expect("creates");
    let container = containers.get(ContainerId::new("awaited").expect("good"));
    let task = container.create_task(TaskRequest::default()).await.expect("creates");
    let mut staying = Vec::new();
    for round in 0..12 {
        let other = world.client().await;
        let waits: Vec<_> = (0..20)
            .map(|_| {
                let task = task_of(&other, "awaited");
                tokio::spawn(async move { task.wait().await })
            })
            .collect();
        // Sent after the waits on the same connection: once it is answered they have arrived.
        task_of(&other, "awaited").info().await.expect("answers");
        if round % 4 == 3 {
            staying.extend(waits);
        } else {
            waits.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }
    task.start().await.expect("starts");
    for wait in staying {
        assert_eq!(wait.await.expect("joins").expect("is told").cause, ExitCause::Code(4));
    }
    assert_eq!(task.wait().await.expect("ends").cause, ExitCause::Code(4));
    task.delete().await.expect("deletes");
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_19_signals_by_number_and_by_name_to_init_to_an_exec_and_to_everybody() {
    let (world, _daemon, client) = started().await;
    let child = "(trap 'echo child $0; exit' USR1; echo up; while :; do sleep 0.02; done)";
    let command = format!(
        "trap 'echo init' USR1; trap 'echo hup' HUP; {child} & {child} & while :; do sleep 0.02; done"
    );
    let task = run(&client, "web", &command).await;
    let said = |text: &'static str, times: usize| {
        let client = &client;
        eventually(text, move || async move { log_of(client, "web").await.matches(text).count() == times })
    };
    said("up", 2).await;
    let kill = |words: &[&str]| {
        let output = world.bosun(&["kill"]).args(words).output().expect("runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    for (times, hup) in [(1, "1"), (2, "HUP"), (3, "sighup")] {
        kill(&["-s", hup, "web"]);
        said("hup", times).await;
    }
    let helper = task.exec(exec("helper", "trap 'exit 12' 35; while :; do sleep 0.02; done")).await;
    let helper = helper.expect("registers");
    helper.start().await.expect("starts");
    eventually("its trap", || async {
        let pid = helper.info().await.expect("known").pid;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default().trim();
        u64::from_str_radix(caught, 16).is_ok_and(|caught| caught & (1 << 34) != 0)
    })
    .await;
    kill(&["-s", "RTMIN+1", "--exec-id", "helper", "web"]);
    assert_eq!(helper.wait().await.expect("ends").cause, ExitCause::Code(12));
    assert_eq!(task.info().await.expect("known").status, ProcessStatus::Running, "only the exec");
    kill(&["-s", "USR1", "--all", "web"]);
    said("child", 2).await;
    said("init", 1).await;
    end(&task).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_22_an_exec_is_the_oci_process_that_it_is_given() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, "host", "sleep 1000").await;
    let check = r#"test \"$A\" = b && test \"$(pwd)\" = /tmp && test \"$(id -u):$(id -g)\" = 7:8 && exit 9"#;
    let process = format!(
        r#"{{"terminal":true,"user":{{"uid":7,"gid":8}},"args":["/bin/sh","-c","{check}"],"env":["PATH=/bin","A=b"],"cwd":"/tmp"}}"#
    );
    let request = ExecRequest { process: ExecProcess::Json(process.into_bytes()), ..exec("given", "") };
    let given = task.exec(request).await.expect("registers");
    given.start().await.expect("starts");
    // Its own word on terminals does not count, the request's does (TSK-22).
    assert_eq!(given.wait().await.expect("ends").cause, ExitCause::Code(9));
    let malformed = ExecRequest { process: ExecProcess::Json(b"{".to_vec()), ..exec("bad", "") };
    let refused = task.exec(malformed).await.err().expect("is no JSON");
    assert_eq!(refused.class, bosun_types::ErrorClass::InvalidArgument, "{refused}");
    end(&task).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tsk_22_io_6_execs_with_and_without_terminals_run_at_once_each_with_its_own() {
    let (world, _daemon, client) = started().await;
    let task = run(&client, "host", "sleep 1000").await;
    let execs = (0..24_u8).map(|number| {
        let task = task.clone();
        tokio::spawn(async move {
            let terminal = number % 2 == 0;
            let stdio = Stdio { terminal, stdin: Some("attach:".to_owned()), ..Stdio::default() };
            let command =
                format!("if test -t 1; then echo tty {number}; else echo pipe {number}; fi; exit {number}");
            let request = ExecRequest { stdio, ..exec(&format!("e{number}"), &command) };
            let running = task.run_exec(request).await.expect("runs");
            let from = AttachRequest { from: AttachFrom::Position(0), overflow: Overflow::Block };
            let mut output = running.process().attach(from).await.expect("attaches");
            let mut text = Vec::new();
            while let Some(record) = output.next().await {
                if let AttachRecord::Output { bytes, .. } = record.expect("reads") {
                    text.extend_from_slice(&bytes);
                }
            }
            let kind = if terminal { "tty" } else { "pipe" };
            assert_eq!(String::from_utf8_lossy(&text).trim(), format!("{kind} {number}"));
            assert_eq!(running.wait().await.expect("ends").cause, ExitCause::Code(number));
        })
    });
    for one in execs.collect::<Vec<_>>() {
        one.await.expect("is as it should be");
    }
    end(&task).await;
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn io_13_a_log_that_rotates_is_followed_from_its_tail_and_from_a_time() {
    let (world, _daemon, client) = started().await;
    let image = import(&client).await;
    let count = "i=0; while test $i -lt 400; do i=$((i+1)); echo line $i; done; touch /half; \
                 while ! test -e /go; do sleep 0.01; done; while test $i -lt 800; do i=$((i+1)); echo line $i; done";
    let words = ["run", "-d", "--name", "counter", "--log-opt", "max-size=8k", "--log-opt", "max-file=8"];
    let started = world.bosun(&words).args([image.as_str(), "/bin/sh", "-c", count]).output().expect("runs");
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let task = task_of(&client, "counter");
    let root = format!("/proc/{}/root", task.info().await.expect("runs").pid);
    wait_until("half of it", || std::path::Path::new(&format!("{root}/half")).exists());
    eventually("the log to have it", || async { log_of(&client, "counter").await.ends_with("line 400\n") })
        .await;
    let mut follow = world.bosun(&["logs", "-f", "--tail", "5", "counter"]);
    let mut follow = follow.stdout(Streams::piped()).spawn().expect("follows");
    let mut shown = BufReader::new(follow.stdout.take().expect("piped"));
    let mut followed = String::new();
    shown.read_line(&mut followed).expect("reads");
    assert_eq!(followed, "line 396\n");
    let since = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).output();
    let since = String::from_utf8(since.expect("tells").stdout).expect("text").trim().to_owned();
    std::fs::write(format!("{root}/go"), "").expect("writes");
    let rest = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        shown.read_to_string(&mut rest).expect("reads");
        rest
    });
    followed += &rest.await.expect("joins");
    assert!(follow.wait().expect("ends").success());
    let lines = |from: u32| (from..=800).map(|number| format!("line {number}\n")).collect::<String>();
    assert_eq!(followed, lines(396), "no line is lost over rotations");
    task.wait().await.expect("ends");
    let logs = |words: &[&str]| {
        let output = world.bosun(&["logs"]).args(words).arg("counter").output().expect("runs");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(logs(&["--tail", "3"]), lines(798));
    let kept = logs(&["--since", &since]);
    assert!(!kept.contains("line 400\n") && lines(401).ends_with(&kept) && !kept.is_empty(), "{kept}");
    world.check(&client).await;
}

/// The middle of some runs of a short exec.
async fn speed(task: &Task, name: &str) -> Duration {
    let mut times = Vec::new();
    for number in 0..9 {
        let begin = Instant::now();
        let running = task.run_exec(exec(&format!("{name}{number}"), "exit 0")).await.expect("runs");
        let process = running.process().clone();
        running.wait().await.expect("ends");
        process.delete().await.expect("deletes");
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn f_18_while_a_shim_stands_still_others_are_at_full_speed_and_its_task_is_told_with_the_age_of_what_is_known()
 {
    let (world, daemon, client) = started().await;
    let (stuck, other) =
        (run(&client, "stuck", "sleep 1000").await, run(&client, "other", "sleep 1000").await);
    stuck.pids().await.expect("its shim has answered");
    let shim = shim_of(stuck.info().await.expect("known").pid);
    let before = speed(&other, "before").await;
    send(Signal::SIGSTOP, shim);
    // Requests pile up at the one that stands still.
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let stuck = stuck.clone();
            tokio::spawn(async move { stuck.pids().await })
        })
        .collect();
    let during = speed(&other, "during").await;
    assert!(during < before * 5 + Duration::from_millis(50), "{before:?} before, {during:?} during");
    let first = stuck.info().await.expect("answers");
    assert_eq!(first.status, ProcessStatus::Running);
    let listed = namespace(&client).tasks().await.expect("lists");
    let listed = listed.iter().find(|it| it.container.as_str() == "stuck").expect("is listed");
    assert_eq!((listed.status, listed.confirmed_at), (first.status, first.confirmed_at));
    assert!(first.confirmed_at.is_some(), "when its shim was heard last");
    // A new daemon has not heard it yet, and says so.
    daemon.kill();
    let _daemon = world.start();
    let known = stuck.info().await.expect("answers");
    assert_eq!((known.status, known.confirmed_at), (ProcessStatus::Recovering, None));
    speed(&other, "after").await;
    send(Signal::SIGCONT, shim);
    eventually("it to be heard", || async {
        stuck
            .info()
            .await
            .is_ok_and(|info| info.status == ProcessStatus::Running && info.confirmed_at.is_some())
    })
    .await;
    for wait in waiting {
        let _ = wait.await.expect("joins");
    }
    end(&stuck).await;
    end(&other).await;
    world.check(&client).await;
}
