//! A sink that the daemon writes bytes into, and the reader behind it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bosun_protocol::common_capnp::byte_sink;
use bosun_types::Result;
use bytes::Bytes;
use tokio::sync::mpsc;

/// Takes the chunks; waiting here is what slows the daemon down.
pub(crate) struct Sink {
    items: RefCell<Option<mpsc::Sender<Result<Bytes>>>>,
    ended: Arc<AtomicBool>,
}

impl Sink {
    pub(crate) fn new(items: mpsc::Sender<Result<Bytes>>) -> Self {
        Self { items: RefCell::new(Some(items)), ended: Arc::default() }
    }

    /// Becomes true when the daemon has said that all bytes are there, before the reader sees the end.
    pub(crate) fn ended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ended)
    }
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
        self.ended.store(true, Ordering::SeqCst);
        self.items.borrow_mut().take();
        Ok(())
    }
}
