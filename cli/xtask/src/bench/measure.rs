//! Timing of whole processes.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::bail;

use super::contestants::Name;

/// Makes the n-th command of a contestant.
pub type Maker = Box<dyn Fn(usize) -> Command + Sync + Send>;

/// Samples in milliseconds.
pub type Samples = Vec<f64>;

/// A figure with the samples of each contestant; ours first.
pub type Figure = (String, Vec<(Name, Samples)>);

/// Unique numbers for container names over the whole run.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// One warm-up each, then A B C A B C …, so that a drift of the machine hits all alike.
pub fn interleaved(commands: &[(Name, Maker)], samples: usize) -> anyhow::Result<Vec<(Name, Samples)>> {
    let mut all: Vec<(Name, Samples)> = commands.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for round in 0..=samples {
        for (index, (_, maker)) in commands.iter().enumerate() {
            let elapsed = once(maker)?;
            if round > 0 {
                all[index].1.push(elapsed);
            }
        }
    }
    Ok(all)
}

/// `jobs` at a time until `total` are done; gives the rate per second.
pub fn concurrent(maker: &Maker, jobs: usize, total: usize) -> anyhow::Result<f64> {
    let left = AtomicUsize::new(total);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| {
                    while left
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                        .is_ok()
                    {
                        once(maker)?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })?;
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let total = total as f64;
    Ok(total / begin.elapsed().as_secs_f64())
}

/// Wall time of one command in milliseconds; it must succeed, or the figure would be of a failure.
pub fn once(maker: &Maker) -> anyhow::Result<f64> {
    let mut command = maker(NUMBER.fetch_add(1, Ordering::SeqCst));
    let begin = Instant::now();
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let elapsed = begin.elapsed().as_secs_f64() * 1e3;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(elapsed)
}
