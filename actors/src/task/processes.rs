//! Init and the execs of one task, alike: a phase, and who waits for what.

use std::collections::BTreeMap;

use bosun_types::shim::{ShimPhase, ShimState};
use bosun_types::task::{ExecRecord, ExitStatus, ProcessInfo, ProcessStatus, StoredPhase, TaskRecord};
use bosun_types::{Error, ExecId, Result};
use ractor::RpcReplyPort;

use super::WAITERS_MAX;
use super::phase::Phase;

/// One process of the task.
pub(crate) struct Process {
    pub phase: Phase,
    /// Answered with the exit status.
    waiters: Vec<RpcReplyPort<Result<ExitStatus>>>,
    /// Answered when the start in flight is over: equal starts join.
    pub starters: Vec<RpcReplyPort<Result<u32>>>,
    /// An exit that was reported while its start was in flight: recorded with it, so that events keep their order.
    pub early_exit: Option<bosun_types::shim::ExitNotice>,
}

impl Process {
    pub(crate) fn new(phase: Phase) -> Self {
        Self { phase, waiters: Vec::new(), starters: Vec::new(), early_exit: None }
    }

    /// Answers at once when it has ended, else when it does (TSK-12, TSK-13).
    pub(crate) fn wait(&mut self, reply: RpcReplyPort<Result<ExitStatus>>) {
        if let Some(exit) = self.phase.exit() {
            let _ = reply.send(Ok(exit.clone()));
            return;
        }
        // Callers that went away leave their ports behind.
        self.waiters.retain(|waiter| !waiter.is_closed());
        if self.waiters.len() >= WAITERS_MAX {
            let _ = reply.send(Err(Error::resource_exhausted(format!(
                "{WAITERS_MAX} callers wait for this process already"
            ))));
            return;
        }
        self.waiters.push(reply);
    }

    /// Answers everyone who waits for its end.
    pub(crate) fn answer_waiters(&mut self, exit: &ExitStatus) {
        self.waiters.drain(..).for_each(|waiter| drop(waiter.send(Ok(exit.clone()))));
    }

    /// Tells everyone who waits that it will never end, because it is gone.
    pub(crate) fn refuse_waiters(&mut self, error: &Error) {
        self.waiters.drain(..).for_each(|waiter| drop(waiter.send(Err(error.clone()))));
    }
}

/// All processes: init under `None`.
pub(crate) type Processes = BTreeMap<Option<ExecId>, Process>;

/// From the rows, as a restart finds them. A start in flight is recovery's or was never acknowledged: it shows as created.
pub(crate) fn from_rows(task: &TaskRecord, execs: &[ExecRecord]) -> Processes {
    let mut all = Processes::from([(None, Process::new(phase_of(&task.phase)))]);
    all.extend(execs.iter().map(|exec| (Some(exec.id.clone()), Process::new(phase_of(&exec.phase)))));
    all
}

fn phase_of(stored: &StoredPhase) -> Phase {
    match stored {
        StoredPhase::Creating => Phase::Creating,
        StoredPhase::Created => Phase::Created,
        StoredPhase::Running => Phase::Running,
        StoredPhase::Paused => Phase::Paused,
        StoredPhase::Stopped(exit) => Phase::Stopped(exit.clone()),
    }
}

/// An exec that the shim holds and no row has: whoever asked for it heard nothing, or it is of a database that was set back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// It never ran, or has ended: it is forgotten.
    Still(ExecId),
    /// It runs: it is killed, and forgotten when it has ended.
    Running(ExecId),
}

/// All of them. A row is written before its exec is started, and goes after the shim has forgotten it: there is nothing to adopt.
pub(crate) fn strangers(state: &ShimState, rows: &BTreeMap<ExecId, ExecRecord>) -> Vec<Stranger> {
    let unknown = state.execs.iter().filter(|(id, _)| !rows.contains_key(id));
    let stranger = |(id, phase): &(ExecId, ShimPhase)| match phase {
        ShimPhase::Running(_) | ShimPhase::Paused(_) | ShimPhase::Created(_) => {
            Some(Stranger::Running(id.clone()))
        }
        ShimPhase::Registered | ShimPhase::Exited(..) => Some(Stranger::Still(id.clone())),
        ShimPhase::Deleted => None,
    };
    unknown.filter_map(stranger).collect()
}

/// What is known of an exec. A frozen container's execs are frozen (TSK-23).
pub(crate) fn exec_info(
    exec: &ExecRecord,
    process: &Process,
    init: &Phase,
    confirmed_at: Option<bosun_types::Timestamp>,
) -> ProcessInfo {
    let status = match (&process.phase, init) {
        (phase, _) if phase.exit().is_some() => ProcessStatus::Stopped,
        (_, Phase::Paused) => ProcessStatus::Paused,
        _ if confirmed_at.is_none() => ProcessStatus::Recovering,
        (phase, _) => phase.status(),
    };
    ProcessInfo {
        container: exec.container.clone(),
        exec: Some(exec.id.clone()),
        pid: exec.identity.map_or(0, |identity| identity.pid),
        status,
        stdio: exec.stdio.clone(),
        exit: process.phase.exit().cloned(),
        created_at: exec.created_at,
        started_at: None,
        confirmed_at,
    }
}

#[cfg(test)]
mod tests {
    use bosun_types::stdio::Stdio;
    use bosun_types::task::{ExitCause, ProcessIdentity};
    use bosun_types::{ContainerId, NamespaceName, Timestamp};

    use super::*;

    #[test]
    fn tsk_12_callers_that_went_away_take_no_place_among_those_who_wait() {
        let mut process = Process::new(Phase::Running);
        let caller = || ractor::concurrency::oneshot::<Result<ExitStatus>>();
        for _ in 0..WAITERS_MAX + 1 {
            let (port, gone) = caller();
            drop(gone);
            process.wait(port.into());
        }
        let mut staying: Vec<_> = (0..WAITERS_MAX)
            .map(|_| {
                let (port, answer) = caller();
                process.wait(port.into());
                answer
            })
            .collect();
        assert!(staying.iter_mut().all(|answer| answer.try_recv().is_err()), "nobody is answered yet");
        let (port, mut refused) = caller();
        process.wait(port.into());
        let refused = refused.try_recv().expect("is answered at once").expect_err("there are too many");
        assert_eq!(refused.class, bosun_types::ErrorClass::ResourceExhausted);
        let exit = ExitStatus { cause: ExitCause::Code(3), exited_at: Timestamp(1) };
        process.answer_waiters(&exit);
        for mut answer in staying {
            assert_eq!(answer.try_recv().expect("is told").as_ref(), Ok(&exit));
        }
    }

    #[test]
    fn execs_that_no_row_has_are_strangers_to_be_killed_or_forgotten() {
        let id = |text: &str| ExecId::new(text).expect("good");
        let known = |text| ExecRecord {
            namespace: NamespaceName::default_name(),
            container: ContainerId::new("c").expect("good"),
            id: id(text),
            process: Vec::new(),
            stdio: Stdio::default(),
            phase: StoredPhase::Created,
            identity: None,
            created_at: Timestamp(1),
        };
        let process = ProcessIdentity { pid: 1, start_ticks: 1 };
        let running = ShimPhase::Running(process);
        let exit = ExitStatus { cause: ExitCause::Code(0), exited_at: Timestamp(2) };
        let state = ShimState {
            init: running.clone(),
            execs: vec![
                (id("known"), ShimPhase::Registered),
                (id("known-runs"), running.clone()),
                (id("left"), ShimPhase::Registered),
                (id("runs"), running),
                (id("ended"), ShimPhase::Exited(process, exit)),
            ],
        };
        let rows = BTreeMap::from(["known", "known-runs"].map(|name| (id(name), known(name))));
        assert_eq!(
            strangers(&state, &rows),
            [Stranger::Still(id("left")), Stranger::Running(id("runs")), Stranger::Still(id("ended"))]
        );
    }
}
