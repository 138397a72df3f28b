//! The table of `orphan`, and what a new shim is told.

use bosun_types::stdio::Stdio;
use bosun_types::task::{ExitCause, ExitStatus};
use bosun_types::{ContainerId, ExecId, NamespaceName, Timestamp};

use super::*;

const INIT: ProcessIdentity = ProcessIdentity { pid: 7, start_ticks: 8 };

fn exit() -> ExitStatus {
    ExitStatus { cause: ExitCause::Code(3), exited_at: Timestamp(1) }
}

#[test]
fn shm_9_only_what_is_asked_to_and_has_begun_and_lives_is_taken_over() {
    use Phase as P;
    let phases = [
        (P::Creating, Next::End),
        (P::Created, Next::End),
        (P::Starting, Next::LookAgain),
        (P::Running, Next::TakeOver),
        (P::Paused, Next::TakeOver),
        (P::Stopped(exit()), Next::End),
        (P::Deleting(None), Next::End),
        (P::Deleting(Some(exit())), Next::End),
    ];
    for (phase, wanted) in phases {
        assert_eq!(next(OnShimDeath::Adopt, &phase, true, false), wanted, "{phase:?}");
        let changed = |to| if wanted == Next::TakeOver { to } else { wanted };
        assert_eq!(
            next(OnShimDeath::Adopt, &phase, false, false),
            changed(Next::End),
            "{phase:?} without init"
        );
        let unsettled = next(OnShimDeath::Adopt, &phase, true, true);
        assert_eq!(unsettled, changed(Next::LookAgain), "{phase:?} unsettled");
        for (lives, unsettled) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(next(OnShimDeath::Kill, &phase, lives, unsettled), Next::End, "{phase:?}");
        }
    }
}

fn exec(id: &str, phase: StoredPhase, identity: Option<ProcessIdentity>) -> ExecRecord {
    ExecRecord {
        namespace: NamespaceName::default_name(),
        container: ContainerId::new("c").unwrap(),
        id: ExecId::new(id).unwrap(),
        process: b"json".to_vec(),
        stdio: Stdio::default(),
        phase,
        identity,
        created_at: Timestamp(1),
    }
}

#[test]
fn a_new_shim_is_told_of_every_exec_that_has_not_ended() {
    let task = TaskRecord {
        namespace: NamespaceName::default_name(),
        container: ContainerId::new("c").unwrap(),
        nonce: "n".into(),
        boot_id: "b".into(),
        shim: None,
        init: Some(INIT),
        stdio: Stdio { stdout: Some("/f".into()), ..Stdio::default() },
        runtime: "bosun".into(),
        phase: StoredPhase::Running,
        created_at: Timestamp(1),
        started_at: None,
        on_shim_death: OnShimDeath::Adopt,
    };
    let running = ProcessIdentity { pid: 9, start_ticks: 9 };
    let execs = [
        exec("created", StoredPhase::Created, None),
        exec("running", StoredPhase::Running, Some(running)),
        exec("ended", StoredPhase::Stopped(exit()), Some(running)),
        exec("lost", StoredPhase::Running, None),
    ];
    let adoption = adoption(&task, execs.iter()).unwrap();
    assert_eq!((adoption.init, &adoption.request.stdio), (INIT, &task.stdio));
    assert!(adoption.request.adoptable, "the next death may come");
    let told: Vec<_> =
        adoption.execs.iter().map(|it| (it.id.as_str(), it.process.as_slice(), it.identity)).collect();
    assert_eq!(told, [("created", &b"json"[..], None), ("running", &b""[..], Some(running))]);
    let without = TaskRecord { init: None, ..task };
    assert_eq!(super::adoption(&without, execs.iter()), None);
}
