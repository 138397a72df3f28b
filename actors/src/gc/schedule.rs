//! When to collect, as a function of values (GC-6..8): containerd's rules, so that its settings mean here what they mean there.
//!
//! ```text
//!   planned(at) ──time reached, something to do──▶ collecting ──done──▶ planned(now + interval)
//!    ▲  │ └─time reached, nothing to do─▶ resting         └─failed─▶ planned(now + last interval + 1 s)
//!    │  │                                    └─a change that makes it worth while──▶ planned(now + interval)
//!    └──┘ asked for, or over a threshold: at = now + schedule_delay if that is sooner
//! ```
//!
//! containerd looks again each interval, which after small collections is forty times a second; here an idle daemon sleeps.

use std::time::{Duration, Instant};

/// The settings, with containerd's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleOptions {
    /// Collections by themselves; without it only those that are asked for.
    pub automatic: bool,
    /// The part of the time that may go into collecting, 0 to 0.5 [default: 0.02].
    pub pause_threshold: f64,
    /// Deletions after which one is planned at once; 0: a deletion only makes the next planned one happen [default: 0].
    pub deletion_threshold: u64,
    /// Commits after which the next planned one happens without any deletion; 0: never [default: 100].
    pub mutation_threshold: u64,
    /// Between a reason and the collection [default: 0].
    pub schedule_delay: Duration,
    /// Between the daemon's start and the first one [default: 100 ms].
    pub startup_delay: Duration,
    /// How long an unfinished write that no lease holds may rest before it is forgotten [default: 24 h].
    pub ingest_expiry: Duration,
}

/// The largest part of the time that may be asked for.
const PAUSE_THRESHOLD_MAX: f64 = 0.5;
/// Before the first collection was measured.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// Added after a failure.
const FAILURE_DELAY: Duration = Duration::from_secs(1);
/// An interval is never longer: one very slow collection must not put the next off for days.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

impl Default for ScheduleOptions {
    fn default() -> Self {
        Self {
            automatic: true,
            pause_threshold: 0.02,
            deletion_threshold: 0,
            mutation_threshold: 100,
            schedule_delay: Duration::ZERO,
            startup_delay: Duration::from_millis(100),
            ingest_expiry: Duration::from_secs(24 * 3600),
        }
    }
}

/// Where the scheduler stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    options: ScheduleOptions,
    next: Option<Instant>,
    interval: Duration,
    collected_once: bool,
    /// A planned time came and there was nothing to do: the next change that is a reason plans again.
    resting: bool,
    /// Someone asked.
    triggered: bool,
    deletions: u64,
    mutations: u64,
    /// Of all collections that succeeded.
    spent: Duration,
    collections: u32,
}

/// What befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Rows changed.
    Changed { deletions: u64, mutations: u64 },
    /// Someone asks for a collection.
    Asked,
    /// The planned time was reached.
    Time,
    /// A collection began: what was counted until now is its business.
    Began,
    /// It succeeded and took so long.
    Succeeded(Duration),
    /// It failed.
    Failed,
}

impl Schedule {
    pub(crate) fn new(options: ScheduleOptions, now: Instant) -> Self {
        let planned = options.automatic && options.startup_delay > Duration::ZERO;
        Self {
            options,
            next: planned.then(|| now + options.startup_delay),
            interval: FIRST_INTERVAL,
            resting: false,
            collected_once: false,
            triggered: false,
            deletions: 0,
            mutations: 0,
            spent: Duration::ZERO,
            collections: 0,
        }
    }

    /// When the next collection is planned.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Takes an input in; `true`: collect now.
    pub(crate) fn step(&mut self, now: Instant, input: Input) -> bool {
        match input {
            Input::Changed { deletions, mutations } => {
                self.deletions += deletions;
                self.mutations += mutations;
                if self.resting && self.worthwhile() {
                    self.resting = false;
                    self.next = Some(now + self.interval);
                }
                self.plan(now);
                false
            }
            Input::Asked => {
                self.triggered = true;
                self.plan(now);
                false
            }
            Input::Time => {
                let due = self.next.is_some_and(|next| next <= now);
                if due && !self.worthwhile() {
                    (self.resting, self.next) = (true, None);
                    return false;
                }
                due
            }
            Input::Began => {
                (self.triggered, self.deletions, self.mutations) = (false, 0, 0);
                (self.resting, self.next) = (false, None);
                false
            }
            Input::Succeeded(took) => {
                self.collected_once = true;
                self.spent += took;
                self.collections += 1;
                self.interval = interval(self.spent / self.collections, self.options.pause_threshold);
                self.after(now, self.interval);
                false
            }
            Input::Failed => {
                self.after(now, self.interval + FAILURE_DELAY);
                false
            }
        }
    }

    /// GC-7: a tick without a deletion and below the mutation threshold is skipped.
    fn worthwhile(&self) -> bool {
        let ScheduleOptions { mutation_threshold, .. } = self.options;
        self.triggered
            || !self.collected_once
            || self.deletions > 0
            || (mutation_threshold > 0 && self.mutations >= mutation_threshold)
    }

    fn after(&mut self, now: Instant, delay: Duration) {
        self.next = self.options.automatic.then(|| now + delay);
        self.plan(now);
    }

    /// GC-8: over a threshold, or asked for, it is sooner than planned.
    fn plan(&mut self, now: Instant) {
        let ScheduleOptions { deletion_threshold, mutation_threshold, schedule_delay, automatic, .. } =
            self.options;
        let unplanned = self.next.is_none()
            && ((deletion_threshold == 0 && self.deletions > 0)
                || (mutation_threshold > 0 && self.mutations >= mutation_threshold));
        let over = (deletion_threshold > 0 && self.deletions >= deletion_threshold) || unplanned;
        let soon = now + schedule_delay;
        if (self.triggered || (automatic && over)) && self.next.is_none_or(|next| next > soon) {
            self.next = Some(soon);
        }
    }
}

/// GC-7: so that collecting takes its part of the time and no more.
fn interval(mean: Duration, pause_threshold: f64) -> Duration {
    let part = pause_threshold.clamp(0.0, PAUSE_THRESHOLD_MAX);
    if part <= 0.0 {
        return FIRST_INTERVAL;
    }
    let seconds = mean.as_secs_f64() / part - mean.as_secs_f64();
    Duration::try_from_secs_f64(seconds).unwrap_or(INTERVAL_MAX).min(INTERVAL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const DELETED: Input = Input::Changed { deletions: 1, mutations: 1 };

    /// One whose first collection, of 10 ms, ended at `now`.
    fn warm(options: ScheduleOptions, now: Instant) -> Schedule {
        let mut schedule = Schedule::new(options, now);
        schedule.step(now, Input::Began);
        schedule.step(now, Input::Succeeded(MS(10)));
        schedule
    }

    #[test]
    fn gc_6_the_first_one_comes_after_the_startup_delay() {
        let now = Instant::now();
        let mut schedule = Schedule::new(ScheduleOptions::default(), now);
        assert_eq!(schedule.next(), Some(now + MS(100)));
        assert!(!schedule.step(now + MS(99), Input::Time));
        assert!(schedule.step(now + MS(100), Input::Time));
    }

    #[test]
    fn gc_7_the_interval_follows_the_mean_time() {
        let now = Instant::now();
        let mut schedule = warm(ScheduleOptions::default(), now);
        // 10 ms are a fiftieth of 500 ms.
        assert_eq!(schedule.next(), Some(now + MS(490)));
        schedule.step(now, Input::Began);
        schedule.step(now, Input::Succeeded(MS(30)));
        assert_eq!(schedule.next(), Some(now + MS(980)), "the mean of both");
        schedule.step(now, Input::Began);
        schedule.step(now, Input::Failed);
        assert_eq!(schedule.next(), Some(now + MS(1980)), "a second more after a failure");
    }

    #[test]
    fn gc_6_the_pause_threshold_has_a_cap() {
        assert_eq!(interval(MS(10), 0.9), MS(10));
        assert_eq!(interval(MS(10), 0.0), FIRST_INTERVAL);
        assert_eq!(interval(Duration::from_secs(1_000_000), 0.02), INTERVAL_MAX);
    }

    #[test]
    fn gc_7_a_tick_without_work_is_put_off() {
        let now = Instant::now();
        let mut schedule = warm(ScheduleOptions::default(), now);
        let due = now + MS(490);
        schedule.step(now, Input::Changed { deletions: 0, mutations: 99 });
        assert!(!schedule.step(due, Input::Time));
        assert_eq!(schedule.next(), None, "an idle daemon sleeps");
        schedule.step(due, Input::Changed { deletions: 0, mutations: 0 });
        assert_eq!(schedule.next(), None);
        schedule.step(due, Input::Changed { deletions: 0, mutations: 1 });
        assert_eq!(schedule.next(), Some(due + MS(490)));
        assert!(schedule.step(due + MS(490), Input::Time), "the hundredth mutation");
    }

    #[test]
    fn gc_8_after_a_rest_a_deletion_plans_the_next_and_who_asks_waits_for_nothing() {
        let now = Instant::now();
        let mut schedule = warm(ScheduleOptions::default(), now);
        let due = now + MS(490);
        assert!(!schedule.step(due, Input::Time));
        schedule.step(due + MS(5), DELETED);
        assert_eq!(schedule.next(), Some(due + MS(495)), "no sooner than its part of the time allows");
        let mut schedule = warm(ScheduleOptions::default(), now);
        assert!(!schedule.step(due, Input::Time));
        schedule.step(due, Input::Asked);
        assert!(schedule.step(due, Input::Time));
    }

    #[test]
    fn gc_8_a_deletion_makes_the_next_tick_count() {
        let now = Instant::now();
        let mut schedule = warm(ScheduleOptions::default(), now);
        schedule.step(now, DELETED);
        assert_eq!(schedule.next(), Some(now + MS(490)), "not sooner");
        assert!(schedule.step(now + MS(490), Input::Time));
    }

    #[test]
    fn gc_8_a_deletion_threshold_makes_it_come_at_once() {
        let now = Instant::now();
        let options =
            ScheduleOptions { deletion_threshold: 2, schedule_delay: MS(5), ..ScheduleOptions::default() };
        let mut schedule = warm(options, now);
        schedule.step(now, DELETED);
        assert_eq!(schedule.next(), Some(now + MS(490)));
        schedule.step(now, DELETED);
        assert_eq!(schedule.next(), Some(now + MS(5)));
    }

    #[test]
    fn gc_9_who_asks_waits_for_nothing_else() {
        let now = Instant::now();
        let mut schedule = warm(ScheduleOptions { automatic: false, ..ScheduleOptions::default() }, now);
        schedule.step(now, DELETED);
        assert_eq!(schedule.next(), None, "none by itself");
        schedule.step(now, Input::Asked);
        assert!(schedule.step(now, Input::Time));
        schedule.step(now, Input::Began);
        schedule.step(now, Input::Asked);
        schedule.step(now, Input::Succeeded(MS(1)));
        assert_eq!(
            schedule.next(),
            Some(now),
            "asked while one went on: it may have looked too early, so one more"
        );
    }
}
