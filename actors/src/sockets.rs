//! Sockets that yield one namespace: the records of what is wanted. The edge makes the host like them, at its start and after each change.

use bosun_storage::batch::Batch;
use bosun_storage::key::{self, Key};
use bosun_types::access::SocketRecord;
use bosun_types::{Error, NamespaceName, Result, SocketId, Timestamp};

use crate::core::Shared;
use crate::namespaces::{DEADLINE, WRITER};
use crate::writer::write;

/// Sockets at once: each is a listener of the edge.
const SOCKETS_MAX: usize = 256;
/// The permission bits that a socket may have.
const MODE_MAX: u32 = 0o777;

/// The records.
#[derive(Clone)]
pub struct SocketsHandle {
    core: Shared,
}

impl SocketsHandle {
    pub(crate) fn new(core: Shared) -> Self {
        Self { core }
    }

    /// Every one, ordered by name.
    pub fn list(&self) -> Result<Vec<SocketRecord>> {
        Ok(self.core.store.scan(&Key::all())?)
    }

    /// Records a socket; `created_at` is set here. The namespace need not exist: its first write makes it.
    ///
    /// # Errors
    /// InvalidArgument: its mode. AlreadyExists: its name is taken. ResourceExhausted: there are [`SOCKETS_MAX`].
    pub async fn create(&self, record: SocketRecord) -> Result<SocketRecord> {
        if record.mode > MODE_MAX {
            return Err(Error::invalid_argument(format!("mode {:o} is not of a socket", record.mode))
                .with_hint("permission bits alone, such as 0660"));
        }
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            let there: Vec<SocketRecord> = core.store.scan(&Key::all())?;
            if there.iter().any(|other| other.id == record.id) {
                return Err(Error::already_exists(format!("socket {}", record.id))
                    .with_hint("give it another name with --name, or remove the other first"));
            }
            if there.len() >= SOCKETS_MAX {
                return Err(Error::resource_exhausted(format!("there are {SOCKETS_MAX} sockets")));
            }
            let record = SocketRecord { created_at: Timestamp::now(), ..record };
            let mut batch = Batch::new();
            core.ensure_namespace(&mut batch, &record.namespace)?;
            batch.put(&record);
            core.commit(batch).await?;
            Ok(record)
        })
        .await
    }

    /// Drops a record. NotFound when there is none.
    pub async fn remove(&self, id: SocketId) -> Result<()> {
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            let key = key::socket(&id);
            if core.store.get::<SocketRecord>(&key)?.is_none() {
                return Err(Error::not_found(format!("socket {id}")));
            }
            let mut batch = Batch::new();
            batch.delete::<SocketRecord>(key);
            core.commit(batch).await.map(drop)
        })
        .await
    }

    /// Those of one namespace: it cannot go while somebody holds a way into it.
    pub(crate) fn of(&self, namespace: &NamespaceName) -> Result<Vec<SocketRecord>> {
        Ok(self.list()?.into_iter().filter(|record| record.namespace == *namespace).collect())
    }
}
