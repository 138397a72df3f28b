//! Bulk bytes both ways: a sink that a client writes into, and a client's sink that the daemon fills.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use bosun_protocol::common_capnp::byte_sink;
use bosun_protocol::limits::CHUNK_BYTES_MAX;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::connection::Held;

/// Bytes into the client's sink, as fast as its window allows. When the client leaves, dropping the bytes ends what makes them. Without an end
/// the client knows that not all of it came: it is told only if `whole` says so.
pub(crate) async fn send_all(
    mut bytes: mpsc::Receiver<Bytes>,
    sink: byte_sink::Client,
    whole: impl Future<Output = bool>,
) {
    while let Some(chunk) = bytes.recv().await {
        let mut request = sink.write_request();
        request.get().set_bytes(&chunk);
        if let Err(error) = request.send().await {
            tracing::debug!(%error, "the reader of a stream has left");
            return;
        }
    }
    if whole.await
        && let Err(error) = sink.end_request().send().promise.await
    {
        tracing::debug!(%error, "the reader of a stream has left");
    }
}

/// Where a client writes bytes.
pub(crate) struct Sink {
    held: Held,
    bytes: RefCell<Option<mpsc::Sender<Bytes>>>,
    ended: Cell<bool>,
    abandon: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
}

impl Sink {
    /// `abandon` is run, before the bytes seem to end, when the client leaves without saying that they do.
    pub(crate) fn new(
        held: Held,
        bytes: mpsc::Sender<Bytes>,
        abandon: impl Future<Output = ()> + 'static,
    ) -> Self {
        Self {
            held,
            bytes: RefCell::new(Some(bytes)),
            ended: Cell::new(false),
            abandon: RefCell::new(Some(Box::pin(abandon))),
        }
    }
}

impl byte_sink::Server for Sink {
    async fn write(self: Rc<Self>, params: byte_sink::WriteParams) -> Result<(), capnp::Error> {
        let bytes = params.get()?.get_bytes()?;
        if bytes.len() > CHUNK_BYTES_MAX {
            return Err(capnp::Error::failed(format!("a chunk has at most {CHUNK_BYTES_MAX} bytes")));
        }
        let _room = self.held.bulk(bytes.len())?;
        let sender = self.bytes.borrow().clone();
        let Some(sender) = sender else {
            return Err(capnp::Error::failed("written after the end".to_owned()));
        };
        let sent = sender.send(Bytes::copy_from_slice(bytes)).await;
        sent.map_err(|_| capnp::Error::failed("what reads the stream has ended".to_owned()))
    }

    async fn end(
        self: Rc<Self>,
        _: byte_sink::EndParams,
        _: byte_sink::EndResults,
    ) -> Result<(), capnp::Error> {
        self.ended.set(true);
        self.bytes.borrow_mut().take();
        Ok(())
    }
}

impl Drop for Sink {
    /// Without an end the bytes are not whole: what looks like their end must not be taken for it.
    fn drop(&mut self) {
        if self.ended.get() {
            return;
        }
        let (abandon, bytes) = (self.abandon.borrow_mut().take(), self.bytes.borrow_mut().take());
        tokio::task::spawn_local(async move {
            if let Some(abandon) = abandon {
                abandon.await;
            }
            drop(bytes);
        });
    }
}
