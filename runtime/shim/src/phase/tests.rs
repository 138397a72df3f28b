//! The whole table: every phase with every input, for both lives. A cell that is not named here must be refused.

use super::*;
use Input as I;
use Phase as P;
use Step::{Do, Join, KillFirst, Repeat};

const PHASES: &[Phase] = &[
    P::Registered,
    P::Creating,
    P::Created,
    P::Starting,
    P::Running,
    P::Paused,
    P::Ending { started: false },
    P::Ending { started: true },
    P::Ended { started: false },
    P::Ended { started: true },
    P::Deleting { started: false },
    P::Deleting { started: true },
    P::Deleted,
];

const INPUTS: &[Input] = &[
    I::Create,
    I::CreateDone,
    I::CreateFailed,
    I::Start,
    I::StartDone,
    I::StartFailed,
    I::Pause,
    I::Resume,
    I::Signal,
    I::AddExec,
    I::Update,
    I::Exit,
    I::Recorded,
    I::Delete,
    I::DeleteDone,
    I::DeleteFailed,
];

const ENDING: Phase = P::Ending { started: true };
const ENDED: Phase = P::Ended { started: true };
const NEVER_ENDING: Phase = P::Ending { started: false };
const NEVER_ENDED: Phase = P::Ended { started: false };
const DELETING: Phase = P::Deleting { started: true };
const NEVER_DELETING: Phase = P::Deleting { started: false };

type Row = (Phase, Input, Phase, Step);

const INIT: &[Row] = &[
    (P::Registered, I::Create, P::Creating, Do),
    (P::Registered, I::Delete, P::Deleted, Repeat),
    (P::Creating, I::Create, P::Creating, Join),
    (P::Creating, I::CreateDone, P::Created, Do),
    (P::Creating, I::CreateFailed, P::Registered, Do),
    (P::Created, I::Create, P::Created, Repeat),
    (P::Created, I::Start, P::Starting, Do),
    (P::Created, I::Signal, P::Created, Do),
    (P::Created, I::AddExec, P::Created, Do),
    (P::Created, I::Update, P::Created, Do),
    (P::Created, I::Exit, NEVER_ENDING, Do),
    (P::Created, I::Delete, P::Created, KillFirst),
    (P::Starting, I::Create, P::Starting, Repeat),
    (P::Starting, I::Start, P::Starting, Join),
    (P::Starting, I::StartDone, P::Running, Do),
    (P::Starting, I::StartFailed, P::Created, Do),
    (P::Starting, I::Signal, P::Starting, Do),
    (P::Starting, I::AddExec, P::Starting, Do),
    (P::Starting, I::Update, P::Starting, Do),
    (P::Starting, I::Exit, ENDING, Do),
    (P::Running, I::Create, P::Running, Repeat),
    (P::Running, I::Start, P::Running, Repeat),
    (P::Running, I::Pause, P::Paused, Do),
    (P::Running, I::Resume, P::Running, Repeat),
    (P::Running, I::Signal, P::Running, Do),
    (P::Running, I::AddExec, P::Running, Do),
    (P::Running, I::Update, P::Running, Do),
    (P::Running, I::Exit, ENDING, Do),
    (P::Paused, I::Create, P::Paused, Repeat),
    (P::Paused, I::Start, P::Paused, Repeat),
    (P::Paused, I::Pause, P::Paused, Repeat),
    (P::Paused, I::Resume, P::Running, Do),
    (P::Paused, I::Signal, P::Paused, Do),
    (P::Paused, I::Update, P::Paused, Do),
    (P::Paused, I::Exit, ENDING, Do),
    (NEVER_ENDING, I::Create, NEVER_ENDING, Repeat),
    (NEVER_ENDING, I::Recorded, NEVER_ENDED, Do),
    (NEVER_ENDING, I::Delete, NEVER_ENDING, Join),
    (ENDING, I::Create, ENDING, Repeat),
    (ENDING, I::Start, ENDING, Repeat),
    (ENDING, I::Recorded, ENDED, Do),
    (ENDING, I::Delete, ENDING, Join),
    (NEVER_ENDED, I::Create, NEVER_ENDED, Repeat),
    (NEVER_ENDED, I::Delete, NEVER_DELETING, Do),
    (ENDED, I::Create, ENDED, Repeat),
    (ENDED, I::Start, ENDED, Repeat),
    (ENDED, I::Delete, DELETING, Do),
    (NEVER_DELETING, I::Delete, NEVER_DELETING, Join),
    (NEVER_DELETING, I::DeleteDone, P::Deleted, Do),
    (NEVER_DELETING, I::DeleteFailed, NEVER_ENDED, Do),
    (DELETING, I::Delete, DELETING, Join),
    (DELETING, I::DeleteDone, P::Deleted, Do),
    (DELETING, I::DeleteFailed, ENDED, Do),
    (P::Deleted, I::Delete, P::Deleted, Repeat),
];

const EXEC: &[Row] = &[
    (P::Registered, I::Start, P::Starting, Do),
    (P::Registered, I::Delete, P::Deleted, Do),
    (P::Starting, I::Start, P::Starting, Join),
    (P::Starting, I::StartDone, P::Running, Do),
    (P::Starting, I::StartFailed, P::Registered, Do),
    (P::Running, I::Start, P::Running, Repeat),
    (P::Running, I::Signal, P::Running, Do),
    (P::Running, I::Exit, ENDING, Do),
    (NEVER_ENDING, I::Start, NEVER_ENDING, Repeat),
    (NEVER_ENDING, I::Recorded, NEVER_ENDED, Do),
    (NEVER_ENDING, I::Delete, NEVER_ENDING, Join),
    (ENDING, I::Start, ENDING, Repeat),
    (ENDING, I::Recorded, ENDED, Do),
    (ENDING, I::Delete, ENDING, Join),
    (NEVER_ENDED, I::Start, NEVER_ENDED, Repeat),
    (NEVER_ENDED, I::Delete, P::Deleted, Do),
    (ENDED, I::Start, ENDED, Repeat),
    (ENDED, I::Delete, P::Deleted, Do),
];

fn check(kind: Kind, table: &[Row]) {
    for &phase in PHASES {
        for &input in INPUTS {
            let expected = table
                .iter()
                .find(|row| row.0 == phase && row.1 == input)
                .map(|row| Transition { next: row.2, step: row.3 })
                .ok_or(Denied { phase, input });
            assert_eq!(phase.next(kind, input), expected, "{kind:?}: {phase:?} with {input:?}");
        }
    }
}

#[test]
fn tsk_3_every_transition_of_init() {
    check(Kind::Init, INIT);
}

#[test]
fn tsk_4_every_transition_of_an_exec() {
    check(Kind::Exec, EXEC);
}

#[test]
fn tsk_19_a_signal_to_an_ended_process_is_not_found() {
    for phase in [ENDING, ENDED, P::Deleted] {
        let denied = phase.next(Kind::Init, I::Signal).unwrap_err();
        assert_eq!(Error::from(denied).class, bosun_types::ErrorClass::NotFound);
    }
}

#[test]
fn tsk_22_an_exec_in_a_paused_container_names_the_state() {
    let error = Error::from(P::Paused.next(Kind::Init, I::AddExec).unwrap_err());
    assert_eq!(error.message, "cannot exec in a paused state");
}
