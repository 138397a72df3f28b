//! The pass itself: two threads with a bounded queue between them.
//!
//! ```text
//! thread 1: source ─ hash, keep ─ inflate ─ hash ──queue of chunks──▶ thread 2 (the caller's): untar
//! ```
//!
//! Inflating costs about as much as writing files, so two threads make the best of two processors. Either end may stop
//! first: closing the queue stops the other, so a failure never leaves a thread waiting (CVE-2021-20291).

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use sha2::{Digest as _, Sha256};

use super::tee::Tee;
use super::{LayerError, LayerOutcome};
use crate::archive::{self, ArchiveError, UnpackOptions, UnpackReport};
use crate::compression::{CompressionLimits, Decompressor};
use crate::content::Ingest;

/// Size of an uncompressed chunk, in bytes.
const CHUNK_BYTES: usize = 128 << 10;
/// Chunks between the threads: 1 MiB in flight for each layer.
const CHUNKS_MAX: usize = 8;

/// Digest and number of all uncompressed bytes; `None` when the other side wanted no more.
type Inflated = io::Result<Option<(Digest, u64)>>;

pub(super) fn run(
    source: impl Read + Send,
    ingest: Option<Ingest>,
    descriptor: &Descriptor,
    target: Option<(&Path, &UnpackOptions)>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<LayerOutcome, LayerError> {
    let mut tee = Tee::new(source, ingest, descriptor, progress)?;
    let Some((target, options)) = target else {
        let inflated = inflate(&mut tee, CompressionLimits::default(), Chunk::new(), Some);
        return conclude(descriptor, tee, inflated, None);
    };
    let limits = options.compression;
    let (sender, receiver) = sync_channel(CHUNKS_MAX);
    let (returned, spare) = sync_channel(CHUNKS_MAX + 2);
    let (inflated, unpacked) = std::thread::scope(|scope| {
        let inflating = scope.spawn(|| inflate(&mut tee, limits, Chunk::new(), queue(sender, spare)));
        let chunks = Chunks { receiver, returned, current: Chunk::empty(), position: 0 };
        // The queue is dropped with the call, be it a failure: then the other thread stops.
        let unpacked = archive::unpack_buffered(chunks, target, options);
        match inflating.join() {
            Ok(inflated) => (inflated, unpacked),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    conclude(descriptor, tee, inflated, Some(unpacked))
}

/// Uncompressed bytes on their way from one thread to the other.
struct Chunk {
    bytes: Box<[u8]>,
    length: usize,
}

impl Chunk {
    fn new() -> Self {
        Self { bytes: vec![0; CHUNK_BYTES].into_boxed_slice(), length: 0 }
    }

    fn empty() -> Self {
        Self { bytes: Box::default(), length: 0 }
    }
}

/// Hands a chunk over and gives the next one to fill; `None` when the other side wants no more.
fn queue(sender: SyncSender<Chunk>, spare: Receiver<Chunk>) -> impl FnMut(Chunk) -> Option<Chunk> {
    move |chunk| {
        sender.send(chunk).ok()?;
        Some(spare.try_recv().unwrap_or_else(|_| Chunk::new()))
    }
}

/// Reads everything: bytes after the archive's end are part of both digests.
fn inflate(
    source: &mut impl Read,
    limits: CompressionLimits,
    mut chunk: Chunk,
    mut pass_on: impl FnMut(Chunk) -> Option<Chunk>,
) -> Inflated {
    let mut decompressor = Decompressor::new(source, limits)?;
    let mut hash = Sha256::new();
    let mut size = 0;
    loop {
        chunk.length = fill(&mut decompressor, &mut chunk.bytes)?;
        if chunk.length == 0 {
            return Ok(Some((Digest::from_bytes(hash.finalize().into()), size)));
        }
        hash.update(&chunk.bytes[..chunk.length]);
        size += chunk.length as u64;
        match pass_on(chunk) {
            Some(next) => chunk = next,
            None => return Ok(None),
        }
    }
}

/// Reads until the buffer is full or nothing comes any more.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Decides what the pass came to. The way of the bytes is judged before their meaning: bytes that were cut or are not the
/// promised ones explain every later failure.
fn conclude<R: Read>(
    descriptor: &Descriptor,
    mut tee: Tee<'_, R>,
    inflated: Inflated,
    unpacked: Option<Result<UnpackReport, ArchiveError>>,
) -> Result<LayerOutcome, LayerError> {
    let digest = descriptor.digest;
    if let Some(failure) = tee.take_failure() {
        return Err(tee.give_up(failure));
    }
    let unpacked = unpacked.transpose();
    let failure = match (inflated, unpacked) {
        (Ok(Some((diff_id, size_plain))), Ok(unpacked)) => {
            let (digest, size) = tee.finish()?;
            return Ok(LayerOutcome { digest, size, diff_id, size_plain, unpacked });
        }
        // This host failed, not the bytes: those so far stay for the next try.
        (_, Err(error)) if !error.is_about_the_bytes() => {
            return Err(LayerError::Unpack { digest, source: error });
        }
        (Err(source), _) => ArchiveError::Read { source },
        (_, Err(error)) => error,
        (Ok(None), Ok(_)) => ArchiveError::Read { source: io::ErrorKind::BrokenPipe.into() },
    };
    // The bytes are to blame: are they the promised ones? If so they are kept, and the layer itself is bad.
    tee.drain();
    tee.finish()?;
    Err(LayerError::Unpack { digest, source: failure })
}

/// The untarring side of the queue.
struct Chunks {
    receiver: Receiver<Chunk>,
    /// Used chunks go back, so that memory is allocated once.
    returned: SyncSender<Chunk>,
    current: Chunk,
    position: usize,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.length
            && let Ok(next) = self.receiver.recv()
        {
            let used = std::mem::replace(&mut self.current, next);
            self.position = 0;
            if !used.bytes.is_empty() {
                let _ = self.returned.try_send(used);
            }
        }
        Ok(&self.current.bytes[self.position..self.current.length])
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}
