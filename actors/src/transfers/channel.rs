//! Bytes between a blocking worker and whoever is at the other end of a channel.

use std::io::{self, Read, Write};

use bosun_types::Error;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Size of a chunk, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// The archive's bytes in chunks to whoever takes them. Waits for a slow reader, but not after a cancel.
pub(crate) struct Chunks {
    sender: mpsc::Sender<Bytes>,
    cancel: CancellationToken,
    runtime: tokio::runtime::Handle,
    waiting: Vec<u8>,
}

impl Chunks {
    pub(crate) fn new(
        sender: mpsc::Sender<Bytes>,
        cancel: CancellationToken,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { sender, cancel, runtime, waiting: Vec::new() }
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(std::mem::replace(&mut self.waiting, Vec::with_capacity(CHUNK_BYTES)));
        let stopped = |error: Error| io::Error::other(error);
        self.runtime.block_on(async {
            tokio::select! {
                () = self.cancel.cancelled() => Err(stopped(Error::cancelled("the transfer was cancelled"))),
                sent = self.sender.send(chunk) => {
                    sent.map_err(|_| stopped(Error::cancelled("nobody reads the archive any more")))
                }
            }
        })
    }
}

impl Write for Chunks {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = buffer.len().min(CHUNK_BYTES - self.waiting.len());
        self.waiting.extend_from_slice(&buffer[..length]);
        if self.waiting.len() == CHUNK_BYTES {
            self.send()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() { Ok(()) } else { self.send() }
    }
}

/// A channel of chunks as a blocking reader.
pub(crate) struct ChannelReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl ChannelReader {
    pub(crate) fn new(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { receiver, chunk: Bytes::new() }
    }
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk?,
            }
        }
        let count = self.chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

/// Chunks to a reader, until a cancel: then it reads an error, not an end.
pub(crate) async fn pump(
    mut bytes: mpsc::Receiver<Bytes>,
    sender: mpsc::Sender<io::Result<Bytes>>,
    cancel: CancellationToken,
) {
    loop {
        let chunk = tokio::select! {
            chunk = bytes.recv() => chunk.map(Ok),
            () = cancel.cancelled() => Some(Err(io::Error::other("the transfer was cancelled"))),
        };
        let Some(chunk) = chunk else { return };
        let over = chunk.is_err();
        if sender.send(chunk).await.is_err() || over {
            return;
        }
    }
}
