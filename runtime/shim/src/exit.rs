//! From the reaping of a process to its report: kill the rest, wait for all, drain output, record, tell (TSK-21, I4).

use std::time::{Duration, Instant};

use bosun_types::ExecId;
use bosun_types::shim::{ExitNotice, Notice};

use crate::event_loop::Shim;
use crate::phase::{Input, Phase};
use crate::record;

/// How long an exit waits for its output to reach a reader that does not keep up, or for a pipe of init's that others
/// hold. The copying goes on after it, until `Delete`.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// How long the exit of an exec waits for a pipe that is empty but open: processes that it left behind may hold it for
/// as long as they like.
const DRAIN_WAIT_EXEC: Duration = Duration::from_millis(20);

impl Shim {
    /// Whether something has ended and is not recorded yet: the loop then looks again soon.
    pub fn is_winding_up(&self) -> bool {
        self.init.ending.is_some()
            || !self.unreaped.is_empty()
            || self.execs.values().any(|it| it.ending.is_some())
    }

    /// Moves every ended process towards its record, execs before init.
    pub fn advance_endings(&mut self) {
        let ended: Vec<ExecId> =
            self.execs.iter().filter(|(_, it)| it.ending.is_some()).map(|(id, _)| id.clone()).collect();
        for id in ended {
            if self.is_drained(Some(&id)) {
                self.record(Some(&id));
            }
        }
        if self.init.ending.is_some() && self.is_empty_container() && self.is_drained(None) {
            self.unwatch_oom();
            self.record(None);
        }
    }

    /// TSK-21: kills what init left behind; whether all of it has gone, execs included.
    fn is_empty_container(&mut self) -> bool {
        let Some(ending) = &self.init.ending else { return false };
        if Instant::now() >= ending.kill_until {
            crate::complain("processes of the container do not die; its exit is reported nevertheless");
            return true;
        }
        let others = self.container.as_ref().filter(|it| !it.owns_pids);
        let killed = others.map_or(0, |it| it.cgroup.kill_all());
        let execs = self.execs.values().any(|it| matches!(it.phase, Phase::Running | Phase::Ending { .. }));
        killed == 0 && !execs
    }

    fn is_drained(&mut self, exec: Option<&ExecId>) -> bool {
        let (open, blocked) = self.output_state(exec);
        if !open {
            return true;
        }
        let Ok(Some(since)) = self.process(exec).map(|it| it.ending.as_ref().map(|it| it.since)) else {
            return true;
        };
        let wait = if exec.is_some() && !blocked { DRAIN_WAIT_EXEC } else { DRAIN_WAIT };
        since.elapsed() >= wait
    }

    fn record(&mut self, exec: Option<&ExecId>) {
        let Ok(process) = self.process(exec) else { return };
        let (Some(ending), Some(identity)) = (process.ending.take(), process.identity) else { return };
        process.terminal = None;
        process.status = Some(ending.status.clone());
        let _ = process.step(Input::Recorded);
        let started = matches!(process.phase, Phase::Ended { started: true });
        let notice = ExitNotice { exec: exec.cloned(), process: identity, status: ending.status, started };
        // Without a record the notice alone must do: a full tmpfs must not hide an exit.
        if let Err(error) = record::write_exit(&notice) {
            crate::complain(&bosun_types::error::chain(&error));
        }
        self.unacknowledged.retain(|it| it.exec.as_ref() != exec);
        self.unacknowledged.push(notice.clone());
        self.notify(&Notice::Exited(notice));
        self.feed_readers(exec);
        self.serve_delete_waiters(exec);
    }

    /// Deletes that came while the process was ending.
    fn serve_delete_waiters(&mut self, exec: Option<&ExecId>) {
        let Ok(process) = self.process(exec) else { return };
        if process.deleters.is_empty() {
            return;
        }
        match exec {
            None => {
                if self.init.step(Input::Delete).is_ok() {
                    self.begin_delete();
                }
            }
            Some(id) => {
                let waiters = std::mem::take(&mut process.deleters);
                for waiter in waiters {
                    self.delete_exec(waiter, id);
                }
            }
        }
    }
}
