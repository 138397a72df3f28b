//! What becomes of a container that has ended: pure.
//!
//! ```text
//!            ended, the policy wants it again       the back-off is over            started
//!     Idle ───────────────────────────────▶ Waiting ────────────────▶ Relaunching ─────────▶ Idle
//!      ▲ ▲          │ too often                ▲                          │ │
//!      │ │          ▼                          └──────── failed ──────────┘ │ stopped meanwhile
//!      │ └──────  GivenUp ◀── start by a person clears it                   ▼
//!      └──────────────────────────── ended ◀──────────────────────────── Stopping ──▶ Relaunching (a restart)
//! ```
//!
//! Two memories keep an end from being forgotten or counted twice: `handled` is the task whose end was taken into account, and an attempt
//! names the task that it makes.

use std::time::Duration;

use bosun_types::Timestamp;
use bosun_types::relaunch::{RelaunchPhase, RelaunchState, RestartPolicy, RestartWhen};
use bosun_types::task::{ExitCause, ExitStatus};

/// What happened, or is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// The policy is looked at for the first time in this life of the daemon. `live`: its task is there and has not ended.
    DaemonStarted {
        /// When the daemon started.
        at: Timestamp,
        /// It need not be started.
        live: bool,
    },
    /// Its task ended.
    Ended {
        /// The task.
        task: String,
        /// How.
        exit: ExitStatus,
        /// How long it had run.
        ran: Duration,
    },
    /// The time of the phase has come.
    Due,
    /// A person wants it to run.
    Start {
        /// It does.
        live: bool,
    },
    /// A person wants it to end.
    Stop {
        /// The task, unless it has ended or there is none.
        live: Option<String>,
        /// What it is told first.
        signal: u32,
        /// From then on it is killed.
        until: Timestamp,
        /// And to run again.
        then_start: bool,
    },
    /// A person ends it by other means, or has removed its task.
    Mark {
        /// The task.
        task: Option<String>,
    },
    /// A stop has reached its end: no task lives.
    Down,
    /// It was started again.
    Relaunched,
    /// It was not, and all of it was taken back.
    Failed {
        /// Why.
        cause: String,
    },
    /// It cannot even be taken back.
    Stuck {
        /// Why.
        cause: String,
    },
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    /// What to remember.
    pub state: RelaunchState,
    /// An attempt begins now; `Some(true)`: a person wants it.
    pub relaunch: Option<bool>,
}

/// Decides. Total, without effects.
pub(crate) fn next(policy: &RestartPolicy, before: &RelaunchState, input: &Input, now: Timestamp) -> Decided {
    let mut state = before.clone();
    let mut relaunch = None;
    match input {
        Input::DaemonStarted { at, live } => {
            let first_look = state.daemon != *at;
            state.daemon = *at;
            if first_look && !live && comes_up(policy, &state) {
                forget_the_past(&mut state);
                state.phase = RelaunchPhase::Waiting { until: now };
            }
        }
        Input::Ended { task, .. } if state.handled.as_ref() == Some(task) => {}
        Input::Ended { task, exit, ran } => {
            state.handled = Some(task.clone());
            state.last_exit = Some(exit.clone());
            let was_stopped = state.stopped && state.stopped_task.as_ref().is_none_or(|it| it == task);
            if matches!(state.phase, RelaunchPhase::GivenUp { .. }) {
                // A later task: a person has started it again.
                forget_the_past(&mut state);
                state.phase = RelaunchPhase::Idle;
            }
            // Of a stop, or of an attempt, its own next input says what follows.
            if state.phase == RelaunchPhase::Idle {
                state.stopped = was_stopped;
                if !was_stopped {
                    after_end(policy, &mut state, is_failure(exit), *ran, now);
                }
            }
        }
        Input::Due => {
            if matches!(state.phase, RelaunchPhase::Waiting { .. }) {
                state.count += 1;
                state.history.push(now);
                relaunch = Some(false);
            }
        }
        Input::Start { live } => {
            forget_the_past(&mut state);
            if !live && !matches!(state.phase, RelaunchPhase::Relaunching(_)) {
                relaunch = Some(true);
            } else if matches!(state.phase, RelaunchPhase::GivenUp { .. } | RelaunchPhase::Waiting { .. }) {
                state.phase = RelaunchPhase::Idle;
            }
        }
        Input::Stop { live, signal, until, then_start } => {
            state.stopped = !then_start;
            state.stopped_task.clone_from(live);
            match (&state.phase, live) {
                // Once it is started, it is stopped.
                (RelaunchPhase::Relaunching(_), _) => state.stopped = true,
                (_, Some(_)) => {
                    state.phase =
                        RelaunchPhase::Stopping { signal: *signal, until: *until, then_start: *then_start };
                }
                (_, None) if *then_start => {
                    forget_the_past(&mut state);
                    relaunch = Some(true);
                }
                (_, None) => state.phase = RelaunchPhase::Idle,
            }
        }
        Input::Mark { task } => {
            state.stopped = true;
            state.stopped_task.clone_from(task);
            if matches!(state.phase, RelaunchPhase::Waiting { .. } | RelaunchPhase::GivenUp { .. }) {
                state.phase = RelaunchPhase::Idle;
            }
        }
        Input::Down => {
            if let RelaunchPhase::Stopping { then_start, .. } = state.phase {
                state.phase = RelaunchPhase::Idle;
                if then_start {
                    forget_the_past(&mut state);
                    relaunch = Some(true);
                }
            }
        }
        Input::Relaunched => state.phase = RelaunchPhase::Idle,
        Input::Failed { cause } => failed(policy, &mut state, cause, now),
        Input::Stuck { cause } => state.phase = RelaunchPhase::GivenUp { cause: cause.clone() },
    }
    Decided { state, relaunch }
}

/// A person's word counts from new.
fn forget_the_past(state: &mut RelaunchState) {
    state.stopped = false;
    state.stopped_task = None;
    state.count = 0;
    state.tries = 0;
    state.history.clear();
}

/// Whether a daemon that starts brings it up: it has run before, is not left alone, and is to run always, or was not stopped.
fn comes_up(policy: &RestartPolicy, state: &RelaunchState) -> bool {
    let wanted = match policy.when {
        RestartWhen::Always => true,
        RestartWhen::UnlessStopped => !state.stopped,
        RestartWhen::No | RestartWhen::OnFailure { .. } => false,
    };
    wanted && state.handled.is_some() && state.phase == RelaunchPhase::Idle
}

fn is_failure(exit: &ExitStatus) -> bool {
    exit.cause != ExitCause::Code(0)
}

fn failed(policy: &RestartPolicy, state: &mut RelaunchState, cause: &str, now: Timestamp) {
    let by_person = matches!(&state.phase, RelaunchPhase::Relaunching(attempt) if attempt.by_person);
    state.phase = RelaunchPhase::Idle;
    // Who asked is told; nobody else wants it.
    if !by_person && !state.stopped {
        after_end(policy, state, true, Duration::ZERO, now);
        if let RelaunchPhase::GivenUp { cause: why } = &mut state.phase {
            *why = format!("{why}; the last one failed: {cause}");
        }
    }
}

/// It ended, or did not even start, and nobody stopped it.
fn after_end(
    policy: &RestartPolicy,
    state: &mut RelaunchState,
    failure: bool,
    ran: Duration,
    now: Timestamp,
) {
    let wanted = match policy.when {
        RestartWhen::No => false,
        RestartWhen::OnFailure { .. } => failure,
        RestartWhen::Always | RestartWhen::UnlessStopped => true,
    };
    if !wanted {
        return;
    }
    if let RestartWhen::OnFailure { most } = policy.when
        && most > 0
        && state.count >= most
    {
        state.phase = RelaunchPhase::GivenUp {
            cause: format!("started again {most} times, as often as its policy allows"),
        };
        return;
    }
    if let Some(intensity) = policy.intensity {
        if exceeds(&mut state.history, intensity.restarts, Duration::from_millis(intensity.period_ms), now) {
            let seconds = Duration::from_millis(intensity.period_ms).as_secs_f64();
            let cause = format!("restart intensity exceeded: {} in {seconds} s", intensity.restarts);
            state.phase = RelaunchPhase::GivenUp { cause };
            return;
        }
    } else {
        state.history.clear();
    }
    if ran >= Duration::from_millis(policy.healthy_ms) {
        state.tries = 0;
    }
    let delay = backoff(policy, state.tries);
    state.tries = state.tries.saturating_add(1);
    state.phase = RelaunchPhase::Waiting { until: later(now, delay) };
}

/// Whether one more restart at `now` is one too many; forgets what the period does not reach.
pub(crate) fn exceeds(history: &mut Vec<Timestamp>, restarts: u32, period: Duration, now: Timestamp) -> bool {
    let oldest = now.0.saturating_sub(i64::try_from(period.as_nanos()).unwrap_or(i64::MAX));
    history.retain(|at| at.0 > oldest && at.0 <= now.0);
    history.len() >= usize::try_from(restarts).unwrap_or(usize::MAX)
}

/// Doubled for each end in a row, up to the cap.
fn backoff(policy: &RestartPolicy, tries: u32) -> Duration {
    let doubled =
        1_u64.checked_shl(tries).map_or(u64::MAX, |factor| policy.backoff_first_ms.saturating_mul(factor));
    Duration::from_millis(doubled.min(policy.backoff_most_ms))
}

/// `now` and `delay`.
pub(crate) fn later(now: Timestamp, delay: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
