//! The operation log's law: from which status which event leads where. One total function, used by the live operations and by recovery
//! alike, so that a replay after a crash cannot take another path than the daemon would have.
//!
//! | status | done | failed | undone | given up | retried | dismissed |
//! |---|---|---|---|---|---|---|
//! | forward | closed | undoing | | parked | | |
//! | undoing | | undoing, first cause kept | closed | parked | | |
//! | parked | | | | parked, last cause kept | forward or undoing | closed |
//!
//! An empty cell is [`IllegalEvent`].
//! The records live in [`crate::table::Table::Operations`]; a closed operation has no record.

use bosun_types::Error;
use bosun_types::operation::OperationStatus;

/// What may befall an open operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationEvent {
    /// Its last step is done and its rows are in the closing commit.
    Done,
    /// A step failed, or a contradicting request cancelled it: what was done is taken back.
    Failed(Error),
    /// Everything is taken back.
    Undone,
    /// Neither forward nor back is possible: it waits for someone to look.
    GivenUp(Error),
    /// Someone asks to try a parked one again.
    Retried(Direction),
    /// Someone dropped a parked one.
    Dismissed,
}

/// Where a retried operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To its end.
    Forward,
    /// Back to its beginning.
    Back,
}

/// Where an operation is after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It stays open with this status.
    Open(OperationStatus),
    /// It is over: its record goes.
    Closed,
}

/// The event does not fit the status: a bug in the caller, not in the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an operation that is {status} cannot be {event}")]
pub struct IllegalEvent {
    /// Where it was.
    pub status: &'static str,
    /// What was said of it.
    pub event: &'static str,
}

impl From<IllegalEvent> for Error {
    fn from(error: IllegalEvent) -> Self {
        Self::internal(error.to_string())
    }
}

/// The law. Pure and total: every pair of status and event has an answer.
pub fn next_status(status: &OperationStatus, event: OperationEvent) -> Result<Next, IllegalEvent> {
    use OperationEvent as E;
    use OperationStatus as S;
    let illegal = |event: &'static str| Err(IllegalEvent { status: status_name(status), event });
    match (status, event) {
        (S::Forward, E::Done) => Ok(Next::Closed),
        (S::Forward, E::Failed(cause)) => Ok(Next::Open(S::Undoing { cause })),
        // A second failure while going back does not change why it goes back.
        (S::Undoing { cause }, E::Failed(_)) => Ok(Next::Open(S::Undoing { cause: cause.clone() })),
        (S::Undoing { .. }, E::Undone) => Ok(Next::Closed),
        (S::Forward | S::Undoing { .. }, E::GivenUp(cause)) => Ok(Next::Open(S::Parked { cause })),
        // Recovery may find a parked one unfit once more: the newest cause is the one to show.
        (S::Parked { .. }, E::GivenUp(cause)) => Ok(Next::Open(S::Parked { cause })),
        (S::Parked { .. }, E::Retried(Direction::Forward)) => Ok(Next::Open(S::Forward)),
        (S::Parked { cause }, E::Retried(Direction::Back)) => {
            Ok(Next::Open(S::Undoing { cause: cause.clone() }))
        }
        (S::Parked { .. }, E::Dismissed) => Ok(Next::Closed),
        (S::Undoing { .. } | S::Parked { .. }, E::Done) => illegal("done"),
        (S::Parked { .. }, E::Failed(_)) => illegal("failed"),
        (S::Forward | S::Parked { .. }, E::Undone) => illegal("undone"),
        (S::Forward | S::Undoing { .. }, E::Retried(_)) => illegal("retried"),
        (S::Forward | S::Undoing { .. }, E::Dismissed) => illegal("dismissed"),
    }
}

const fn status_name(status: &OperationStatus) -> &'static str {
    match status {
        OperationStatus::Forward => "going forward",
        OperationStatus::Undoing { .. } => "going back",
        OperationStatus::Parked { .. } => "parked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every status against every event: `c` closed, `f` forward, `u` undoing, `p` parked, `-` illegal.
    #[test]
    fn the_whole_table() {
        let old = || Error::internal("old");
        let new = || Error::unavailable("new");
        let statuses = [
            OperationStatus::Forward,
            OperationStatus::Undoing { cause: old() },
            OperationStatus::Parked { cause: old() },
        ];
        let rows = [
            (OperationEvent::Done, "c--"),
            (OperationEvent::Failed(new()), "uu-"),
            (OperationEvent::Undone, "-c-"),
            (OperationEvent::GivenUp(new()), "ppp"),
            (OperationEvent::Retried(Direction::Forward), "--f"),
            (OperationEvent::Retried(Direction::Back), "--u"),
            (OperationEvent::Dismissed, "--c"),
        ];
        for (event, want) in rows {
            let letter = |status: &OperationStatus| match next_status(status, event.clone()) {
                Ok(Next::Closed) => 'c',
                Ok(Next::Open(OperationStatus::Forward)) => 'f',
                Ok(Next::Open(OperationStatus::Undoing { .. })) => 'u',
                Ok(Next::Open(OperationStatus::Parked { .. })) => 'p',
                Err(_) => '-',
            };
            assert_eq!(statuses.iter().map(letter).collect::<String>(), want, "{event:?}");
        }
    }

    #[test]
    fn the_first_cause_of_going_back_is_kept_and_the_last_of_being_parked() {
        let undoing = OperationStatus::Undoing { cause: Error::internal("first") };
        let again = next_status(&undoing, OperationEvent::Failed(Error::internal("second")));
        assert_eq!(again, Ok(Next::Open(undoing.clone())));
        let cause = Error::internal("stuck");
        let parked = next_status(&undoing, OperationEvent::GivenUp(cause.clone()));
        assert_eq!(parked, Ok(Next::Open(OperationStatus::Parked { cause })));
    }

    #[test]
    fn an_illegal_event_names_both() {
        let error = next_status(&OperationStatus::Forward, OperationEvent::Undone).expect_err("illegal");
        assert_eq!(error.to_string(), "an operation that is going forward cannot be undone");
    }
}
