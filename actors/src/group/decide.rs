//! What a group does next: pure. It looks at its members as they are and at what it was about to do, and gives one act at a time, so that
//! the same function goes on after a kill at any instant.
//!
//! ```text
//!               start                 all started           a member ended: the supervisor's decide()
//!   Stopped ────────────▶ Starting ──────────────▶ Up ──────────────┬──▶ Starting (those to be restarted; what is there of them goes first)
//!      ▲ ▲                    │  ▲                  │               └──▶ Stopping, with the cause (over the intensity)
//!      │ │     start failing  │  └──────────────────┘
//!      │ │     too often      ▼
//!      │ └──── stop ────── Stopping ──▶ Failed ──▶ Starting (a person's start, counting from new)
//!      └──────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use bosun_types::group::{GroupPhase, GroupSpec, GroupState, GroupStrategy, MemberRestart, Round};
use bosun_types::task::{ExitCause, ExitStatus};
use bosun_types::{Result, Timestamp};

use crate::relaunch::exceeds;
use crate::supervisor::{Decision, Exit, RestartType, Strategy, counts, decide};

/// A member as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// There is nothing of it.
    Absent,
    /// On its way up or down.
    Busy,
    /// It runs, as this incarnation.
    Up(String),
    /// This incarnation of it has ended.
    Ended {
        /// Which.
        incarnation: String,
        /// How.
        exit: Exit,
        /// A person stopped it: no failure.
        by_person: bool,
        /// How, for people.
        words: String,
    },
}

/// What is to be done; its outcome shows in what is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Start this member.
    Start(u32),
    /// Stop this one.
    Stop(u32),
}

/// An act and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActDone {
    pub(super) act: Act,
    pub(super) result: Result<()>,
}

/// An end, for people.
pub(super) fn exit_words(exit: &ExitStatus) -> String {
    match &exit.cause {
        ExitCause::Code(code) => format!("ended with code {code}"),
        ExitCause::Signal(signal) => format!("ended by signal {signal}"),
        ExitCause::Unknown(why) => format!("ended unseen ({why})"),
    }
}

/// What others are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Every member was started.
    Up,
    /// This member's end has these started again.
    Restarting {
        /// Whose end.
        member: u32,
        /// Which.
        members: Vec<u32>,
        /// How it ended.
        cause: String,
    },
    /// Down by a person's wish.
    Stopped,
    /// Down because of this.
    Failed(String),
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    /// What to remember, before the act.
    pub state: GroupState,
    /// What to do.
    pub act: Option<Act>,
    /// Something is on its way that will not be told: look again soon.
    pub look_again: bool,
    /// What others are told.
    pub news: Vec<News>,
}

enum Turn {
    Again,
    Act(Act),
    Busy,
    Rest,
}

/// What a change of the phase decides, in a word: the crash point at its commit is named by it.
pub(super) const fn word(before: &GroupPhase, after: &GroupPhase) -> &'static str {
    use GroupPhase as P;
    match (before, after) {
        (P::Stopped | P::Failed { .. }, P::Starting(_)) => "start",
        (P::Starting(_), P::Up) => "up",
        (P::Up, P::Starting(_)) => "restart",
        (P::Starting(_) | P::Up, P::Stopping { failure: None }) => "stop",
        (P::Starting(_) | P::Up, P::Stopping { failure: Some(_) }) => "escalate",
        (_, P::Stopped) => "down",
        (_, P::Failed { .. }) => "failed",
        _ => "progress",
    }
}

/// Decides; `seen` has one entry for each member, in order.
pub(crate) fn next(spec: &GroupSpec, before: &GroupState, seen: &[Seen], now: Timestamp) -> Decided {
    let (mut state, mut news) = (before.clone(), Vec::new());
    // Each turn takes one end into account, starts a member's count, or changes the phase: it ends.
    let (act, look_again) = loop {
        match turn(spec, &mut state, seen, now, &mut news) {
            Turn::Again => {}
            Turn::Act(act) => break (Some(act), false),
            Turn::Busy => break (None, true),
            Turn::Rest => break (None, false),
        }
    };
    Decided { state, act, look_again, news }
}

fn turn(
    spec: &GroupSpec,
    state: &mut GroupState,
    seen: &[Seen],
    now: Timestamp,
    news: &mut Vec<News>,
) -> Turn {
    match &mut state.phase {
        GroupPhase::Stopped | GroupPhase::Failed { .. } => Turn::Rest,
        GroupPhase::Starting(round) => match start(round, seen) {
            Some(turn) => turn,
            None => {
                state.phase = GroupPhase::Up;
                news.push(News::Up);
                Turn::Again
            }
        },
        GroupPhase::Up => watch(spec, state, seen, now, news),
        GroupPhase::Stopping { failure } => {
            let failure = failure.clone();
            if let Some(turn) = stop(seen) {
                return turn;
            }
            note_ends(state, seen);
            match failure {
                None => {
                    state.phase = GroupPhase::Stopped;
                    news.push(News::Stopped);
                }
                Some(cause) => {
                    state.phase = GroupPhase::Failed { cause: cause.clone() };
                    news.push(News::Failed(cause));
                }
            }
            Turn::Rest
        }
    }
}

fn at(seen: &[Seen], position: u32) -> &Seen {
    const NOTHING: &Seen = &Seen::Absent;
    usize::try_from(position).ok().and_then(|index| seen.get(index)).unwrap_or(NOTHING)
}

fn positions(seen: &[Seen]) -> impl DoubleEndedIterator<Item = u32> + use<> {
    0..u32::try_from(seen.len()).unwrap_or(u32::MAX)
}

/// What was there goes, last first; then each is started, in order. `None`: all have been.
fn start(round: &mut Round, seen: &[Seen]) -> Option<Turn> {
    if round.started == 0 {
        let mut to_stop: Vec<u32> = round.members.iter().chain(&round.stop_only).copied().collect();
        to_stop.sort_unstable();
        for position in to_stop.into_iter().rev() {
            match at(seen, position) {
                Seen::Busy => return Some(Turn::Busy),
                Seen::Up(incarnation) if round.before.get(&position) == Some(incarnation) => {
                    return Some(Turn::Act(Act::Stop(position)));
                }
                Seen::Up(_) | Seen::Absent | Seen::Ended { .. } => {}
            }
        }
    }
    let position = *round.members.get(usize::try_from(round.started).ok()?)?;
    let is_new = |incarnation: &String| round.before.get(&position) != Some(incarnation);
    Some(match at(seen, position) {
        Seen::Busy => Turn::Busy,
        // Ended again already: that is taken into account when the group is up.
        Seen::Up(incarnation) | Seen::Ended { incarnation, .. } if is_new(incarnation) => {
            round.started += 1;
            Turn::Again
        }
        Seen::Up(_) | Seen::Ended { .. } | Seen::Absent => Turn::Act(Act::Start(position)),
    })
}

/// The last that runs is stopped. `None`: none does.
fn stop(seen: &[Seen]) -> Option<Turn> {
    for position in positions(seen).rev() {
        match at(seen, position) {
            Seen::Busy => return Some(Turn::Busy),
            Seen::Up(_) => return Some(Turn::Act(Act::Stop(position))),
            Seen::Absent | Seen::Ended { .. } => {}
        }
    }
    None
}

fn note_ends(state: &mut GroupState, seen: &[Seen]) {
    for position in positions(seen) {
        if let Seen::Ended { incarnation, .. } = at(seen, position) {
            state.handled.insert(position, incarnation.clone());
        }
    }
}

fn watch(
    spec: &GroupSpec,
    state: &mut GroupState,
    seen: &[Seen],
    now: Timestamp,
    news: &mut Vec<News>,
) -> Turn {
    let fresh = positions(seen).find_map(|position| match at(seen, position) {
        Seen::Ended { incarnation, exit, by_person, words }
            if state.handled.get(&position) != Some(incarnation) =>
        {
            Some((position, incarnation, *exit, *by_person, words))
        }
        _ => None,
    });
    let Some((position, incarnation, exit, by_person, words)) = fresh else { return Turn::Rest };
    let restart = restart_type(spec, position);
    if by_person || !counts(restart, exit) {
        state.handled.insert(position, incarnation.clone());
        return Turn::Again;
    }
    let index = usize::try_from(position).unwrap_or(usize::MAX);
    let allowed = !over_intensity(spec, state, now);
    match decide(strategy(spec.strategy), false, restart, exit, index, seen.len(), allowed) {
        Decision::Let { .. } | Decision::Park => {
            state.handled.insert(position, incarnation.clone());
            Turn::Again
        }
        Decision::Restart(affected) => {
            let affected: Vec<u32> =
                affected.into_iter().filter_map(|index| u32::try_from(index).ok()).collect();
            if affected.iter().any(|position| *at(seen, *position) == Seen::Busy) {
                return Turn::Busy;
            }
            let is_temporary = |position: &u32| restart_type(spec, *position) == RestartType::Temporary;
            let (stop_only, members): (Vec<u32>, Vec<u32>) = affected.iter().copied().partition(is_temporary);
            let before = incarnations(&affected, seen);
            state.handled.extend(before.clone());
            state.history.push(now);
            state.restarts = state.restarts.saturating_add(1);
            news.push(News::Restarting { member: position, members: members.clone(), cause: words.clone() });
            state.phase = GroupPhase::Starting(Round { members, stop_only, before, started: 0 });
            Turn::Again
        }
        Decision::Escalate => {
            let name = usize::try_from(position).ok().and_then(|index| spec.members.get(index));
            let name = name.map_or_else(String::new, |member| member.name.to_string());
            state.phase = GroupPhase::Stopping { failure: Some(too_often(spec, &format!("{name} {words}"))) };
            Turn::Again
        }
    }
}

fn incarnations(members: &[u32], seen: &[Seen]) -> BTreeMap<u32, String> {
    members
        .iter()
        .filter_map(|position| match at(seen, *position) {
            Seen::Up(incarnation) | Seen::Ended { incarnation, .. } => Some((*position, incarnation.clone())),
            Seen::Absent | Seen::Busy => None,
        })
        .collect()
}

fn over_intensity(spec: &GroupSpec, state: &mut GroupState, now: Timestamp) -> bool {
    let period = Duration::from_millis(spec.intensity.period_ms);
    exceeds(&mut state.history, spec.intensity.restarts, period, now)
}

fn too_often(spec: &GroupSpec, last: &str) -> String {
    let seconds = Duration::from_millis(spec.intensity.period_ms).as_secs_f64();
    format!("restart intensity exceeded ({} in {seconds} s); at last: {last}", spec.intensity.restarts)
}

/// A member could not be started: counted like an end, tried again until that is too often.
pub(crate) fn start_failed(spec: &GroupSpec, before: &GroupState, cause: &str, now: Timestamp) -> GroupState {
    let mut state = before.clone();
    if matches!(state.phase, GroupPhase::Starting(_)) {
        if over_intensity(spec, &mut state, now) {
            state.phase = GroupPhase::Stopping { failure: Some(too_often(spec, cause)) };
        } else {
            state.history.push(now);
            state.restarts = state.restarts.saturating_add(1);
        }
    }
    state
}

/// A person starts it, counting from new. What runs already stays.
pub(crate) fn begin(spec: &GroupSpec, before: &GroupState, seen: &[Seen], boot_id: &str) -> GroupState {
    let mut state = before.clone();
    if matches!(state.phase, GroupPhase::Stopped | GroupPhase::Failed { .. }) {
        state.restarts = 0;
        start_all(spec, &mut state, seen, boot_id);
    }
    state
}

/// The first look on a boot: what was up comes up again, and what the reboot ended is no failure.
pub(crate) fn after_boot(spec: &GroupSpec, before: &GroupState, seen: &[Seen], boot_id: &str) -> GroupState {
    let mut state = before.clone();
    if state.boot_id != boot_id && matches!(state.phase, GroupPhase::Up | GroupPhase::Starting(_)) {
        start_all(spec, &mut state, seen, boot_id);
    }
    state
}

fn start_all(spec: &GroupSpec, state: &mut GroupState, seen: &[Seen], boot_id: &str) {
    let members: Vec<u32> = (0..u32::try_from(spec.members.len()).unwrap_or(u32::MAX)).collect();
    let mut before = incarnations(&members, seen);
    before.retain(|position, _| matches!(at(seen, *position), Seen::Ended { .. }));
    state.handled.extend(before.clone());
    state.history.clear();
    state.generation += 1;
    boot_id.clone_into(&mut state.boot_id);
    state.phase = GroupPhase::Starting(Round { members, stop_only: Vec::new(), before, started: 0 });
}

/// A person stops it.
pub(crate) fn end(before: &GroupState) -> GroupState {
    let phase = match &before.phase {
        GroupPhase::Stopped | GroupPhase::Failed { .. } => GroupPhase::Stopped,
        GroupPhase::Starting(_) | GroupPhase::Up | GroupPhase::Stopping { .. } => {
            GroupPhase::Stopping { failure: None }
        }
    };
    GroupState { phase, ..before.clone() }
}

fn restart_type(spec: &GroupSpec, position: u32) -> RestartType {
    let member = usize::try_from(position).ok().and_then(|index| spec.members.get(index));
    match member.map(|member| member.restart) {
        Some(MemberRestart::Permanent) => RestartType::Permanent,
        Some(MemberRestart::Transient) => RestartType::Transient,
        Some(MemberRestart::Temporary) | None => RestartType::Temporary,
    }
}

fn strategy(strategy: GroupStrategy) -> Strategy {
    match strategy {
        GroupStrategy::OneForOne => Strategy::OneForOne,
        GroupStrategy::OneForAll => Strategy::OneForAll,
        GroupStrategy::RestForOne => Strategy::RestForOne,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
