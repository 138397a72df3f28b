//! Named crash points.
//!
//! A point is a place where a test may end the process, make a step fail, or have it repeated. In ordinary builds every
//! call is an empty inline function. With the feature `enabled` (test builds of the daemon) the environment decides:
//!
//! - `BOSUN_FAULTS="create_task.spawn_shim.after=abort"`: comma-separated `<point>=<action>[@<n>]`; the action happens
//!   at the n-th time the point is reached (default 1), once.
//!   Actions: `abort` (as `kill -9`: no unwinding, no exit handlers), `error` (the point returns [`Injected`]), `panic`,
//!   `flag` ([`flagged`] answers true).
//! - `BOSUN_FAULTS_TRACE=<file>`: each point reached is appended as a line, so that a test can assert coverage.
//! - `BOSUN_FAULTS_CLOCK=<file>`: holds how many seconds the daemon's wall clock is off; read at each look at it ([`skew`]).
//!
//! Points of an operation's step are named `<operation>.<step>.before` and `<operation>.<step>.after`.

/// The error that an `error` action makes a point return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// The point.
    pub point: String,
}

impl std::fmt::Display for Injected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "injected fault at {}", self.point)
    }
}

impl std::error::Error for Injected {}

#[cfg(not(feature = "enabled"))]
mod imp {
    use super::Injected;

    /// Passes the point; in test builds it may abort, panic or fail here.
    #[inline(always)]
    pub fn point(_name: &str) -> Result<(), Injected> {
        Ok(())
    }

    /// Whether a test asked for the named variation (such as `undo_twice`).
    #[inline(always)]
    pub fn flagged(_name: &str) -> bool {
        false
    }

    /// By how many nanoseconds a test sets the wall clock off; `None`: it does not.
    #[inline(always)]
    pub fn skew() -> Option<fn() -> i64> {
        None
    }
}

#[cfg(feature = "enabled")]
mod imp {
    use std::collections::HashMap;
    use std::io::Write as _;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use super::Injected;

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Action {
        Abort,
        Error,
        Panic,
        Flag,
    }

    struct Plan {
        /// Point to action and the visits left before it happens.
        armed: Mutex<HashMap<String, (Action, u32)>>,
        trace: Option<Mutex<std::fs::File>>,
    }

    fn plan() -> &'static Plan {
        static PLAN: OnceLock<Plan> = OnceLock::new();
        PLAN.get_or_init(|| Plan {
            armed: Mutex::new(parse(&std::env::var("BOSUN_FAULTS").unwrap_or_default())),
            trace: open_trace(),
        })
    }

    fn open_trace() -> Option<Mutex<std::fs::File>> {
        let path = std::env::var_os("BOSUN_FAULTS_TRACE")?;
        std::fs::OpenOptions::new().create(true).append(true).open(path).ok().map(Mutex::new)
    }

    /// A malformed plan ends the process: a test that injects nothing would pass for the wrong reason.
    #[expect(clippy::panic, reason = "test builds only; see above")]
    fn parse(text: &str) -> HashMap<String, (Action, u32)> {
        text.split(',')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (point, rest) =
                    part.split_once('=').unwrap_or_else(|| panic!("BOSUN_FAULTS: {part:?} has no '='"));
                let (action, visits) = rest.split_once('@').unwrap_or((rest, "1"));
                let action = match action {
                    "abort" => Action::Abort,
                    "error" => Action::Error,
                    "panic" => Action::Panic,
                    "flag" => Action::Flag,
                    other => panic!("BOSUN_FAULTS: unknown action {other:?}"),
                };
                let visits = visits.parse().unwrap_or_else(|_| panic!("BOSUN_FAULTS: {part:?}: bad count"));
                (point.to_owned(), (action, visits))
            })
            .collect()
    }

    fn hit(name: &str) -> Option<Action> {
        let mut armed = plan().armed.lock().unwrap_or_else(PoisonError::into_inner);
        let (action, visits) = armed.get_mut(name)?;
        if *action == Action::Flag {
            return Some(Action::Flag);
        }
        *visits -= 1;
        if *visits > 0 {
            return None;
        }
        let action = *action;
        armed.remove(name);
        Some(action)
    }

    /// Passes the point; it may abort, panic or fail here.
    #[expect(clippy::panic, reason = "asked for by the test")]
    pub fn point(name: &str) -> Result<(), Injected> {
        if let Some(trace) = &plan().trace {
            let mut file = trace.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
        match hit(name) {
            None | Some(Action::Flag) => Ok(()),
            Some(Action::Abort) => std::process::abort(),
            Some(Action::Panic) => panic!("injected panic at {name}"),
            Some(Action::Error) => Err(Injected { point: name.to_owned() }),
        }
    }

    /// Whether a test asked for the named variation (such as `undo_twice`).
    pub fn flagged(name: &str) -> bool {
        hit(name) == Some(Action::Flag)
    }

    /// By how many nanoseconds a test sets the wall clock off; `None`: it does not.
    pub fn skew() -> Option<fn() -> i64> {
        clock().is_some().then_some(read_skew)
    }

    fn clock() -> Option<&'static std::path::Path> {
        static FILE: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
        FILE.get_or_init(|| std::env::var_os("BOSUN_FAULTS_CLOCK").map(Into::into)).as_deref()
    }

    /// A file that is not there yet, or is being written, is no skew.
    fn read_skew() -> i64 {
        const NANOSECONDS: i64 = 1_000_000_000;
        let text = clock().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        text.trim().parse::<i64>().unwrap_or(0).saturating_mul(NANOSECONDS)
    }
}

pub use imp::{flagged, point, skew};
