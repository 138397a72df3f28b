//! What to do when a child has ended: pure, one small clause each.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// What else restarts with a failed child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// It alone.
    OneForOne,
    /// All.
    OneForAll,
    /// It and those started after it.
    RestForOne,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
        })
    }
}

/// When a child comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartType {
    /// Always.
    Permanent,
    /// After an abnormal end only.
    Transient,
    /// Never.
    Temporary,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, in order.
    Normal,
    /// By panic, error or kill.
    Abnormal,
}

/// At most `restarts` within `period`; one more is too many. OTP's default is 1 in 5 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts allowed.
    pub restarts: usize,
    /// In this time.
    pub period: Duration,
}

impl Intensity {
    /// `restarts` within `seconds`.
    pub const fn new(restarts: usize, seconds: u64) -> Self {
        Self { restarts, period: Duration::from_secs(seconds) }
    }

    /// Counts a restart at `now`; false when that is one too many.
    pub fn count(&self, history: &mut VecDeque<Instant>, now: Instant) -> bool {
        history.push_back(now);
        while history.front().is_some_and(|first| now.duration_since(*first) > self.period) {
            history.pop_front();
        }
        history.len() <= self.restarts
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is over; a temporary child is forgotten, another stays listed as stopped.
    Let { forget: bool },
    /// Stop these in reverse order (those that still run), then start them in order. Positions in the child list.
    Restart(Vec<usize>),
    /// The supervisor ends abnormally; its own supervisor decides.
    Escalate,
    /// This child alone is left alone, visible with its cause.
    Park,
}

/// OTP's table. `allowed`: the intensity is not exceeded by this restart.
pub fn decide(
    strategy: Strategy,
    dynamic: bool,
    restart: RestartType,
    exit: Exit,
    child: usize,
    children: usize,
    allowed: bool,
) -> Decision {
    match (restart, exit) {
        (RestartType::Temporary, _) => Decision::Let { forget: true },
        (RestartType::Transient, Exit::Normal) => Decision::Let { forget: dynamic },
        (RestartType::Transient, Exit::Abnormal) | (RestartType::Permanent, _) if allowed => {
            Decision::Restart(affected(strategy, child, children))
        }
        (RestartType::Transient | RestartType::Permanent, _) if dynamic => Decision::Park,
        (RestartType::Transient | RestartType::Permanent, _) => Decision::Escalate,
    }
}

/// Whether an end asks for a restart, and so counts.
pub fn counts(restart: RestartType, exit: Exit) -> bool {
    match (restart, exit) {
        (RestartType::Permanent, _) | (RestartType::Transient, Exit::Abnormal) => true,
        (RestartType::Transient, Exit::Normal) | (RestartType::Temporary, _) => false,
    }
}

fn affected(strategy: Strategy, child: usize, children: usize) -> Vec<usize> {
    match strategy {
        Strategy::OneForOne => vec![child],
        Strategy::OneForAll => (0..children).collect(),
        Strategy::RestForOne => (child..children).collect(),
    }
}
