//! Blobs: read, list, and the way to a writer.

use std::cell::RefCell;
use std::rc::Rc;

use bosun_filter::Filters;
use bosun_protocol::Wire;
use bosun_protocol::common_capnp::byte_sink;
use bosun_protocol::convert::{length, pair_count, read_list, write_pairs, write_texts};
use bosun_types::content::{ContentRecord, Finding, IngestStatus};
use bosun_types::{Digest, Error, Labels, Result};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::daemon::all_pages;
use crate::driver::{Connector, Driver};
use crate::failure::{Failure, answer};
use crate::incoming::Incoming;
use crate::session::{Place, Session};
use crate::upload::CHUNKS_BUFFERED_MAX;

mod copy;
mod writer;

pub use writer::ContentWriter;

/// The content of one namespace.
///
/// ```no_run
#[doc = include_str!("../examples/tour/content.rs")]
/// ```
#[derive(Clone)]
pub struct Content {
    driver: Driver,
    namespace: Place,
}

/// One call on the content capability.
macro_rules! on_content {
    ($self:ident.$how:ident, |$content:ident, $results:ident| $request:expr => $value:expr) => {{
        let namespace = $self.namespace.clone();
        $self
            .driver
            .$how(move |session| async move {
                let $content = (*session.scope(&namespace).content).clone();
                answer!($results, $request);
                Ok($value)
            })
            .await
    }};
}

impl Content {
    pub(crate) fn new(driver: Driver, namespace: Place) -> Self {
        Self { driver, namespace }
    }

    /// One blob's record.
    pub async fn info(&self, digest: Digest) -> Result<ContentRecord> {
        on_content!(self.call, |content, results| {
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
        on_content!(self.change, |content, results| {
            let mut request = content.update_labels_request();
            let mut params = request.get();
            params.set_digest(digest.to_string().as_str());
            params.set_replace(replace);
            write_pairs(&labels, params.init_labels(pair_count(&labels)));
            request
        } => ContentRecord::read(results.get_record()?)?)
    }

    /// Whether a blob's bytes are what was committed; with `repair` a damaged one is fetched again from where it came from. Without a deadline.
    pub async fn verify(&self, digest: Digest, repair: bool) -> Result<Finding> {
        let namespace = self.namespace.clone();
        self.driver
            .wait(move |session| {
                let mut request = session.scope(&namespace).content.verify_request();
                request.get().set_digest(digest.to_string().as_str());
                request.get().set_repair(repair);
                async move {
                    answer!(results, request);
                    Ok(Finding::read(results.get_finding()?)?)
                }
            })
            .await
    }

    /// Removes a blob from this namespace.
    pub async fn delete(&self, digest: Digest) -> Result<()> {
        on_content!(self.change, |content, _results| {
            let mut request = content.delete_request();
            request.get().set_digest(digest.to_string().as_str());
            request
        } => ())
    }

    /// A blob's bytes from `offset` on, at most `size` of them; 0: to the end. The daemon reads no faster than the caller,
    /// and a lost connection is taken up again where it was.
    pub fn read(&self, digest: Digest, offset: u64, size: u64) -> Result<Incoming<Bytes>> {
        let namespace = self.namespace.clone();
        let remaining = Remaining { offset, size: (size != 0).then_some(size), ended: false };
        let (sender, receiver) = mpsc::channel(CHUNKS_BUFFERED_MAX);
        self.driver.spawn(move |connector| async move {
            let gone = sender.clone();
            tokio::select! {
                () = gone.closed() => {}
                () = read_blob(connector, namespace, digest, remaining, sender) => {}
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
    ///
    /// # Errors
    /// Unavailable while another writer has it open ([`Self::open_writer`] waits); AlreadyExists when the expected blob is here.
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
            .open(move |session| async move {
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
                tokio::task::spawn_local(writer::serve(writer, status.offset, receiver));
                Ok(status)
            })
            .await?;
        Ok(ContentWriter::new(self.driver.clone(), status.offset, commands))
    }

    /// One unfinished ingest.
    pub async fn status(&self, reference: String) -> Result<IngestStatus> {
        on_content!(self.call, |content, results| {
            let mut request = content.status_request();
            request.get().set_reference(reference.as_str());
            request
        } => IngestStatus::read(results.get_status()?)?)
    }

    /// Unfinished ingests.
    pub async fn statuses(&self) -> Result<Vec<IngestStatus>> {
        self.statuses_where(Filters::all()).await
    }

    /// Those that the filters want: field `ref`.
    pub async fn statuses_where(&self, filters: impl Into<Filters>) -> Result<Vec<IngestStatus>> {
        let filters = filters.into();
        on_content!(self.call, |content, results| {
            let mut request = content.statuses_request();
            write_texts(filters.texts(), request.get().init_filters(length(filters.texts())));
            request
        } => read_list(results.get_statuses())?)
    }

    /// Removes an unfinished ingest.
    pub async fn abort(&self, reference: String) -> Result<()> {
        on_content!(self.change, |content, _results| {
            let mut request = content.abort_request();
            request.get().set_reference(reference.as_str());
            request
        } => ())
    }
}

/// What is left of a read; a lost connection is taken up again behind what has come.
struct Remaining {
    offset: u64,
    /// `None`: to the end.
    size: Option<u64>,
    ended: bool,
}

impl Remaining {
    fn advance(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.offset += bytes;
        self.size = self.size.map(|size| size.saturating_sub(bytes));
        self.ended |= self.size == Some(0);
    }
}

async fn read_blob(
    connector: Rc<Connector>,
    namespace: Place,
    digest: Digest,
    remaining: Remaining,
    items: mpsc::Sender<Result<Bytes>>,
) {
    let remaining = Rc::new(RefCell::new(remaining));
    let failure = loop {
        let session = match connector.session().await {
            Ok(session) => session,
            Err(failure) => break failure,
        };
        match read_over(&session, &namespace, digest, &remaining, &items).await {
            Ok(()) => return,
            Err(Failure::Lost(_)) if remaining.borrow().ended => return,
            Err(Failure::Lost(_)) => connector.forget(&session),
            Err(failure) => break failure,
        }
    };
    // The reader may have left.
    let _ = items.send(Err(failure.into_error())).await;
}

async fn read_over(
    session: &Session,
    namespace: &Place,
    digest: Digest,
    remaining: &Rc<RefCell<Remaining>>,
    items: &mpsc::Sender<Result<Bytes>>,
) -> Result<(), Failure> {
    let mut request = session.scope(namespace).content.read_request();
    let mut params = request.get();
    params.set_digest(digest.to_string().as_str());
    params.set_offset(remaining.borrow().offset);
    params.set_size(remaining.borrow().size.unwrap_or(0));
    let sink = Sink { items: RefCell::new(Some(items.clone())), remaining: Rc::clone(remaining) };
    params.set_sink(capnp_rpc::new_client(sink));
    answer!(_results, request);
    Ok(())
}

/// Takes the chunks of a read; waiting here is what slows the daemon down.
struct Sink {
    items: RefCell<Option<mpsc::Sender<Result<Bytes>>>>,
    remaining: Rc<RefCell<Remaining>>,
}

impl byte_sink::Server for Sink {
    async fn write(self: Rc<Self>, params: byte_sink::WriteParams) -> Result<(), capnp::Error> {
        let bytes = Bytes::copy_from_slice(params.get()?.get_bytes()?);
        let items = self.items.borrow().clone();
        let Some(items) = items else { return Err(capnp::Error::failed("written after the end".to_owned())) };
        let length = bytes.len();
        items.send(Ok(bytes)).await.map_err(|_| capnp::Error::failed("the reader has left".to_owned()))?;
        self.remaining.borrow_mut().advance(length);
        Ok(())
    }

    async fn end(
        self: Rc<Self>,
        _: byte_sink::EndParams,
        _: byte_sink::EndResults,
    ) -> Result<(), capnp::Error> {
        self.items.borrow_mut().take();
        self.remaining.borrow_mut().ended = true;
        Ok(())
    }
}
