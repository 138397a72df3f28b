//! What is committed together: rows, operation log records, events. All or nothing.

use bosun_types::call::CallId;
use bosun_types::event::Event;
use bosun_types::gc::Object;
use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::task::ExitStatus;
use bosun_types::{NamespaceName, OperationId};

use crate::codec;
use crate::error::{Result, StoreError};
use crate::key::{self, Key};
use crate::table::{Record, Table};

/// One raw change: table, key, and the value or its absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its table.
    pub table: Table,
    /// Its key.
    pub key: Key,
    /// `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// Changes that become durable together. Encoding errors show at commit.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) writes: Vec<Write>,
    pub(crate) events: Vec<(NamespaceName, Event)>,
    /// Begins something that will need space: refused while the disk is full.
    pub(crate) grows: bool,
    /// What the new rows keep, for the collector.
    touched: Vec<(NamespaceName, Object)>,
    /// The call that this does.
    pub(crate) call: Option<CallId>,
    /// What a repetition of it is told.
    pub(crate) exit: Option<ExitStatus>,
    /// It logs an intent: what was asked for is not done with it.
    opens: bool,
    failed: Option<StoreError>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a row.
    pub fn put<R: Record>(&mut self, record: &R) -> &mut Self {
        if let Some((namespace, objects)) = record.touches() {
            self.touched.extend(objects.into_iter().map(|object| (namespace.clone(), object)));
        }
        match codec::encode(record) {
            Ok(value) => self.writes.push(Write { table: R::TABLE, key: record.key(), value: Some(value) }),
            Err(error) => self.failed = Some(error),
        }
        self
    }

    /// Removes a row; its absence is no error.
    pub fn delete<R: Record>(&mut self, key: Key) -> &mut Self {
        self.writes.push(Write { table: R::TABLE, key, value: None });
        self
    }

    /// Publishes an event; the committer gives it its sequence number and its time.
    pub fn publish(&mut self, namespace: &NamespaceName, event: Event) -> &mut Self {
        self.events.push((namespace.clone(), event));
        self
    }

    /// Logs an intent: always in the same batch as the row that it changes, before the first effect.
    pub fn open_operation(&mut self, operation: &OperationRecord) -> &mut Self {
        self.opens = true;
        self.grows |= operation.status == OperationStatus::Forward && needs_space(&operation.intent);
        self.put(operation)
    }

    /// Changes the status of an open operation.
    pub fn update_operation(&mut self, operation: &OperationRecord) -> &mut Self {
        self.put(operation)
    }

    /// Logs the outcome: the operation is over; always in the same batch as its rows and events.
    pub fn close_operation(&mut self, id: OperationId) -> &mut Self {
        self.delete::<OperationRecord>(key::operation(id))
    }

    /// With this batch that call is done. Not with one that only logs an intent: the call is done with its outcome.
    pub fn finish_call(&mut self, id: CallId) -> &mut Self {
        if !self.opens {
            self.call = Some(id);
        }
        self
    }

    /// Should a call be done with this batch: a repetition of it is told this end of what is gone.
    pub fn answer_call(&mut self, exit: Option<&ExitStatus>) -> &mut Self {
        self.exit = exit.cloned();
        self
    }

    /// The blobs and snapshots that the rows of this batch keep, or are.
    pub fn take_touched(&mut self) -> Vec<(NamespaceName, Object)> {
        std::mem::take(&mut self.touched)
    }

    /// Rows that go and may have kept something, or held something themselves (GC-8).
    pub fn removals(&self) -> usize {
        let counts = |table| {
            matches!(
                table,
                Table::Images | Table::Containers | Table::Content | Table::Snapshots | Table::Leases
            )
        };
        self.writes.iter().filter(|write| write.value.is_none() && counts(write.table)).count()
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.events.is_empty() && self.failed.is_none()
    }

    /// Size of keys and values; events are small beside them.
    pub(crate) fn bytes(&self) -> usize {
        self.writes
            .iter()
            .map(|write| write.key.as_bytes().len() + write.value.as_ref().map_or(0, Vec::len))
            .sum()
    }

    /// The changes, or the first that did not encode.
    pub(crate) fn checked(self) -> Result<Self> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}

/// What only frees space, or runs what is already there, goes on when the disk is full.
fn needs_space(intent: &Intent) -> bool {
    match intent {
        Intent::PrepareSnapshot { .. }
        | Intent::CreateTask { .. }
        | Intent::Pull { .. }
        | Intent::CreateContainer { .. }
        | Intent::MakeLayer { .. }
        | Intent::ApplyLayer { .. }
        | Intent::Relaunch { .. }
        | Intent::RemapSnapshot { .. }
        | Intent::FetchObject { .. }
        | Intent::Checkpoint { .. } => true,
        Intent::Collect { .. }
        | Intent::RemoveSnapshot { .. }
        | Intent::StartProcess { .. }
        | Intent::DeleteTask { .. }
        | Intent::DeleteContainer { .. }
        | Intent::HoldTask { .. }
        | Intent::Push { .. }
        | Intent::PushObject { .. } => false,
    }
}
