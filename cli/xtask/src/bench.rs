//! `cargo xtask bench`: bosun against containerd (`ctr`), runc and crun, interleaved in one run on this machine.
//!
//! Figures are ratios of medians; every sample goes to a JSON file. Both daemons keep their state on tmpfs, both sync
//! their databases, both get the same image. Nothing is asserted: a figure that falls short is printed as it is.

mod contestants;
mod disk;
mod garbage;
mod live;
mod measure;
mod metadata;
mod pull;
mod report;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{build, packages, run};

/// How much to measure.
#[derive(Args)]
pub struct Options {
    /// Samples of each contestant where one command runs at a time.
    #[arg(long, default_value_t = 20)]
    samples: usize,
    /// Idle containers for the memory and the restart figures.
    #[arg(long, default_value_t = 100)]
    idle: usize,
    /// Cold pulls of each large image by each contestant.
    #[arg(long, default_value_t = 5)]
    pulls: usize,
    /// Seconds of each sample of metadata operations.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Objects that nothing refers to, for the figure of garbage.
    #[arg(long, default_value_t = 100_000)]
    garbage: u64,
    /// Measure this alone; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Where the JSON with all samples goes [default: <target>/bench.json].
    #[arg(long)]
    output: Option<PathBuf>,
}

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Cold pulls of large images.
    Pulls,
    /// Durable metadata operations per second.
    Metadata,
    /// Garbage collection while containers start.
    Garbage,
    /// Containers: started, run in, killed, kept.
    Everyday,
}

/// Samples at most of what takes seconds each.
const LONG_SAMPLES_MAX: usize = 5;

/// Measures everything.
pub fn run(options: &Options) -> anyhow::Result<()> {
    packages::require_root("bench")?;
    packages::ensure(&[packages::BUILD, packages::TEST, packages::BENCH])?;
    let binaries = build::release(true)?;
    let mut report = report::Report::default();
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    if wanted(Part::Pulls) && options.pulls > 0 {
        report.add_pulls(pull::figures(&binaries, options.pulls)?);
    }
    if wanted(Part::Metadata) {
        let samples = options.samples.min(LONG_SAMPLES_MAX);
        report.add_throughput(metadata::figures(&binaries, samples, options.seconds)?);
    }
    if wanted(Part::Garbage) && options.garbage > 0 {
        report.garbage = Some(garbage::figures(&binaries, options.samples, options.garbage)?);
    }
    if wanted(Part::Everyday) {
        everyday(options, binaries, &mut report)?;
    }
    let output = match &options.output {
        Some(path) => path.clone(),
        None => build::target_directory()?.join("bench.json"),
    };
    report.print(&output)
}

/// Containers: started, run in, killed, kept.
fn everyday(options: &Options, binaries: build::Binaries, report: &mut report::Report) -> anyhow::Result<()> {
    let mut contest = contestants::Contest::prepare(binaries)?;
    run::say("start to exit of /bin/true, one at a time");
    let commands = contest.true_commands();
    report.add("start_to_exit_ms", measure::interleaved(&commands, options.samples)?);

    run::say("the same, 8 at a time");
    for (name, command) in commands.iter().filter(|(name, _)| name.is_daemon()) {
        report.add_rate(*name, measure::concurrent(command, 8, options.samples.max(8) * 2)?);
    }

    run::say("exec of /bin/true in a running container");
    report.add("exec_ms", live::exec_times(&contest, options.samples)?);

    run::say("kill to the exit event at a subscriber");
    report.add("kill_to_event_ms", live::kill_times(&contest, options.samples)?);

    run::say("where our time goes: stages of one run");
    report.stages = contest.stages()?;

    run::say(&format!("memory of {} idle containers", options.idle));
    contest.start_idle(options.idle)?;
    report.memory = contest.memory()?;

    run::say("daemon start with these containers alive");
    report.add("restart_ms", contest.restart_times(options.samples.min(7), options.idle)?);
    Ok(())
}
