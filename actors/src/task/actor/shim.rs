//! The shim: connected, known, gone.

use std::sync::Arc;

use bosun_storage::batch::Batch;
use bosun_types::shim::{Notice, ShimPhase, ShimState};
use bosun_types::task::ProcessIdentity;
use bosun_types::{Result, Timestamp};
use ractor::ActorRef;

use super::super::orphan::{self, Next};
use super::super::phase::Phase;
use super::super::processes::strangers;
use super::super::{TaskMessage, reattach};
use super::TaskData;
use crate::ports::Shim;

impl TaskData {
    pub(super) fn confirm(&mut self) {
        self.confirmed_at = Some(Timestamp::now());
        self.core.live.set(&self.record.namespace, &self.record.container, self.confirmed_at);
    }

    pub(super) fn connected(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        result: Result<(Arc<dyn Shim>, tokio::sync::mpsc::Receiver<Notice>)>,
    ) {
        match result {
            Ok((shim, notices)) => {
                reattach::follow(notices, myself.clone());
                reattach::ask_state(Arc::clone(&shim), self.freezes, myself.clone());
                self.shim = Some(shim);
                self.early.settle(myself);
            }
            Err(error) if self.core.host.live_shim(&self.record.nonce).is_some() => {
                tracing::warn!(task = %self.record.container, %error, "the shim lives but does not answer");
                self.early.settle_without_shim(myself);
                reattach::connect_later(self.core.clone(), self.record.clone(), myself.clone());
            }
            Err(_) => self.orphaned(myself),
        }
    }

    /// There is no shim.
    fn orphaned(&self, myself: &ActorRef<TaskMessage>) {
        let init_lives = self.record.init.is_some_and(|init| self.core.host.lives(&init));
        let is_unsettled = self.execs_changing > 0
            || self.processes.values().any(|process| process.phase == Phase::Starting);
        let phase = &self.processes[&None].phase;
        let next = orphan::next(self.record.on_shim_death, phase, init_lives, is_unsettled);
        let (core, record, actor) = (self.core.clone(), self.record.clone(), myself.clone());
        match next {
            Next::End => reattach::find_out(core, record, actor),
            Next::LookAgain => reattach::connect_later(core, record, actor),
            Next::TakeOver => {
                tracing::warn!(task = %record.container, "its shim is gone; a new one takes it over");
                let adoption = orphan::adoption(&record, self.execs.values());
                reattach::take_over(core, record, adoption, actor);
            }
        }
    }

    /// The new shim is the task's as soon as its beacon says so; the row follows.
    pub(super) async fn taken_over(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        result: Result<ProcessIdentity>,
    ) -> Result<()> {
        match result {
            Ok(shim) => {
                self.record.shim = Some(shim);
                let mut batch = Batch::new();
                batch.put(&self.record);
                self.core.commit(batch).await?;
                reattach::connect(self.core.clone(), self.record.clone(), myself.clone());
            }
            Err(error) => {
                tracing::warn!(task = %self.record.container, %error, "no new shim has taken it over yet");
                self.early.settle_without_shim(myself);
                reattach::connect_later(self.core.clone(), self.record.clone(), myself.clone());
            }
        }
        Ok(())
    }

    /// What the shim holds and the rows do not say yet: a start, a freeze, whose outcome was lost. Exits come as notices.
    pub(super) async fn known(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        asked: u64,
        result: Result<ShimState>,
    ) -> Result<()> {
        let state = match result {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(task = %self.record.container, %error, "the shim does not say what it holds");
                self.early.know_execs(myself);
                return Ok(());
            }
        };
        self.confirm();
        if asked != self.freezes
            && let Ok(shim) = self.shim()
        {
            // Said before it was frozen or thawed.
            reattach::ask_state(shim, self.freezes, myself.clone());
            return Ok(());
        }
        self.meet_strangers(myself, &state);
        let processes = std::iter::once((None, state.init))
            .chain(state.execs.into_iter().map(|(id, phase)| (Some(id), phase)));
        for (exec, held) in processes {
            let known = self.processes.get(&exec).map(|process| process.phase.clone());
            if exec.is_none() {
                self.mend_freeze(&held).await?;
            }
            let running = match held {
                ShimPhase::Running(identity)
                | ShimPhase::Paused(identity)
                | ShimPhase::Exited(identity, _) => Some(identity),
                ShimPhase::Registered | ShimPhase::Created(_) | ShimPhase::Deleted => None,
            };
            if let (Some(Phase::Created), Some(identity)) = (known, running) {
                let mut batch = Batch::new();
                self.record_start(&mut batch, exec.as_ref(), identity);
                self.core.commit(batch).await?;
                self.process(exec.as_ref())?.phase = Phase::Running;
            }
        }
        Ok(())
    }

    /// Execs that no row has are ended. New ones wait until they are gone, whose ids they might have; not for what is frozen, which dies when it is thawed.
    fn meet_strangers(&mut self, myself: &ActorRef<TaskMessage>, state: &ShimState) {
        let strangers = strangers(state, &self.execs);
        let Some(shim) = self.shim.clone() else { return self.early.know_execs(myself) };
        if self.execs_changing > 0 {
            return reattach::ask_state(shim, self.freezes, myself.clone());
        }
        if strangers.is_empty() || matches!(state.init, ShimPhase::Paused(_)) {
            self.early.know_execs(myself);
        }
        if !strangers.is_empty() {
            reattach::end_strangers(shim, strangers, self.freezes, myself.clone());
        }
    }

    /// A freeze or thaw whose outcome was lost.
    async fn mend_freeze(&mut self, held: &ShimPhase) -> Result<()> {
        match (&self.processes[&None].phase, held) {
            (Phase::Running, ShimPhase::Paused(_)) => self.record_freeze(true, Phase::Paused).await,
            (Phase::Paused, ShimPhase::Running(_)) => self.record_freeze(false, Phase::Running).await,
            _ => Ok(()),
        }
    }

    pub(super) fn disconnected(&mut self, myself: &ActorRef<TaskMessage>) {
        self.shim = None;
        if self.delete_operation.is_none() {
            self.early.begin();
            reattach::connect(self.core.clone(), self.record.clone(), myself.clone());
        }
    }
}
