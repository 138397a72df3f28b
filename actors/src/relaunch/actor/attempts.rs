//! Attempts to start the container again: taken up, performed in a worker, closed with their outcome.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::event::Event;
use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::relaunch::{Attempt, RelaunchPhase, StopRequest};
use bosun_types::{Error, Result, Timestamp};

use super::super::RelaunchMessage;
use super::super::attempt::Relaunch;
use super::super::decide::{Input, next};
use super::{Data, KILL_AGAIN};
use crate::call;
use crate::core::worker;
use crate::operation::{self, Failure};
use crate::recovery::plan::LIVES_MAX;

/// Between two looks at an operation of an earlier life that must be settled first.
const AGAIN: Duration = Duration::from_millis(50);

impl Data {
    /// Performs the row's attempt in a worker, unless something of an earlier life is still under way with the container.
    pub(super) async fn work(&mut self, attempt: Attempt) {
        match self.take_up(&attempt).await {
            Ok(true) => {}
            Ok(false) => return self.wake(AGAIN),
            Err(error) => {
                tracing::warn!(container = %self.record.container, %error, "an attempt cannot be taken up");
                return self.wake(KILL_AGAIN);
            }
        }
        if !matches!(self.record.state.phase, RelaunchPhase::Relaunching(_)) {
            return;
        }
        let pid = Arc::new(Mutex::new(0));
        let relaunch = Relaunch {
            core: self.core.clone(),
            namespace: self.record.namespace.clone(),
            container: self.record.container.clone(),
            attempt,
            heritage: self.record.state.heritage.clone(),
            pid: Arc::clone(&pid),
        };
        self.working = Some(pid);
        let me = self.me.clone();
        worker(async move {
            let performed = worker(async move { operation::perform(&relaunch).await });
            // Joined, so that a panic of the worker is heard and not waited for.
            let result = performed.await.unwrap_or_else(|error| {
                Err(Failure::Undone(Error::internal(format!("a worker failed: {error}"))))
            });
            let _ = me.send_message(RelaunchMessage::Performed(result));
        });
    }

    /// Whether the attempt may go on now. One of an earlier life is counted first, and given up when it was tried too often.
    async fn take_up(&mut self, attempt: &Attempt) -> Result<bool> {
        let stored: Option<OperationRecord> = self.core.store.get(&key::operation(attempt.operation))?;
        let cause = match &stored {
            None => Some("its operation was forgotten".to_owned()),
            Some(OperationRecord { status: OperationStatus::Parked { cause }, .. }) => {
                Some(cause.to_string())
            }
            Some(_) => None,
        };
        if let Some(cause) = cause {
            self.feed(Input::Stuck { cause }).await?;
            return Ok(true);
        }
        let Some(operation) = stored.filter(|it| it.id < self.core.life.first_operation) else {
            return Ok(true);
        };
        if self.is_in_recovery(&operation)? {
            return Ok(false);
        }
        if operation.attempts >= LIVES_MAX {
            let cause = Error::internal(format!("tried in {LIVES_MAX} lives of the daemon"));
            operation::park(&self.core, &operation, cause.clone()).await?;
            self.feed(Input::Stuck { cause: cause.to_string() }).await?;
            return Ok(true);
        }
        let mut batch = Batch::new();
        batch.update_operation(&OperationRecord { attempts: operation.attempts + 1, ..operation });
        self.core.commit(batch).await?;
        Ok(true)
    }

    /// Whether another operation of an earlier life works on the container's task.
    fn is_in_recovery(&self, own: &OperationRecord) -> Result<bool> {
        let open: Vec<OperationRecord> = self.core.store.scan(&key::Key::all())?;
        let mine = |operation: &OperationRecord| match &operation.intent {
            Intent::CreateTask { container, .. }
            | Intent::DeleteTask { container, .. }
            | Intent::StartProcess { container, exec: None, .. } => *container == self.record.container,
            _ => false,
        };
        Ok(open.iter().any(|other| {
            other.id != own.id
                && other.id < self.core.life.first_operation
                && other.namespace == own.namespace
                && !matches!(other.status, OperationStatus::Parked { .. })
                && mine(other)
        }))
    }

    /// The outcome: row, event and closed intent in one commit; then whoever asked; then what was asked for meanwhile.
    pub(super) async fn performed(&mut self, result: Result<(), Failure>) {
        let pid = self.working.take().map_or(0, |pid| *pid.lock().unwrap_or_else(PoisonError::into_inner));
        let RelaunchPhase::Relaunching(attempt) = self.record.state.phase.clone() else { return };
        let answer = match result {
            Ok(()) => self.succeeded(&attempt, pid).await.map(|()| pid),
            Err(failure) => Err(self.failed(&attempt, failure).await),
        };
        if matches!(self.record.state.phase, RelaunchPhase::Relaunching(_)) {
            // The store did not take it: its steps are idempotent.
            return self.wake(KILL_AGAIN);
        }
        self.starters.drain(..).for_each(|starter| drop(starter.send(answer.clone())));
        if self.record.state.stopped && answer.is_ok() {
            // A person stopped it while it was being started.
            if let Err(error) = self.begin_stop(None, StopRequest::default(), false).await {
                tracing::warn!(container = %self.record.container, %error, "a started container is not stopped yet");
            }
        }
        self.look_and_pursue().await;
    }

    async fn succeeded(&mut self, attempt: &Attempt, pid: u32) -> Result<()> {
        let decided = next(&self.record.policy, &self.record.state, &Input::Relaunched, Timestamp::now());
        let (id, count) = (self.record.container.clone(), decided.state.count);
        let operation: Option<OperationRecord> = self.core.store.get(&key::operation(attempt.operation))?;
        let mut batch = Batch::new();
        batch.close_operation(attempt.operation);
        batch.publish(&self.record.namespace, Event::ContainerRelaunched { id, pid, count });
        call::within(operation.and_then(|it| it.call), self.remember(decided, batch)).await
    }

    async fn failed(&mut self, attempt: &Attempt, failure: Failure) -> Error {
        let cause = failure.cause().clone();
        let input = match &failure {
            Failure::Undone(_) => Input::Failed { cause: cause.to_string() },
            Failure::Stuck { .. } => Input::Stuck { cause: cause.to_string() },
        };
        tracing::warn!(container = %self.record.container, %cause, "a container was not started again");
        let decided = next(&self.record.policy, &self.record.state, &input, Timestamp::now());
        let mut batch = Batch::new();
        match (failure, self.core.store.get::<OperationRecord>(&key::operation(attempt.operation))) {
            (Failure::Stuck { undo, .. }, Ok(Some(operation))) => {
                let cause = undo.context(format!("cannot take back after: {cause}"));
                batch.update_operation(&OperationRecord {
                    status: OperationStatus::Parked { cause },
                    ..operation
                });
            }
            _ => {
                batch.close_operation(attempt.operation);
            }
        }
        match self.remember(decided, batch).await {
            Ok(()) => cause,
            Err(error) => error.context(format!("after: {cause}")),
        }
    }
}
