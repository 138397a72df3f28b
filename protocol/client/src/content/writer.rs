//! An open ingest of a client: a command queue to the private thread, which holds the capability.

use bosun_protocol::convert::{pair_count, write_pairs};
use bosun_protocol::{Wire, content_capnp};
use bosun_types::content::{ContentRecord, IngestStatus};
use bosun_types::{Digest, Error, Labels, Result};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::driver::Driver;
use crate::failure::{Failure, answer};
use crate::upload::chunks;

/// An ingest being written. Dropping it keeps what was written, for a later writer.
pub struct ContentWriter {
    driver: Driver,
    offset: u64,
    commands: mpsc::Sender<Command>,
}

pub(super) enum Command {
    Write(Bytes),
    Restart,
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
    pub(super) fn new(driver: Driver, offset: u64, commands: mpsc::Sender<Command>) -> Self {
        Self { driver, offset, commands }
    }

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

    /// Begins again: what was written is forgotten.
    pub async fn restart(&mut self) -> Result<()> {
        self.commands.send(Command::Restart).await.map_err(|_| ended())?;
        self.offset = 0;
        Ok(())
    }

    /// What the daemon has, with the digest so far.
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
        // It counts as any other call does.
        let _permit = self.driver.permit().await;
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
pub(super) async fn serve(
    writer: content_capnp::content_writer::Client,
    mut offset: u64,
    mut commands: mpsc::Receiver<Command>,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Write(bytes) => {
                if is_lost(send(&writer, offset, &bytes).await) {
                    return;
                }
                offset += bytes.len() as u64;
            }
            Command::Restart => {
                // A write of nothing at the beginning (CON-13).
                if is_lost(send(&writer, 0, &[]).await) {
                    return;
                }
                offset = 0;
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

async fn send(
    writer: &content_capnp::content_writer::Client,
    offset: u64,
    bytes: &[u8],
) -> Result<(), capnp::Error> {
    let mut request = writer.write_request();
    request.get().set_offset(offset);
    request.get().set_bytes(bytes);
    request.send().await
}

fn is_lost(outcome: Result<(), capnp::Error>) -> bool {
    matches!(outcome.map_err(Failure::from), Err(Failure::Lost(_)))
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
