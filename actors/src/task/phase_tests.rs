//! The whole table, every phase by every input, as a text that a reviewer can read; and what must hold for any sequence.

use std::fmt::Write as _;

use bosun_types::Timestamp;
use bosun_types::task::ExitCause;
use proptest::prelude::*;

use super::*;

fn exit(code: u8) -> ExitStatus {
    ExitStatus { cause: ExitCause::Code(code), exited_at: Timestamp(1) }
}

fn phases() -> Vec<(&'static str, Phase)> {
    vec![
        ("creating", Phase::Creating),
        ("created", Phase::Created),
        ("starting", Phase::Starting),
        ("running", Phase::Running),
        ("paused", Phase::Paused),
        ("stopped", Phase::Stopped(exit(7))),
        ("deleting", Phase::Deleting(None)),
        ("deleting_stopped", Phase::Deleting(Some(exit(7)))),
    ]
}

fn inputs() -> Vec<(&'static str, Input)> {
    vec![
        ("start", Input::Start),
        ("started", Input::Started),
        ("start_failed", Input::StartFailed),
        ("exited", Input::Exited(exit(9))),
        ("kill", Input::Kill),
        ("exec", Input::Exec),
        ("update", Input::Update),
        ("pause", Input::Pause),
        ("paused", Input::Paused),
        ("resume", Input::Resume),
        ("resumed", Input::Resumed),
        ("checkpoint", Input::Checkpoint),
        ("hold", Input::Hold),
        ("delete", Input::Delete),
        ("delete_failed", Input::DeleteFailed),
    ]
}

fn show(result: &Result<Phase, Denied>) -> String {
    match result {
        Ok(phase) => match phase.exit() {
            Some(exit) => format!("{}({})", word(phase).replace(' ', "_"), exit.code()),
            None => word(phase).replace(' ', "_"),
        },
        Err(Denied::WrongState) => "-".to_owned(),
        Err(Denied::Ended) => "ended".to_owned(),
    }
}

/// TSK-3, TSK-16, TSK-19, TSK-22.
#[test]
fn the_whole_table() {
    let mut table = String::new();
    for (name, phase) in phases() {
        for (verb, input) in inputs() {
            writeln!(table, "{name:<17} {verb:<13} {}", show(&next(&phase, &input))).expect("writes");
        }
    }
    let wanted = include_str!("phase_table.txt");
    assert_eq!(
        table, wanted,
        "the table changed: if that is meant, this is the new phase_table.txt:\n{table}"
    );
}

proptest! {
    /// I4: once ended, the exit status never changes, whatever is asked or reported.
    #[test]
    fn i_4_an_exit_is_for_ever(choices in prop::collection::vec(0_usize..15, 1..40)) {
        let mut phase = Phase::Created;
        let mut first: Option<ExitStatus> = None;
        for (step, choice) in choices.into_iter().enumerate() {
            let mut input = inputs()[choice].1.clone();
            if let Input::Exited(_) = input {
                input = Input::Exited(exit(u8::try_from(step).expect("short")));
            }
            if let Ok(next) = next(&phase, &input) {
                phase = next;
            }
            if let Some(seen) = phase.exit() {
                prop_assert_eq!(first.get_or_insert_with(|| seen.clone()), seen);
            } else {
                prop_assert!(first.is_none());
            }
        }
    }
}
