//! The table of policies, and what holds for every sequence of inputs.

use bosun_types::OperationId;
use bosun_types::relaunch::{Attempt, RestartIntensity};
use proptest::prelude::*;

use super::*;

const T0: Timestamp = Timestamp(1_000_000_000_000);

fn policy(text: &str) -> RestartPolicy {
    RestartPolicy::new(text.parse().unwrap())
}

fn exit(cause: ExitCause) -> ExitStatus {
    ExitStatus { cause, exited_at: T0 }
}

fn ended(task: &str, code: u8) -> Input {
    Input::Ended { task: task.to_owned(), exit: exit(ExitCause::Code(code)), ran: Duration::ZERO }
}

fn attempt(by_person: bool) -> RelaunchPhase {
    let (operation, old, nonce) = (OperationId(1), None, "n".to_owned());
    RelaunchPhase::Relaunching(Attempt { operation, old, nonce, by_person })
}

fn step(policy: &RestartPolicy, state: &RelaunchState, input: &Input) -> RelaunchState {
    next(policy, state, input, T0).state
}

fn waits(state: &RelaunchState) -> bool {
    matches!(state.phase, RelaunchPhase::Waiting { .. })
}

#[test]
fn rst_1_which_end_asks_for_a_relaunch() {
    let signal = |task: &str| Input::Ended {
        task: task.to_owned(),
        exit: exit(ExitCause::Signal(9)),
        ran: Duration::ZERO,
    };
    let unknown = Input::Ended {
        task: "a".to_owned(),
        exit: exit(ExitCause::Unknown("rebooted".to_owned())),
        ran: Duration::ZERO,
    };
    // Policy; after code 0, code 1, a signal, an unseen end.
    for (text, wanted) in [
        ("no", [false; 4]),
        ("on-failure", [false, true, true, true]),
        ("on-failure:2", [false, true, true, true]),
        ("always", [true; 4]),
        ("unless-stopped", [true; 4]),
    ] {
        let inputs = [ended("a", 0), ended("a", 1), signal("a"), unknown.clone()];
        for (input, wanted) in inputs.iter().zip(wanted) {
            let after = step(&policy(text), &RelaunchState::default(), input);
            assert_eq!(waits(&after), wanted, "{text} after {input:?}");
            assert_eq!(after.handled.as_deref(), Some("a"));
        }
    }
}

#[test]
fn an_end_counts_once() {
    let always = policy("always");
    let once = step(&always, &RelaunchState::default(), &ended("a", 1));
    assert_eq!(step(&always, &once, &ended("a", 1)), once);
}

#[test]
fn the_back_off_doubles_up_to_its_cap_and_begins_anew_after_a_healthy_life() {
    let always = policy("always");
    let mut state = RelaunchState::default();
    let mut delays = Vec::new();
    for round in 0..12 {
        state.phase = RelaunchPhase::Idle;
        state = step(&always, &state, &ended(&format!("t{round}"), 1));
        let RelaunchPhase::Waiting { until } = state.phase else { panic!("{state:?}") };
        delays.push((until.0 - T0.0) / 1_000_000);
    }
    assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
    state.phase = RelaunchPhase::Idle;
    let healthy = Input::Ended {
        task: "healthy".to_owned(),
        exit: exit(ExitCause::Code(1)),
        ran: Duration::from_secs(10),
    };
    let state = step(&always, &state, &healthy);
    assert_eq!(state.phase, RelaunchPhase::Waiting { until: later(T0, Duration::from_millis(100)) });
}

#[test]
fn on_failure_gives_up_after_its_number() {
    let twice = policy("on-failure:2");
    let mut state = RelaunchState::default();
    for round in 0..2 {
        state = step(&twice, &state, &ended(&format!("t{round}"), 1));
        assert!(waits(&state));
        let due = next(&twice, &state, &Input::Due, T0);
        assert_eq!((due.relaunch, due.state.count), (Some(false), round + 1));
        state = step(&twice, &RelaunchState { phase: attempt(false), ..due.state }, &Input::Relaunched);
    }
    state = step(&twice, &state, &ended("last", 1));
    assert!(matches!(state.phase, RelaunchPhase::GivenUp { .. }), "{state:?}");
    let again = next(&twice, &state, &Input::Start { live: false }, T0);
    assert_eq!((again.relaunch, again.state.count), (Some(true), 0), "a person's start counts from new");
}

#[test]
fn more_than_the_intensity_is_given_up_and_what_is_old_does_not_count() {
    let intensity = Some(RestartIntensity { restarts: 2, period_ms: 1000 });
    let hasty = RestartPolicy { intensity, ..policy("always") };
    let at = |millis: i64| Timestamp(T0.0 + millis * 1_000_000);
    let with = |history: Vec<Timestamp>| RelaunchState { history, ..RelaunchState::default() };
    let after = |history, now| next(&hasty, &with(history), &ended("a", 1), now).state;
    assert!(waits(&after(vec![at(0)], at(500))));
    assert!(matches!(after(vec![at(0), at(400)], at(500)).phase, RelaunchPhase::GivenUp { .. }));
    assert!(waits(&after(vec![at(0), at(400)], at(1100))));
    // A clock that was set back must not count what has not been yet for ever.
    assert!(waits(&after(vec![at(9000), at(9400)], at(500))));
}

#[test]
fn what_a_person_stopped_stays_down_and_comes_back_as_docker_has_it() {
    let stop = Input::Stop { live: Some("a".to_owned()), signal: 15, until: T0, then_start: false };
    for (text, after_daemon_start) in
        [("no", false), ("on-failure", false), ("always", true), ("unless-stopped", false)]
    {
        let policy = policy(text);
        let stopping = step(&policy, &RelaunchState::default(), &stop);
        assert!(matches!(stopping.phase, RelaunchPhase::Stopping { .. }));
        let ended = step(&policy, &stopping, &ended("a", 143));
        let down = next(&policy, &ended, &Input::Down, T0);
        assert_eq!((down.relaunch, &down.state.phase), (None, &RelaunchPhase::Idle), "{text}");
        let started = step(&policy, &down.state, &Input::DaemonStarted { at: T0, live: false });
        assert_eq!(waits(&started), after_daemon_start, "{text}");
        // The same life of the daemon again: an actor's restart is no daemon's start.
        let again =
            step(&policy, &down.state.clone(), &Input::DaemonStarted { at: down.state.daemon, live: false });
        assert!(!waits(&again), "{text}");
    }
}

#[test]
fn a_kill_by_a_person_is_a_stop_of_that_task_only() {
    let always = policy("always");
    let marked = step(&always, &RelaunchState::default(), &Input::Mark { task: Some("a".to_owned()) });
    assert_eq!(step(&always, &marked, &ended("a", 137)).phase, RelaunchPhase::Idle);
    // It did not end by that, and a person made and started another: nobody stopped this one.
    assert!(waits(&step(&always, &marked, &ended("b", 1))));
}

#[test]
fn a_restart_by_a_person_starts_again_whatever_the_policy() {
    for text in ["no", "on-failure:1", "always"] {
        let policy = policy(text);
        let stop = Input::Stop { live: Some("a".to_owned()), signal: 15, until: T0, then_start: true };
        let stopping = step(&policy, &RelaunchState::default(), &stop);
        let down = next(&policy, &step(&policy, &stopping, &ended("a", 0)), &Input::Down, T0);
        assert_eq!(down.relaunch, Some(true), "{text}");
    }
}

#[test]
fn a_failed_attempt_waits_again_unless_a_person_made_it() {
    let cause = || "no space".to_owned();
    let failed = |by_person| {
        let state = RelaunchState { phase: attempt(by_person), tries: 3, ..RelaunchState::default() };
        step(&policy("always"), &state, &Input::Failed { cause: cause() })
    };
    assert_eq!(failed(false).phase, RelaunchPhase::Waiting { until: later(T0, Duration::from_millis(800)) });
    assert_eq!(failed(true).phase, RelaunchPhase::Idle);
    let stuck = step(&policy("always"), &RelaunchState::default(), &Input::Stuck { cause: cause() });
    assert_eq!(stuck.phase, RelaunchPhase::GivenUp { cause: cause() });
}

fn any_input() -> impl Strategy<Value = Input> {
    let task = "[ab]";
    prop_oneof![
        (any::<bool>(), 0..3_i64).prop_map(|(live, at)| Input::DaemonStarted { at: Timestamp(at), live }),
        (task, any::<u8>(), 0..20_u64).prop_map(|(task, code, seconds)| Input::Ended {
            task,
            exit: exit(ExitCause::Code(code)),
            ran: Duration::from_secs(seconds)
        }),
        Just(Input::Due),
        any::<bool>().prop_map(|live| Input::Start { live }),
        (proptest::option::of(task), any::<bool>()).prop_map(|(live, then_start)| Input::Stop {
            live,
            signal: 15,
            until: T0,
            then_start
        }),
        proptest::option::of(task).prop_map(|task| Input::Mark { task }),
        Just(Input::Down),
        Just(Input::Relaunched),
        Just(Input::Failed { cause: "x".to_owned() }),
    ]
}

proptest! {
    /// Whatever comes: an attempt begins only by a person, or at the end of a back-off; the back-off is within its bounds; `no` never waits; a kept
    /// history is within the intensity.
    #[test]
    fn no_sequence_of_inputs_breaks_the_policy(
        inputs in proptest::collection::vec((any_input(), 0..2000_i64), 0..60),
        text in prop_oneof![Just("no"), Just("on-failure:3"), Just("always"), Just("unless-stopped")],
        intensity in proptest::option::of(1..5_u32),
    ) {
        let intensity = intensity.map(|restarts| RestartIntensity { restarts, period_ms: 3000 });
        let policy = RestartPolicy { intensity, ..policy(text) };
        let (mut state, mut now) = (RelaunchState::default(), T0);
        for (input, millis) in inputs {
            now = Timestamp(now.0 + millis * 1_000_000);
            let waited = waits(&state);
            let decided = next(&policy, &state, &input, now);
            match decided.relaunch {
                Some(true) => {
                    let is_wish = matches!(input, Input::Start { .. } | Input::Stop { then_start: true, .. } | Input::Down);
                    prop_assert!(is_wish);
                }
                Some(false) => prop_assert!(waited && input == Input::Due),
                None => {}
            }
            if let RelaunchPhase::Waiting { until } = decided.state.phase && !waited {
                prop_assert!(policy.when != RestartWhen::No);
                prop_assert!((0..=60_000_000_000).contains(&(until.0 - now.0)));
            }
            if let Some(intensity) = policy.intensity {
                let recent = decided.state.history.iter().filter(|at| now.0 - at.0 < 3_000_000_000).count();
                prop_assert!(recent <= usize::try_from(intensity.restarts).unwrap());
            }
            state = decided.state;
            if let Some(by_person) = decided.relaunch {
                state.phase = attempt(by_person);
            }
        }
    }
}
