//! Requests that come while the task finds out about its shim, right after its creation or a restart: kept until that is
//! known, so that a start pipelined behind a create meets a task that is ready, not a race.

use ractor::ActorRef;

use super::{TaskMessage, WAITERS_MAX};

/// Requests kept, in order.
pub(super) struct Early {
    /// Nothing is known of the shim yet.
    reattaching: bool,
    /// It has not said which execs it holds: one that an interrupted request left would stand in the way of the same id.
    execs_unknown: bool,
    kept: Vec<TaskMessage>,
}

impl Early {
    pub(super) const fn new() -> Self {
        Self { reattaching: true, execs_unknown: true, kept: Vec::new() }
    }

    /// Keeps the message if it needs the shim and nothing is known of it yet; else gives it back.
    pub(super) fn keep(&mut self, message: TaskMessage) -> Option<TaskMessage> {
        let needs_shim = matches!(
            message,
            TaskMessage::Start(..)
                | TaskMessage::Kill(..)
                | TaskMessage::Exec(..)
                | TaskMessage::DeleteExec(..)
                | TaskMessage::Delete(..)
                | TaskMessage::Freeze(..)
                | TaskMessage::BeginCheckpoint(..)
                | TaskMessage::BeginHold(..)
                | TaskMessage::Hold(..)
                | TaskMessage::Update(..)
                | TaskMessage::Pass(..)
        );
        let is_early = (self.reattaching && needs_shim)
            || (self.execs_unknown && matches!(message, TaskMessage::Exec(..)));
        if !(is_early && self.kept.len() < WAITERS_MAX) {
            return Some(message);
        }
        // Its call is at hand now, not when it is given back.
        self.kept.push(message.for_call());
        None
    }

    /// The connection was lost: it is being found out again.
    pub(super) fn begin(&mut self) {
        self.reattaching = true;
        self.execs_unknown = true;
    }

    /// There is no shim, or it does not answer: nothing more will be known soon, and what was kept is handled now.
    pub(super) fn settle_without_shim(&mut self, myself: &ActorRef<TaskMessage>) {
        self.execs_unknown = false;
        self.settle(myself);
    }

    /// The shim is connected: what was kept is handled now, but for new execs.
    pub(super) fn settle(&mut self, myself: &ActorRef<TaskMessage>) {
        self.reattaching = false;
        self.give_back(myself);
    }

    /// The shim has said which execs it holds, and they are those of the rows, or will not say.
    pub(super) fn know_execs(&mut self, myself: &ActorRef<TaskMessage>) {
        self.execs_unknown = false;
        self.give_back(myself);
    }

    fn give_back(&mut self, myself: &ActorRef<TaskMessage>) {
        for message in self.kept.drain(..) {
            // It fails only when this actor has ended, and its callers with it.
            let _ = myself.send_message(message);
        }
    }
}
