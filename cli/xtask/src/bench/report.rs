//! The figures: a table for people, every sample as JSON for machines.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::contestants::{Memory, Name};
use super::measure::{Figure, Samples};

/// Everything measured.
#[derive(Default, Serialize)]
pub struct Report {
    /// Samples in milliseconds by figure and contestant.
    samples: BTreeMap<String, Vec<(Name, Samples)>>,
    /// Operations per second by figure and contestant: more is better.
    throughput: Vec<Figure>,
    /// A collection while containers start.
    pub garbage: Option<super::garbage::Figures>,
    /// Containers per second, 8 at a time.
    rates: Vec<(Name, f64)>,
    /// Where our time goes, in microseconds.
    pub stages: Vec<(String, u64)>,
    /// Ten pulls of one image at once, in pulls of one.
    ten_to_one: Vec<(Name, f64)>,
    /// Largest resident kilobytes of a daemon that pulls.
    pull_peaks: Vec<(Name, u64)>,
    /// By group of processes.
    pub memory: Vec<(String, Memory)>,
}

impl Report {
    /// Adds a figure.
    pub fn add(&mut self, figure: &str, samples: Vec<(Name, Samples)>) {
        self.samples.insert(figure.to_owned(), samples);
    }

    /// Adds what pulls took.
    pub fn add_pulls(&mut self, figures: super::pull::Figures) {
        self.samples.extend(figures.times);
        self.ten_to_one = figures.ten_to_one;
        self.pull_peaks = figures.peaks;
    }

    /// Adds rates with their samples.
    pub fn add_throughput(&mut self, figures: Vec<Figure>) {
        self.throughput.extend(figures);
    }

    /// Adds a rate.
    pub fn add_rate(&mut self, name: Name, rate: f64) {
        self.rates.push((name, rate));
    }

    /// Prints the table and writes the file.
    #[expect(clippy::print_stdout, reason = "the command's output")]
    pub fn print(&self, output: &Path) -> anyhow::Result<()> {
        for (figure, contestants) in &self.samples {
            print_samples(figure, contestants);
        }
        for (figure, contestants) in &self.throughput {
            print_samples(figure, contestants);
        }
        for ((name, ratio), (_, peak)) in self.ten_to_one.iter().zip(&self.pull_peaks) {
            println!(
                "{:<12} ten pulls at once take {ratio:.2} of one; peak while pulling {peak} kB",
                format!("{name:?}")
            );
        }
        if let Some(garbage) = &self.garbage {
            print_garbage(garbage);
        }
        if !self.rates.is_empty() {
            self.print_everyday();
        }
        std::fs::write(output, serde_json::to_vec_pretty(self)?)?;
        println!("all samples: {}", output.display());
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "the command's output")]
    fn print_everyday(&self) {
        let ours = self.rates.first().map_or(f64::NAN, |(_, rate)| *rate);
        println!("8 at a time, containers per second");
        for (name, rate) in &self.rates {
            println!("  {:<12} {rate:>8.1}/s  ours/theirs {:.2}", format!("{name:?}"), ours / rate);
        }
        println!("stages of one run, microseconds");
        for (stage, micros) in &self.stages {
            println!("  {stage:<44} {micros:>8}");
        }
        println!("memory, kB");
        for (group, memory) in &self.memory {
            let each = |total: u64| total / u64::try_from(memory.processes.max(1)).unwrap_or(1);
            println!(
                "  {group:<18} {:>4} processes  PSS {:>8} ({} each)  private dirty {:>8} ({} each)  resident {:>8}",
                memory.processes,
                memory.pss_kb,
                each(memory.pss_kb),
                memory.private_dirty_kb,
                each(memory.private_dirty_kb),
                memory.rss_kb
            );
        }
    }
}

/// Milliseconds or rates of one figure, with our median against each.
#[expect(clippy::print_stdout, reason = "the command's output")]
fn print_samples(figure: &str, contestants: &[(Name, Samples)]) {
    let ours = contestants.first().map_or(f64::NAN, |(_, samples)| median(samples));
    println!("{figure}");
    for (name, samples) in contestants {
        let (low, high) = (extreme(samples, f64::min), extreme(samples, f64::max));
        let mid = median(samples);
        println!(
            "  {:<12} median {mid:>8.1}  min {low:>8.1}  max {high:>8.1}  ours/theirs {:.2}",
            format!("{name:?}"),
            ours / mid
        );
    }
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn print_garbage(garbage: &super::garbage::Figures) {
    println!("collection of {} objects: {:.0} ms; {}", garbage.objects, garbage.collection_ms, garbage.said);
    for (when, samples) in [("before", &garbage.starts_before_ms), ("during", &garbage.starts_during_ms)] {
        println!(
            "  start to exit {when:<7} median {:>8.1}  max {:>8.1}  of {}",
            median(samples),
            extreme(samples, f64::max),
            samples.len()
        );
    }
    let ratio = median(&garbage.starts_during_ms) / median(&garbage.starts_before_ms);
    println!("  during/before {ratio:.2}");
}

pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn extreme(samples: &[f64], pick: fn(f64, f64) -> f64) -> f64 {
    samples.iter().copied().fold(f64::NAN, pick)
}
