//! One blob or manifest from or to a registry, without what it names.

use std::sync::{Mutex, PoisonError};

use bosun_storage::batch::Batch;
use bosun_storage::image::media_type;
use bosun_types::content::Descriptor;
use bosun_types::gc::{LABEL_ROOT, Object};
use bosun_types::image::ImageRecord;
use bosun_types::operation::OperationRecord;
use bosun_types::transfer::ObjectRequest;
use bosun_types::{Error, Labels, Result, Timestamp};
use futures::future::BoxFuture;

use super::layers::{self, Work};
use super::{logged, push, source};
use crate::namespaces::DEADLINE;
use crate::operation::{FETCH_OBJECT, Operation, PUSH_OBJECT, Plan};
use crate::writer::write;
use crate::{content, leases};

pub(super) async fn fetch(work: Work, operation: &OperationRecord) -> Result<Vec<ImageRecord>> {
    let core = work.core.clone();
    let fetch = FetchObject { work, found: Mutex::default() };
    logged::perform(&core, &fetch, fetch.record(operation), operation).await
}

struct FetchObject {
    work: Work,
    found: Mutex<Option<Descriptor>>,
}

impl FetchObject {
    async fn fetch(&self) -> Result<()> {
        let remote = self.work.remote()?;
        let digest = remote.reference.digest.ok_or_else(|| Error::internal("an object has a digest"))?;
        let found = self.work.unless_cancelled(remote.repository.find(&digest)).await?;
        self.work.keep(vec![Object::Blob(found.digest)]).await;
        let part = self.work.progress.part("object", &found);
        layers::ensure_blob(&self.work, &found, &part).await?;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(())
    }

    async fn record(&self, operation: &OperationRecord) -> Result<Vec<ImageRecord>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = found.ok_or_else(|| Error::internal("an object is fetched first"))?;
        let (namespace, lease, id) = (self.work.namespace.clone(), self.work.lease.clone(), operation.id);
        let mut labels = Labels::from([(LABEL_ROOT.to_owned(), Timestamp::now().to_string())]);
        source::add(&mut labels, &self.work.remote()?.reference);
        write(&self.work.core, &content::WRITER, DEADLINE, move |core| async move {
            if !core.content.has_blob(&found.digest) {
                return Err(Error::unavailable(format!("blob {} was deleted in the middle", found.digest))
                    .with_hint("try again"));
            }
            let mut batch = Batch::new();
            core.ensure_namespace(&mut batch, &namespace)?;
            content::put_or_extend(&core, &mut batch, content::record_of(&namespace, &found, labels))?;
            leases::extend(&core, &mut batch, &namespace, lease.as_ref(), [leases::blob(&found.digest)])?;
            batch.close_operation(id);
            core.commit(batch).await.map(|_| Vec::new())
        })
        .await
    }
}

impl Operation for FetchObject {
    fn plan(&self) -> &'static Plan {
        &FETCH_OBJECT
    }

    fn forward(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.fetch())
    }

    /// Bytes stay, to be resumed.
    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

pub(super) async fn push(
    work: Work,
    request: ObjectRequest,
    operation: &OperationRecord,
) -> Result<Vec<ImageRecord>> {
    let core = work.core.clone();
    let push = PushObject { work, request };
    let closed = async {
        let mut batch = Batch::new();
        batch.close_operation(operation.id);
        push.work.core.commit(batch).await.map(|_| Vec::new())
    };
    logged::perform(&core, &push, closed, operation).await
}

struct PushObject {
    work: Work,
    request: ObjectRequest,
}

impl PushObject {
    async fn push(&self) -> Result<()> {
        let record = content::get(&self.work.core, &self.work.namespace, &self.request.digest)?;
        let (media_type, digest) = (self.request.media_type.clone(), self.request.digest);
        let descriptor = Descriptor { media_type, digest, size: record.size };
        if media_type::is_manifest(&descriptor.media_type) || media_type::is_index(&descriptor.media_type) {
            return push::document(&self.work, &descriptor, &digest.to_string()).await;
        }
        push::blob(&self.work, &descriptor, "object").await
    }
}

impl Operation for PushObject {
    fn plan(&self) -> &'static Plan {
        &PUSH_OBJECT
    }

    fn forward(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.push())
    }

    /// What a registry was given is its own.
    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
