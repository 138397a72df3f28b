//! Blobs: read, write, list.

use std::cell::RefCell;
use std::rc::Rc;

use bosun_filter::Filters;
use bosun_protocol::common_capnp::byte_sink;
use bosun_protocol::convert::{length, pair_count, read_list, write_pairs, write_texts};
use bosun_protocol::{Wire, content_capnp};
use bosun_types::content::{ContentRecord, IngestStatus};
use bosun_types::{Digest, Error, Labels, NamespaceName, Result};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::daemon::all_pages;
use crate::driver::{Connector, Driver};
use crate::failure::{Failure, answer};
use crate::incoming::Incoming;
use crate::upload::{CHUNKS_BUFFERED_MAX, chunks};

/// The content of one namespace.
#[derive(Clone)]
pub struct Content {
    driver: Driver,
    namespace: NamespaceName,
}

/// One call on the content capability.
macro_rules! on_content {
    ($self:ident, |$content:ident, $results:ident| $request:expr => $value:expr) => {{
        let namespace = $self.namespace.clone();
        $self
            .driver
            .call(move |session| async move {
                let $content = session.scope(&namespace).content.clone();
                answer!($results, $request);
                Ok($value)
            })
            .await
    }};
}

impl Content {
    pub(crate) fn new(driver: Driver, namespace: NamespaceName) -> Self {
        Self { driver, namespace }
    }

    /// One blob's record.
    pub async fn info(&self, digest: Digest) -> Result<ContentRecord> {
        on_content!(self, |content, results| {
            let mut request = content.info_request();
            request.get().set_digest(digest.to_string().as_str());
            request
        } => ContentRecord::read(results.get_record()?)?)
    }

    /// All of them, ordered by digest.
    pub async fn list(&self) -> Result<Vec<ContentRecord>> {
        self.list_where(Filters::all()).await
    }

    /// Those that the filters want: fields `digest`, `labels.<key>`.
    pub async fn list_where(&self, filters: impl Into<Filters>) -> Result<Vec<ContentRecord>> {
        let filters = filters.into();
        let namespace = self.namespace.clone();
        self.driver
            .call(move |session| async move {
                all_pages!(session.scope(&namespace).content, list_request, get_records, filters)
            })
            .await
    }

    /// Sets labels; an empty value removes one. `replace`: these labels and no others.
    pub async fn update_labels(
        &self,
        digest: Digest,
        labels: Labels,
        replace: bool,
    ) -> Result<ContentRecord> {
        on_content!(self, |content, results| {
            let mut request = content.update_labels_request();
            let mut params = request.get();
            params.set_digest(digest.to_string().as_str());
            params.set_replace(replace);
            write_pairs(&labels, params.init_labels(pair_count(&labels)));
            request
        } => ContentRecord::read(results.get_record()?)?)
    }

    /// Removes a blob from this namespace.
    pub async fn delete(&self, digest: Digest) -> Result<()> {
        on_content!(self, |content, _results| {
            let mut request = content.delete_request();
            request.get().set_digest(digest.to_string().as_str());
            request
        } => ())
    }

    /// A blob's bytes from `offset` on, at most `size` of them; 0: to the end. The daemon reads no faster than the caller.
    pub fn read(&self, digest: Digest, offset: u64, size: u64) -> Result<Incoming<Bytes>> {
        let namespace = self.namespace.clone();
        let (sender, receiver) = mpsc::channel(CHUNKS_BUFFERED_MAX);
        self.driver.spawn(move |connector| async move {
            let gone = sender.clone();
            tokio::select! {
                () = gone.closed() => {}
                () = read_blob(connector, namespace, digest, offset, size, sender) => {}
            }
        })?;
        Ok(Incoming::new(receiver))
    }

    /// A whole blob of at most `bytes_max`.
    pub async fn read_all(&self, digest: Digest, bytes_max: usize) -> Result<Vec<u8>> {
        let mut incoming = self.read(digest, 0, 0)?;
        let mut all = Vec::new();
        while let Some(chunk) = incoming.next().await {
            let chunk = chunk?;
            if all.len() + chunk.len() > bytes_max {
                return Err(Error::out_of_range(format!("{digest} is larger than {bytes_max} bytes")));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// Opens an ingest, or takes one up where it was: see [`ContentWriter::offset`].
    pub async fn writer(
        &self,
        reference: String,
        total: u64,
        expected: Option<Digest>,
    ) -> Result<ContentWriter> {
        let namespace = self.namespace.clone();
        let (commands, receiver) = mpsc::channel(CHUNKS_BUFFERED_MAX);
        let status = self
            .driver
            .call(move |session| async move {
                let mut request = session.scope(&namespace).content.writer_request();
                let mut params = request.get();
                params.set_reference(reference.as_str());
                params.set_total(total);
                if let Some(expected) = &expected {
                    params.set_expected(expected.to_string().as_str());
                }
                answer!(results, request);
                let status = IngestStatus::read(results.get_status()?)?;
                let writer = results.get_writer()?;
                tokio::task::spawn_local(serve_writer(writer, status.offset, receiver));
                Ok(status)
            })
            .await?;
        Ok(ContentWriter { offset: status.offset, commands })
    }

    /// Unfinished ingests.
    pub async fn statuses(&self) -> Result<Vec<IngestStatus>> {
        self.statuses_where(Filters::all()).await
    }

    /// Those that the filters want: field `ref`.
    pub async fn statuses_where(&self, filters: impl Into<Filters>) -> Result<Vec<IngestStatus>> {
        let filters = filters.into();
        on_content!(self, |content, results| {
            let mut request = content.statuses_request();
            write_texts(filters.texts(), request.get().init_filters(length(filters.texts())));
            request
        } => read_list(results.get_statuses())?)
    }

    /// Removes an unfinished ingest.
    pub async fn abort(&self, reference: String) -> Result<()> {
        on_content!(self, |content, _results| {
            let mut request = content.abort_request();
            request.get().set_reference(reference.as_str());
            request
        } => ())
    }
}

async fn read_blob(
    connector: Rc<Connector>,
    namespace: NamespaceName,
    digest: Digest,
    offset: u64,
    size: u64,
    items: mpsc::Sender<Result<Bytes>>,
) {
    let outcome: Result<(), Failure> = async {
        let session = connector.session().await?;
        let mut request = session.scope(&namespace).content.read_request();
        let mut params = request.get();
        params.set_digest(digest.to_string().as_str());
        params.set_offset(offset);
        params.set_size(size);
        params.set_sink(capnp_rpc::new_client(Sink { items: RefCell::new(Some(items.clone())) }));
        answer!(_results, request);
        Ok(())
    }
    .await;
    if let Err(failure) = outcome {
        // The reader may have left.
        let _ = items.send(Err(failure.into_error())).await;
    }
}

/// Takes the chunks of a read; waiting here is what slows the daemon down.
struct Sink {
    items: RefCell<Option<mpsc::Sender<Result<Bytes>>>>,
}

impl byte_sink::Server for Sink {
    async fn write(self: Rc<Self>, params: byte_sink::WriteParams) -> Result<(), capnp::Error> {
        let bytes = Bytes::copy_from_slice(params.get()?.get_bytes()?);
        let items = self.items.borrow().clone();
        let Some(items) = items else { return Err(capnp::Error::failed("written after the end".to_owned())) };
        items.send(Ok(bytes)).await.map_err(|_| capnp::Error::failed("the reader has left".to_owned()))
    }

    async fn end(
        self: Rc<Self>,
        _: byte_sink::EndParams,
        _: byte_sink::EndResults,
    ) -> Result<(), capnp::Error> {
        self.items.borrow_mut().take();
        Ok(())
    }
}

/// An ingest being written. Dropping it keeps what was written, for a later writer.
pub struct ContentWriter {
    offset: u64,
    commands: mpsc::Sender<Command>,
}

enum Command {
    Write(Bytes),
    Status(oneshot::Sender<Result<IngestStatus>>),
    Commit {
        size: u64,
        expected: Option<Digest>,
        labels: Labels,
        reply: oneshot::Sender<Result<ContentRecord>>,
    },
    Abort(oneshot::Sender<Result<()>>),
}

impl ContentWriter {
    /// Where the next byte goes: bytes before it are there already.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends; waits while the daemon is behind. A failure to store is told by [`Self::commit`] and [`Self::status`].
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        for chunk in chunks(bytes) {
            let length = chunk.len() as u64;
            self.commands.send(Command::Write(chunk)).await.map_err(|_| ended())?;
            self.offset += length;
        }
        Ok(())
    }

    /// What the daemon has.
    pub async fn status(&self) -> Result<IngestStatus> {
        self.ask(Command::Status).await
    }

    /// Verifies and publishes the blob. `size` 0 and `expected` `None`: not checked.
    pub async fn commit(self, size: u64, expected: Option<Digest>, labels: Labels) -> Result<ContentRecord> {
        self.ask(|reply| Command::Commit { size, expected, labels, reply }).await
    }

    /// Removes the ingest.
    pub async fn abort(self) -> Result<()> {
        self.ask(Command::Abort).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

fn ended() -> Error {
    Error::unavailable("the writer has ended: its connection was lost")
        .with_hint("open the same reference again and go on at its offset")
}

/// Holds the writer's capability on the private thread. A failed write is kept by the daemon and told at the commit; only a
/// lost connection ends this early.
async fn serve_writer(
    writer: content_capnp::content_writer::Client,
    mut offset: u64,
    mut commands: mpsc::Receiver<Command>,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Write(bytes) => {
                let mut request = writer.write_request();
                request.get().set_offset(offset);
                request.get().set_bytes(&bytes);
                offset += bytes.len() as u64;
                if let Err(Failure::Lost(_)) = request.send().await.map_err(Failure::from) {
                    return;
                }
            }
            Command::Status(reply) => respond(reply, writer_status(&writer).await),
            Command::Commit { size, expected, labels, reply } => {
                respond(reply, writer_commit(&writer, size, expected, &labels).await);
                return;
            }
            Command::Abort(reply) => {
                respond(reply, writer_abort(&writer).await);
                return;
            }
        }
    }
}

fn respond<T>(reply: oneshot::Sender<Result<T>>, outcome: Result<T, Failure>) {
    // Nobody asks any more.
    let _ = reply.send(outcome.map_err(Failure::into_error));
}

async fn writer_status(writer: &content_capnp::content_writer::Client) -> Result<IngestStatus, Failure> {
    answer!(results, writer.status_request());
    Ok(IngestStatus::read(results.get_status()?)?)
}

async fn writer_commit(
    writer: &content_capnp::content_writer::Client,
    size: u64,
    expected: Option<Digest>,
    labels: &Labels,
) -> Result<ContentRecord, Failure> {
    let mut request = writer.commit_request();
    let mut params = request.get();
    params.set_size(size);
    if let Some(expected) = &expected {
        params.set_expected(expected.to_string().as_str());
    }
    write_pairs(labels, params.init_labels(pair_count(labels)));
    answer!(results, request);
    Ok(ContentRecord::read(results.get_record()?)?)
}

async fn writer_abort(writer: &content_capnp::content_writer::Client) -> Result<(), Failure> {
    answer!(_results, writer.abort_request());
    Ok(())
}
