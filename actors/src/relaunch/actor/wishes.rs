//! What people ask for: start, stop, restart, another policy, room for the container's removal.

use std::time::Duration;

use bosun_storage::batch::Batch;
use bosun_types::call::CallId;
use bosun_types::relaunch::{
    RelaunchPhase, RelaunchRecord, RestartPolicy, RestartWhen, STOP_SIGNAL_LABEL, STOP_TIMEOUT_MS,
    StopRequest,
};
use bosun_types::signal;
use bosun_types::task::{ExitStatus, KillTarget, StoredPhase};
use bosun_types::{Error, Result, Timestamp};

use super::super::Ask;
use super::super::decide::{Input, later};
use super::{Data, is_live};
use crate::call;

impl Data {
    pub(super) async fn start(&mut self, call: Option<CallId>, reply: Ask<u32>) {
        self.retired = false;
        let task = match self.look().await.and_then(|()| self.task()) {
            Ok(task) => task,
            Err(error) => return drop(reply.send(Err(error))),
        };
        // A made one that was never started is to be started.
        let running = task.filter(|task| matches!(task.phase, StoredPhase::Running | StoredPhase::Paused));
        if matches!(self.record.state.phase, RelaunchPhase::Stopping { .. }) {
            let error = Error::failed_precondition("it is being stopped")
                .with_hint("wait for its end, then start it");
            return drop(reply.send(Err(error)));
        }
        let wish = self.feed(Input::Start { live: running.is_some() });
        if let Err(error) = call::within(call, wish).await {
            return drop(reply.send(Err(error)));
        }
        match running.and_then(|task| task.init) {
            Some(init) => drop(reply.send(Ok(init.pid))),
            None => self.starters.push(reply),
        }
        self.pursue().await;
    }

    /// It was asked for before: under way, or done.
    pub(super) async fn tell_start(&mut self, reply: Ask<u32>) {
        let answer = match &self.record.state.phase {
            RelaunchPhase::Relaunching(_) | RelaunchPhase::Stopping { then_start: true, .. } => None,
            RelaunchPhase::GivenUp { cause } => {
                Some(Err(Error::failed_precondition(format!("it was given up: {cause}"))))
            }
            _ => Some(self.task().and_then(|task| {
                let gone = || Error::not_found("it was started, and its task was deleted since");
                task.and_then(|task| task.init).map(|init| init.pid).ok_or_else(gone)
            })),
        };
        match answer {
            None => self.starters.push(reply),
            Some(answer) => drop(reply.send(answer)),
        }
        self.look_and_pursue().await;
    }

    /// The same of a stop.
    pub(super) async fn tell_stop(&mut self, reply: Ask<Option<ExitStatus>>) {
        match &self.record.state.phase {
            RelaunchPhase::Stopping { .. } | RelaunchPhase::Relaunching(_) if self.record.state.stopped => {
                self.stoppers.push(reply);
            }
            _ => drop(reply.send(Ok(self.record.state.last_exit.clone()))),
        }
        self.look_and_pursue().await;
    }

    pub(super) async fn stop(
        &mut self,
        call: Option<CallId>,
        request: StopRequest,
        reply: Ask<Option<ExitStatus>>,
    ) {
        self.retired = false;
        self.stoppers.push(reply);
        if let Err(error) = self.begin_stop(call, request, false).await {
            self.stoppers.drain(..).for_each(|stopper| drop(stopper.send(Err(error.clone()))));
        }
        self.look_and_pursue().await;
    }

    pub(super) async fn restart(&mut self, call: Option<CallId>, request: StopRequest, reply: Ask<u32>) {
        self.retired = false;
        if matches!(self.record.state.phase, RelaunchPhase::Relaunching(_)) {
            let error = Error::failed_precondition("it is being started already");
            return drop(reply.send(Err(error)));
        }
        self.starters.push(reply);
        if let Err(error) = self.begin_stop(call, request, true).await {
            self.starters.drain(..).for_each(|starter| drop(starter.send(Err(error.clone()))));
        }
        self.look_and_pursue().await;
    }

    pub(super) async fn begin_stop(
        &mut self,
        call: Option<CallId>,
        request: StopRequest,
        then_start: bool,
    ) -> Result<()> {
        self.look().await?;
        let task = self.task()?.filter(is_live);
        let signal = match request.signal {
            Some(signal) => signal,
            None => self.stop_signal()?,
        };
        let timeout = Duration::from_millis(request.timeout_ms.unwrap_or(STOP_TIMEOUT_MS));
        let started = task.as_ref().is_some_and(|task| task.started_at.is_some());
        // What was never started has nothing to end in order.
        let until = if started { later(Timestamp::now(), timeout) } else { Timestamp::now() };
        let input = Input::Stop { live: task.map(|task| task.nonce), signal, until, then_start };
        call::within(call, self.feed(input)).await?;
        if matches!(self.record.state.phase, RelaunchPhase::Stopping { .. }) && started && !timeout.is_zero()
        {
            self.silent = false;
            self.tell(Some(self.call_of_stop(until)), signal, KillTarget::Init);
        }
        Ok(())
    }

    /// The image's, else SIGTERM.
    fn stop_signal(&self) -> Result<u32> {
        let container = crate::containers::get(&self.core, &self.record.namespace, &self.record.container)?;
        let named = container.labels.get(STOP_SIGNAL_LABEL);
        Ok(named.and_then(|name| signal::parse(name).ok()).unwrap_or(signal::TERM))
    }

    pub(super) async fn mark(&mut self) -> Result<()> {
        self.look().await?;
        let task = self.task()?.map(|task| task.nonce);
        self.feed(Input::Mark { task }).await
    }

    pub(super) async fn set_policy(&mut self, policy: RestartPolicy) -> Result<()> {
        let mut record = RelaunchRecord { policy, ..self.record.clone() };
        if matches!(record.state.phase, RelaunchPhase::Waiting { .. }) && policy.when == RestartWhen::No {
            record.state.phase = RelaunchPhase::Idle;
        }
        let mut batch = Batch::new();
        batch.put(&record);
        self.core.commit(batch).await?;
        self.record = record;
        Ok(())
    }

    pub(super) fn retire(&mut self) -> Result<()> {
        let container = &self.record.container;
        let what = match self.record.state.phase {
            RelaunchPhase::Relaunching(_) => "is being started",
            RelaunchPhase::Stopping { .. } => "is being stopped",
            RelaunchPhase::Idle | RelaunchPhase::Waiting { .. } | RelaunchPhase::GivenUp { .. } => {
                self.retired = true;
                return Ok(());
            }
        };
        Err(Error::failed_precondition(format!("container {container} {what}"))
            .with_hint(format!("`bosun stop {container}` first")))
    }
}
