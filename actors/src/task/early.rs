//! Requests that come while the task finds out about its shim, right after its creation or a restart: kept until that is
//! known, so that a start pipelined behind a create meets a task that is ready, not a race.

use ractor::ActorRef;

use super::{TaskMessage, WAITERS_MAX};

/// Requests kept, in order.
pub(super) struct Early {
    /// Nothing is known of the shim yet.
    reattaching: bool,
    kept: Vec<TaskMessage>,
}

impl Early {
    pub(super) const fn new() -> Self {
        Self { reattaching: true, kept: Vec::new() }
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
                | TaskMessage::Update(..)
                | TaskMessage::Pass(..)
        );
        if !(self.reattaching && needs_shim && self.kept.len() < WAITERS_MAX) {
            return Some(message);
        }
        self.kept.push(message);
        None
    }

    /// The connection was lost: it is being found out again.
    pub(super) fn begin(&mut self) {
        self.reattaching = true;
    }

    /// The shim is connected, gone, or known not to answer: what was kept is handled now.
    pub(super) fn settle(&mut self, myself: &ActorRef<TaskMessage>) {
        self.reattaching = false;
        for message in self.kept.drain(..) {
            // It fails only when this actor has ended, and its callers with it.
            let _ = myself.send_message(message);
        }
    }
}
