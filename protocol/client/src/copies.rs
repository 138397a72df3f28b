//! Copies of files out of containers and into them, as tar streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bosun_protocol::common_capnp::byte_sink;
use bosun_protocol::container_capnp::copy;
use bosun_protocol::{Wire, container_capnp};
use bosun_types::copy::{Copied, CopyIn, CopyOut, FileInfo};
use bosun_types::{Error, Result};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::containers::Container;
use crate::failure::{Failure, answer};
use crate::incoming::Incoming;
use crate::sink::Sink;
use crate::upload::{CHUNKS_BUFFERED_MAX, chunks};

type Outcome = oneshot::Receiver<Result<Copied>>;

impl Container {
    /// What is at a path of its root, whether it runs or not. `follow`: behind a symbolic link at its end.
    ///
    /// # Errors
    /// NotFound: no such container, nothing at that path.
    pub async fn stat_path(&self, path: &str, follow: bool) -> Result<FileInfo> {
        let (namespace, id, path) = (self.namespace.clone(), self.id.clone(), path.to_owned());
        self.driver
            .call(move |session| async move {
                let mut call = session.scope(&namespace).container(&id).stat_path_request();
                call.get().set_path(path.as_str());
                call.get().set_follow(follow);
                answer!(results, call);
                Ok(FileInfo::read(results.get_info()?)?)
            })
            .await
    }

    /// Reads what is at a path as a tar stream: of a container that runs what its processes see, of another what its root file system holds.
    /// Dropping the stream ends the copy.
    pub async fn copy_out(&self, request: CopyOut) -> Result<CopyStream> {
        let (namespace, id) = (self.namespace.clone(), self.id.clone());
        let (items, receiver) = mpsc::channel(CHUNKS_BUFFERED_MAX);
        let sink = Sink::new(items);
        let ended = sink.ended();
        let (sender, outcome) = oneshot::channel();
        self.driver
            .open(move |session| async move {
                let mut call = session.scope(&namespace).container(&id).copy_out_request();
                request.write(call.get().init_request());
                call.get().set_sink(capnp_rpc::new_client(sink));
                answer!(results, call);
                tokio::task::spawn_local(wait_for(results.get_copy()?, sender));
                Ok(())
            })
            .await?;
        Ok(CopyStream { bytes: Incoming::new(receiver), ended, outcome: Some(outcome) })
    }

    /// Puts a tar stream into a directory that exists. Write the stream to what this returns, then finish it. A container that does not run takes
    /// it into its root file system; what it would mount while it runs is not there then.
    ///
    /// # Errors
    /// NotFound: no such container.
    pub async fn copy_in(&self, request: CopyIn) -> Result<CopySink> {
        let (namespace, id) = (self.namespace.clone(), self.id.clone());
        let (chunk_sender, chunk_receiver) = mpsc::channel(CHUNKS_BUFFERED_MAX);
        let (sender, outcome) = oneshot::channel();
        self.driver
            .open(move |session| async move {
                let mut call = session.scope(&namespace).container(&id).copy_in_request();
                request.write(call.get().init_request());
                answer!(results, call);
                let (sink, copy) = (results.get_sink()?, results.get_copy()?);
                tokio::task::spawn_local(feed(sink, copy, chunk_receiver, sender));
                Ok(())
            })
            .await?;
        Ok(CopySink { chunks: chunk_sender, outcome })
    }
}

/// A copy that is being read.
///
/// ```no_run
#[doc = include_str!("../examples/tour/copies.rs")]
/// ```
pub struct CopyStream {
    bytes: Incoming<Bytes>,
    ended: Arc<AtomicBool>,
    outcome: Option<Outcome>,
}

impl CopyStream {
    /// The next part of the tar stream; `None` once all of it came.
    ///
    /// # Errors
    /// Why the copy failed; what came so far is not all.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(chunk) = self.bytes.next().await {
            return chunk.map(Some);
        }
        if let Some(outcome) = self.outcome.take() {
            outcome.await.unwrap_or_else(|_| Err(lost()))?;
        }
        if self.ended.load(Ordering::SeqCst) { Ok(None) } else { Err(lost()) }
    }
}

/// A copy that is being written. Dropping it before [`CopySink::finish`] ends the copy; what was unpacked stays.
pub struct CopySink {
    chunks: mpsc::Sender<Bytes>,
    outcome: Outcome,
}

impl CopySink {
    /// Writes a part of the tar stream; waits while the daemon is behind. `false`: the copy has failed, [`Self::finish`] says why.
    pub async fn write(&mut self, bytes: Bytes) -> bool {
        for chunk in chunks(bytes) {
            if self.chunks.send(chunk).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Says that the stream is complete, and waits until all of it is there.
    ///
    /// # Errors
    /// Why the copy failed.
    pub async fn finish(mut self) -> Result<Copied> {
        // An empty chunk is the end: a channel that is only dropped is not.
        let _ = self.chunks.send(Bytes::new()).await;
        (&mut self.outcome).await.unwrap_or_else(|_| Err(lost()))
    }
}

fn lost() -> Error {
    Error::unavailable("the connection was lost in the middle of a copy").with_hint("try again")
}

async fn waited(copy: &copy::Client) -> Result<Copied, Failure> {
    answer!(results, copy.wait_request());
    Ok(Copied::read(results.get_copied()?)?)
}

async fn wait_for(copy: container_capnp::copy::Client, outcome: oneshot::Sender<Result<Copied>>) {
    // Nobody asks any more.
    let _ = outcome.send(waited(&copy).await.map_err(Failure::into_error));
}

async fn feed(
    sink: byte_sink::Client,
    copy: copy::Client,
    mut chunks: mpsc::Receiver<Bytes>,
    outcome: oneshot::Sender<Result<Copied>>,
) {
    let sent: Result<bool, Failure> = async {
        while let Some(chunk) = chunks.recv().await {
            if chunk.is_empty() {
                answer!(_results, sink.end_request());
                return Ok(true);
            }
            let mut request = sink.write_request();
            request.get().set_bytes(&chunk);
            request.send().await?;
        }
        Ok(false)
    }
    .await;
    drop(chunks);
    // A stream that broke says little: the copy itself knows why it failed.
    let whole = match sent {
        Ok(false) => return,
        Ok(true) => Ok(()),
        Err(failure) => Err(failure),
    };
    let told = match (waited(&copy).await, whole) {
        (Err(Failure::Lost(_)), Err(failure)) => Err(failure.into_error()),
        (outcome, _) => outcome.map_err(Failure::into_error),
    };
    let _ = outcome.send(told);
}
