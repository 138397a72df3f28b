//! Measurements, run by hand: `cargo test -p bosun-shim --test real -- --ignored --nocapture measure`, with
//! `BOSUN_SHIM_BINARY` naming a binary built with `--profile shim`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bosun_types::shim::Request;
use bosun_types::stdio::Stdio;
use bosun_types::task::KillTarget;

use crate::exec;
use crate::task::{Task, log_target};

/// Rounds of the time measurement.
const ROUNDS: usize = 30;
/// Pause between rounds: without it a round profits from the kernel's grace periods of the round before.
const PAUSE: Duration = Duration::from_millis(200);
/// Idle containers of the memory measurement.
const IDLE: usize = 20;

#[test]
#[ignore = "a measurement"]
fn measure_times() {
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        std::thread::sleep(PAUSE);
        let mut lap = Instant::now();
        let mut note = |stage, since: &mut Instant| {
            times.entry(stage).or_default().push(since.elapsed());
            *since = Instant::now();
        };
        let task = Task::new("exec sleep 1000");
        note("0 image and shim", &mut lap);
        let mut client = task.connect();
        note("1 connect", &mut lap);
        task.create(&mut client, &Stdio::default());
        note("2 create", &mut lap);
        client.request(Request::Start { exec: None }).unwrap();
        note("3 start", &mut lap);
        exec::add(&mut client, "e", "exit 0", Stdio::default());
        client.request(Request::Start { exec: Some(exec::id("e")) }).unwrap();
        note("4 exec", &mut lap);
        client.exit();
        note("5 exec exit", &mut lap);
        client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap();
        client.exit();
        note("6 kill to exit", &mut lap);
        client.request(Request::Delete).unwrap();
        note("7 delete", &mut lap);
        task.finish(client);
    }
    for (stage, mut times) in times {
        times.sort();
        eprintln!("{stage}: p50 {:?} p90 {:?}", times[ROUNDS / 2], times[ROUNDS * 9 / 10]);
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_memory() {
    let tasks: Vec<Task> = (0..IDLE).map(|_| Task::new("exec sleep 1000")).collect();
    report("listening", &tasks);
    let mut clients: Vec<_> = tasks
        .iter()
        .map(|task| task.run(&Stdio { log: Some(log_target(task, 0, 1)), ..Stdio::default() }).0)
        .collect();
    report("running, with a log", &tasks);
    for client in &mut clients {
        exec::add(client, "e", "seq 1 10000", Stdio::default());
        client.request(Request::Start { exec: Some(exec::id("e")) }).unwrap();
        client.exit();
    }
    report("after an exec", &tasks);
    for (task, mut client) in tasks.into_iter().zip(clients) {
        client.request(Request::Kill { target: KillTarget::Init, signal: 9, call: None }).unwrap();
        client.exit();
        task.finish(client);
    }
}

fn report(stage: &str, tasks: &[Task]) {
    let mut sums: BTreeMap<String, usize> = BTreeMap::new();
    for task in tasks {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", task.shim.id())).unwrap();
        for line in text.lines().skip(1) {
            let (name, rest) = line.split_once(':').unwrap();
            let kilobytes: usize = rest.trim().trim_end_matches(" kB").parse().unwrap();
            *sums.entry(name.to_owned()).or_default() += kilobytes;
        }
    }
    let mean = |name: &str| sums[name] / tasks.len();
    eprintln!(
        "{stage}: PSS {} kB, private dirty {} kB, of {} shims",
        mean("Pss"),
        mean("Private_Dirty"),
        tasks.len()
    );
}
