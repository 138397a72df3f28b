//! What is done to a container that runs: an exec from the command to its end, a kill from the command to the exit event at a subscriber.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::contestants::{Contest, Name};
use super::measure::{self, Maker, Samples};
use crate::run;

/// How long an event may take until the run is given up.
const EVENT_DEADLINE: Duration = Duration::from_secs(20);
/// The container that execs run in.
const HOST: &str = "exec-host";

/// `exec … /bin/true` in one running container of each daemon, client process included.
pub fn exec_times(contest: &Contest, samples: usize) -> anyhow::Result<Vec<(Name, Samples)>> {
    contest.start_sleeper(HOST)?;
    let bosun = template(&contest.bosun(&["exec", HOST, "/bin/true"]));
    let ctr = template(&contest.ctr(&["task", "exec"]));
    let commands: Vec<(Name, Maker)> = vec![
        (Name::Bosun, Box::new(move |_| bosun.command())),
        (
            Name::Containerd,
            Box::new(move |number| {
                let mut command = ctr.command();
                command.args(["--exec-id", &format!("exec-{number}"), HOST, "/bin/true"]);
                command
            }),
        ),
    ];
    let result = measure::interleaved(&commands, samples);
    contest.remove_sleeper(HOST)?;
    result
}

/// From the start of the kill command until a subscriber has the line of the exit.
pub fn kill_times(contest: &Contest, samples: usize) -> anyhow::Result<Vec<(Name, Samples)>> {
    let ours = Subscriber::start(contest.bosun(&["events", "--topic", "/tasks/exit"]))?;
    let theirs = Subscriber::start(contest.ctr(&["events", "topic==\"/tasks/exit\""]))?;
    // Each has seen one exit before the clock runs: only then is it known to be subscribed.
    ours.warm_up(|| run::output(&mut contest.bosun(&contest.true_words(Name::Bosun, ""))).map(drop))?;
    let mut number = 0;
    theirs.warm_up(|| {
        number += 1;
        let id = format!("warm-{number}");
        run::output(&mut contest.ctr(&contest.true_words(Name::Containerd, &id))).map(drop)
    })?;
    let (mut bosun, mut containerd) = (Vec::new(), Vec::new());
    for number in 0..samples {
        let id = format!("kill-{number}");
        contest.start_sleeper(&id)?;
        bosun.push(ours.time(&mut contest.bosun(&["kill", "--signal", "KILL", &id]), &id)?);
        containerd.push(theirs.time(&mut contest.ctr(&["task", "kill", "--signal", "SIGKILL", &id]), &id)?);
        contest.remove_sleeper(&id)?;
    }
    Ok(vec![(Name::Bosun, bosun), (Name::Containerd, containerd)])
}

/// Program and arguments of a command, to be made again.
struct Template(Vec<std::ffi::OsString>);

/// A command is used up by running it; this makes it again.
fn template(command: &Command) -> Template {
    Template(std::iter::once(command.get_program()).chain(command.get_args()).map(Into::into).collect())
}

impl Template {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]);
        command
    }
}

/// A process that prints events, and its lines with the time they came.
struct Subscriber {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Subscriber {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = child.stdout.take().context("no output of the subscriber")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Makes exits until one is seen.
    fn warm_up(&self, mut exit: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < EVENT_DEADLINE {
            exit()?;
            if self.lines.recv_timeout(Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
        }
        bail!("no event reached the subscriber in {EVENT_DEADLINE:?}")
    }

    /// Milliseconds from the start of the command to the line that names the container.
    fn time(&self, command: &mut Command, id: &str) -> anyhow::Result<f64> {
        let begin = Instant::now();
        run::output(command)?;
        let mark = format!("\"{id}\"");
        loop {
            let (at, line) = self.lines.recv_timeout(EVENT_DEADLINE).context("no exit event came")?;
            if line.contains(&mark) {
                return Ok(at.saturating_duration_since(begin).as_secs_f64() * 1e3);
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
