//! Pulls, pushes and imports: they run in the daemon; a client begins, follows and cancels them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bosun_filter::Filters;
use bosun_protocol::common_capnp::byte_sink;
use bosun_protocol::convert::read_list;
use bosun_protocol::{Wire, transfer_capnp};
use bosun_types::image::ImageRecord;
use bosun_types::transfer::{
    Credential, ExportRequest, ImportRequest, ObjectRequest, PullRequest, PushRequest, TransferProgress,
};
use bosun_types::{Error, NamespaceName, Result};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::daemon::all_pages;
use crate::driver::Driver;
use crate::failure::{Failure, answer, results};
use crate::incoming::{Feed, Incoming, follow};
use crate::session::Place;
use crate::session::Session;
use crate::sink::Sink;
use crate::upload::{CHUNKS_BUFFERED_MAX, chunks};

/// The transfers of one namespace.
///
/// ```no_run
#[doc = include_str!("../examples/tour/transfers.rs")]
/// ```
#[derive(Clone)]
pub struct Transfers {
    driver: Driver,
    namespace: Place,
    credential: Option<Credential>,
}

/// Begins a transfer at a registry, with the credential beside its request.
macro_rules! begin {
    ($self:ident, $request:ident, $call:ident) => {{
        let (namespace, credential) = ($self.namespace.clone(), $self.credential.clone());
        let id = $self
            .driver
            .change(move |session| async move {
                let mut call = session.scope(&namespace).transfers.$call();
                let mut to = call.get().init_request();
                $request.write(to.reborrow());
                if let Some(credential) = &credential {
                    credential.write(to.init_credential());
                }
                answer!(results, call);
                session.hold_transfer(&namespace.name, results.get_id(), results.get_transfer()?);
                Ok(results.get_id())
            })
            .await?;
        Ok($self.get(id))
    }};
}

impl Transfers {
    pub(crate) fn new(driver: Driver, namespace: Place) -> Self {
        Self { driver, namespace, credential: None }
    }

    /// The same, asking registries as this user. The secret goes to the daemon with each request and to the one registry that its reference names;
    /// nobody logs it, and no disk sees it.
    #[must_use]
    pub fn with_credential(self, credential: Option<Credential>) -> Self {
        Self { credential, ..self }
    }

    /// Begins a pull, or joins an equal one under way. It goes on when the client leaves.
    pub async fn pull(&self, request: PullRequest) -> Result<Transfer> {
        begin!(self, request, pull_request)
    }

    /// Begins to send an image to a registry, or joins an equal push under way. It goes on when the client leaves.
    ///
    /// # Errors
    /// FailedPrecondition when something that the image names is not here.
    pub async fn push(&self, request: PushRequest) -> Result<Transfer> {
        begin!(self, request, push_request)
    }

    /// Begins to fetch one blob or manifest into content, without what it names. Nothing keeps it but the label that makes it a root.
    pub async fn fetch_object(&self, request: ObjectRequest) -> Result<Transfer> {
        begin!(self, request, fetch_object_request)
    }

    /// Begins to send one blob or manifest out of content.
    pub async fn push_object(&self, request: ObjectRequest) -> Result<Transfer> {
        begin!(self, request, push_object_request)
    }

    /// Begins an import. Write the archive to what this returns, then finish it.
    pub async fn import(&self, request: ImportRequest) -> Result<Import> {
        let namespace = self.namespace.clone();
        let (chunk_sender, chunk_receiver) = mpsc::channel(CHUNKS_BUFFERED_MAX);
        let (done_sender, done) = oneshot::channel();
        let id = self
            .driver
            .open(move |session| async move {
                let mut call = session.scope(&namespace).transfers.import_archive_request();
                request.write(call.get().init_request());
                answer!(results, call);
                let transfer = results.get_transfer()?;
                session.hold_transfer(&namespace.name, results.get_id(), transfer.clone());
                let sink = results.get_sink()?;
                tokio::task::spawn_local(feed_sink(sink, transfer, chunk_receiver, done_sender));
                Ok(results.get_id())
            })
            .await?;
        Ok(Import { transfer: self.get(id), chunks: chunk_sender, done, failed: None })
    }

    /// Begins an export: the bytes of an archive with these images. It ends with its reader.
    pub async fn export(&self, request: ExportRequest) -> Result<Export> {
        let namespace = self.namespace.clone();
        let (items, receiver) = mpsc::channel(CHUNKS_BUFFERED_MAX);
        let sink = Sink::new(items);
        let ended = sink.ended();
        let id = self
            .driver
            .open(move |session| async move {
                let mut call = session.scope(&namespace).transfers.export_archive_request();
                request.write(call.get().init_request());
                call.get().set_sink(capnp_rpc::new_client(sink));
                answer!(results, call);
                session.hold_transfer(&namespace.name, results.get_id(), results.get_transfer()?);
                Ok(results.get_id())
            })
            .await?;
        Ok(Export { transfer: self.get(id), bytes: Incoming::new(receiver), ended })
    }

    /// Those that the daemon knows of: under way and recent.
    pub async fn list(&self) -> Result<Vec<TransferProgress>> {
        self.list_where(Filters::all()).await
    }

    /// Those that the filters want: fields `id`, `subject`, `state`.
    pub async fn list_where(&self, filters: impl Into<Filters>) -> Result<Vec<TransferProgress>> {
        let filters = filters.into();
        let namespace = self.namespace.clone();
        self.driver
            .call(move |session| async move {
                all_pages!(session.scope(&namespace).transfers, list_request, get_transfers, filters)
            })
            .await
    }

    /// One, by number; whether it exists shows at the first call.
    pub fn get(&self, id: u64) -> Transfer {
        let (driver, namespace) = (self.driver.clone(), self.namespace.name.clone());
        Transfer { held: Arc::new(Held { driver, namespace, id }) }
    }
}

/// One pull or import. Dropping it changes nothing for the transfer.
#[derive(Clone)]
pub struct Transfer {
    held: Arc<Held>,
}

/// Lets go of the capability when the last clone of the noun is gone.
struct Held {
    driver: Driver,
    namespace: NamespaceName,
    id: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let (namespace, id) = (self.namespace.clone(), self.id);
        // A thread that has ended holds nothing any more.
        let _ = self.driver.spawn(move |connector| async move {
            if let Some(session) = connector.current() {
                session.release_transfer(&namespace, id);
            }
        });
    }
}

/// One call on the transfer's capability.
macro_rules! on_transfer {
    ($self:ident.$how:ident, |$results:ident| $request:ident => $value:expr) => {{
        let (namespace, id) = ($self.held.namespace.clone(), $self.held.id);
        $self
            .held
            .driver
            .$how(move |session| {
                let namespace = namespace.clone();
                async move {
                    answer!($results, session.transfer(&namespace, id).await?.$request());
                    Ok($value)
                }
            })
            .await
    }};
}

impl Transfer {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.held.id
    }

    /// Where it stands.
    pub async fn progress(&self) -> Result<TransferProgress> {
        on_transfer!(self.call, |results| progress_request => TransferProgress::read(results.get_progress()?)?)
    }

    /// Where it stands, each time that changes; a slow reader skips to the newest. Ends with the transfer.
    pub async fn watch(&self) -> Result<Incoming<TransferProgress>> {
        let (namespace, id) = (self.held.namespace.clone(), self.held.id);
        follow(&self.held.driver, Watch { namespace, id }).await
    }

    /// The images that it recorded, when it is done; its own failure when it failed.
    pub async fn wait(&self) -> Result<Vec<ImageRecord>> {
        on_transfer!(self.wait_through_recovery, |results| wait_request => read_list(results.get_images())?)
    }

    /// Stops it. What was fetched stays, and is taken up by the next try.
    pub async fn cancel(&self) -> Result<()> {
        on_transfer!(self.change, |_results| cancel_request => ())
    }
}

struct Watch {
    namespace: NamespaceName,
    id: u64,
}

impl Feed for Watch {
    type Item = TransferProgress;
    type Cursor = transfer_capnp::progress_cursor::Client;

    async fn open(&mut self, session: &Session) -> Result<Self::Cursor, Failure> {
        answer!(results, session.transfer(&self.namespace, self.id).await?.watch_request());
        Ok(results.get_cursor()?)
    }

    async fn next(&mut self, cursor: &Self::Cursor) -> Result<(Vec<TransferProgress>, bool), Failure> {
        let response = cursor.next_request().send().promise.await?;
        let results = results!(response);
        let end = results.get_end();
        if !results.has_progress() {
            return Ok((Vec::new(), end));
        }
        Ok((vec![TransferProgress::read(results.get_progress()?)?], end))
    }
}

/// An export that is being read. Dropping it ends the export.
pub struct Export {
    transfer: Transfer,
    bytes: Incoming<Bytes>,
    ended: Arc<AtomicBool>,
}

impl Export {
    /// The transfer, to follow.
    pub fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// The next part of the archive; `None` once all of it came, and every blob in it was right.
    ///
    /// # Errors
    /// Why the export failed; what came so far is of no use.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(chunk) = self.bytes.next().await {
            return chunk.map(Some);
        }
        if self.ended.load(Ordering::SeqCst) {
            return Ok(None);
        }
        self.transfer.wait().await?;
        Err(Error::unavailable("the connection was lost before the end of the archive")
            .with_hint("try again"))
    }
}

/// An import that is being written. Dropping it before [`Import::finish`] fails the import.
pub struct Import {
    transfer: Transfer,
    chunks: mpsc::Sender<Bytes>,
    done: oneshot::Receiver<Result<()>>,
    /// Why writing failed: the outcome comes once, and may be asked for again.
    failed: Option<Error>,
}

impl Import {
    /// The transfer, to follow.
    pub fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// Writes a part of the archive; waits while the daemon is behind.
    ///
    /// # Errors
    /// Why the import failed.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        for chunk in chunks(bytes) {
            if self.chunks.send(chunk).await.is_err() {
                let outcome = (&mut self.done).await.unwrap_or_else(|_| Err(ended()));
                let error = outcome.err().unwrap_or_else(ended);
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Says that the archive is complete. Wait for the transfer then.
    pub async fn finish(self) -> Result<Transfer> {
        drop(self.chunks);
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.done.await.unwrap_or_else(|_| Err(ended()))?;
        Ok(self.transfer)
    }
}

fn ended() -> Error {
    Error::unavailable("the import has ended")
}

/// An empty channel with its sender dropped is the archive's end only if [`Import::finish`] waits for the outcome.
async fn feed_sink(
    sink: byte_sink::Client,
    transfer: transfer_capnp::transfer::Client,
    mut chunks: mpsc::Receiver<Bytes>,
    done: oneshot::Sender<Result<()>>,
) {
    let outcome = async {
        while let Some(chunk) = chunks.recv().await {
            let mut request = sink.write_request();
            request.get().set_bytes(&chunk);
            request.send().await?;
        }
        if done.is_closed() {
            return Ok(());
        }
        answer!(_results, sink.end_request());
        Ok(())
    }
    .await;
    let outcome = match outcome {
        Err(failure) => Err(cause(&transfer, failure).await),
        Ok(()) => Ok(()),
    };
    // Nobody asks any more.
    let _ = done.send(outcome);
}

/// A broken stream says little: the transfer itself knows why it failed.
async fn cause(transfer: &transfer_capnp::transfer::Client, failure: Failure) -> Error {
    let asked: Result<(), Failure> = async {
        answer!(_results, transfer.wait_request());
        Ok(())
    }
    .await;
    match asked {
        Err(Failure::Answer(error)) => error,
        _ => failure.into_error(),
    }
}
