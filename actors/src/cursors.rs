//! Named cursors: where a subscriber to events is, kept for it between its lives and the daemon's. A cursor is a row; what it costs does not grow with what
//! its subscriber has not read, and events do not wait for it: one that is too far behind is told what it missed.
//!
//! Writes go through a writer of their own, so that an acknowledgement never takes a cursor back.

use bosun_storage::batch::Batch;
use bosun_storage::key::{self, Key};
use bosun_types::event::{CursorRecord, EventSequence, EventStart};
use bosun_types::{CursorId, Error, NamespaceName, Result, Timestamp};

use crate::core::{Core, Shared};
use crate::directory::Name;
use crate::events::EventsHandle;
use crate::namespaces::DEADLINE;
use crate::writer::write;

/// The writer.
pub(crate) const WRITER: Name = Name::Service("cursors");
/// Most cursors.
const CURSORS_MAX: usize = 1024;

/// The cursors of one namespace's events, or of those of all.
#[derive(Clone)]
pub struct CursorsHandle {
    core: Shared,
    events: EventsHandle,
    namespace: Option<NamespaceName>,
}

impl CursorsHandle {
    pub(crate) fn new(core: Shared, events: EventsHandle, namespace: Option<NamespaceName>) -> Self {
        Self { core, events, namespace }
    }

    /// By id.
    pub async fn list(&self) -> Result<Vec<CursorRecord>> {
        Ok(self.core.store.scan(&key::cursors_of(self.namespace.as_ref()))?)
    }

    /// The cursor of that id; made, with `start` as the next event, if there is none.
    pub async fn create(&self, id: CursorId, start: EventStart) -> Result<CursorRecord> {
        let position = self.events.first(start).await? - 1;
        let namespace = self.namespace.clone();
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            if let Some(record) = core.store.get(&key::cursor(namespace.as_ref(), &id))? {
                return Ok(record);
            }
            if core.store.scan::<CursorRecord>(&Key::all())?.len() >= CURSORS_MAX {
                return Err(Error::resource_exhausted(format!("there are {CURSORS_MAX} cursors already"))
                    .with_hint("remove those that nobody uses: bosun events cursors ls"));
            }
            let now = Timestamp::now();
            let record = CursorRecord { namespace, id, position, created_at: now, updated_at: now };
            put(&core, record).await
        })
        .await
    }

    /// Everything up to `sequence` is done. Durable when it returns; never goes back.
    pub async fn acknowledge(&self, id: CursorId, sequence: EventSequence) -> Result<CursorRecord> {
        let head = self.core.store.event_head();
        if sequence > head {
            return Err(Error::invalid_argument(format!(
                "cursor {id}: event {sequence} cannot be acknowledged, the newest is {head}"
            )));
        }
        let namespace = self.namespace.clone();
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            let record = get(&core, namespace.as_ref(), &id)?;
            if sequence <= record.position {
                return Ok(record);
            }
            put(&core, CursorRecord { position: sequence, updated_at: Timestamp::now(), ..record }).await
        })
        .await
    }

    /// NotFound when there is none.
    pub async fn remove(&self, id: CursorId) -> Result<()> {
        let namespace = self.namespace.clone();
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            get(&core, namespace.as_ref(), &id)?;
            let mut batch = Batch::new();
            batch.delete::<CursorRecord>(key::cursor(namespace.as_ref(), &id));
            core.commit(batch).await.map(drop)
        })
        .await
    }
}

fn get(core: &Core, namespace: Option<&NamespaceName>, id: &CursorId) -> Result<CursorRecord> {
    core.store.get(&key::cursor(namespace, id))?.ok_or_else(|| Error::not_found(format!("cursor {id}")))
}

async fn put(core: &Core, record: CursorRecord) -> Result<CursorRecord> {
    let mut batch = Batch::new();
    batch.put(&record);
    core.commit(batch).await?;
    Ok(record)
}
