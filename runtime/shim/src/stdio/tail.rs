//! The last output of a process, and who reads it live: a pure value; the event loop moves bytes in and frames out.
//!
//! All readers share one buffer of chunks. A reader is a place in it: what was dropped before a reader came by, it missed. Nobody's slowness costs memory
//! beyond the buffer; whether it costs the process time is the reader's choice ([`Overflow`]).

use std::collections::VecDeque;

use bosun_types::Timestamp;
use bosun_types::shim::OutputFrame;
use bosun_types::stdio::{AttachFrom, OutputStream, Overflow};

use super::CHUNK_BYTES;

/// Bytes kept for those who attach later.
const REPLAY_BYTES_MAX: usize = 64 << 10;
/// Bytes kept while somebody reads.
const WINDOW_BYTES_MAX: usize = 256 << 10;
/// Chunks kept: each costs a little beside its bytes.
const CHUNKS_MAX: usize = 1024;
/// Readers of one process.
const READERS_MAX: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub struct Tail {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Number of the first chunk.
    first: u64,
    /// Bytes that were written before it.
    dropped: u64,
    last_stamp: Timestamp,
    readers: Vec<Reader>,
    ended: bool,
}

/// What one read of the process's pipe gave, or several when nobody was reading.
#[derive(Debug)]
struct Chunk {
    stream: OutputStream,
    bytes: Vec<u8>,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Debug)]
struct Reader {
    connection: u64,
    overflow: Overflow,
    /// Number of the chunk to be given next.
    next: u64,
    /// Bytes of it to leave out: more than was asked for.
    skip: usize,
    /// So many bytes, written from then to then.
    missed: Option<(u64, Timestamp, Timestamp)>,
    over: bool,
}

impl Tail {
    /// A stamp for the next bytes, later than all before: log and buffer are matched by it.
    pub fn stamp(&mut self, now: Timestamp) -> Timestamp {
        self.last_stamp = Timestamp(now.0.max(self.last_stamp.0.saturating_add(1)));
        self.last_stamp
    }

    /// Takes bytes that were read at `at`.
    pub fn push(&mut self, stream: OutputStream, at: Timestamp, bytes: &[u8]) {
        self.bytes += bytes.len();
        match self.chunks.back_mut() {
            // Small writes are put together while nobody can have seen the chunk.
            Some(last)
                if self.readers.is_empty()
                    && last.stream == stream
                    && last.bytes.len() + bytes.len() <= CHUNK_BYTES =>
            {
                last.bytes.extend_from_slice(bytes);
                last.last = at;
            }
            _ => self.chunks.push_back(Chunk { stream, bytes: bytes.to_vec(), first: at, last: at }),
        }
        let limit = if self.readers.is_empty() { REPLAY_BYTES_MAX } else { WINDOW_BYTES_MAX };
        while self.bytes > limit || self.chunks.len() > CHUNKS_MAX {
            self.drop_oldest();
        }
    }

    /// Whether taking one more chunk would cost a reader who wants to lose nothing.
    pub fn is_full(&self) -> bool {
        let blocking = self.readers.iter().filter(|it| it.overflow == Overflow::Block);
        let Some(slowest) = blocking.map(|it| it.next).min() else { return false };
        let taken = usize::try_from(slowest - self.first).unwrap_or(usize::MAX);
        let wanted = self.chunks.iter().skip(taken);
        let bytes: usize = wanted.clone().map(|it| it.bytes.len()).sum();
        bytes + CHUNK_BYTES > WINDOW_BYTES_MAX || wanted.len() >= CHUNKS_MAX
    }

    /// Adds a reader; the position of what it will be given or told first. `None`: there are too many.
    pub fn attach(&mut self, connection: u64, from: AttachFrom, overflow: Overflow) -> Option<u64> {
        if self.readers.len() >= READERS_MAX {
            return None;
        }
        let written = self.dropped + self.bytes as u64;
        let position = match from {
            AttachFrom::Replay(bytes) => written.saturating_sub(u64::from(bytes)).max(self.dropped),
            AttachFrom::Position(position) => position.min(written),
        };
        let gone = self.dropped.saturating_sub(position);
        // When that was is not known any more: an empty range of time, so that no log is asked for it.
        let missed = (gone > 0).then_some((gone, Timestamp(1), Timestamp(0)));
        let (mut next, mut skip) = (self.first, usize::try_from(position.saturating_sub(self.dropped)).ok()?);
        for chunk in &self.chunks {
            if skip < chunk.bytes.len() {
                break;
            }
            skip -= chunk.bytes.len();
            next += 1;
        }
        self.readers.push(Reader { connection, overflow, next, skip, missed, over: false });
        Some(position)
    }

    /// Removes a reader; whether there was one.
    pub fn detach(&mut self, connection: u64) -> bool {
        let before = self.readers.len();
        self.readers.retain(|it| it.connection != connection);
        while self.readers.is_empty() && self.bytes > REPLAY_BYTES_MAX {
            self.drop_oldest();
        }
        self.readers.len() != before
    }

    /// Who reads.
    pub fn readers(&self) -> Vec<u64> {
        self.readers.iter().map(|it| it.connection).collect()
    }

    /// The next frame for a reader; `None`: nothing yet, or nothing any more.
    pub fn next(&mut self, connection: u64) -> Option<OutputFrame> {
        let reader = self.readers.iter_mut().find(|it| it.connection == connection)?;
        if let Some((bytes, first, last)) = reader.missed.take() {
            return Some(OutputFrame::Missed { bytes, first, last });
        }
        let place = usize::try_from(reader.next - self.first).unwrap_or(usize::MAX);
        if let Some(chunk) = self.chunks.get(place) {
            let skip = std::mem::take(&mut reader.skip);
            reader.next += 1;
            return Some(OutputFrame::Bytes { stream: chunk.stream, bytes: chunk.bytes[skip..].to_vec() });
        }
        if !self.ended || reader.over {
            return None;
        }
        reader.over = true;
        Some(OutputFrame::End)
    }

    /// Nothing will follow.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    fn drop_oldest(&mut self) {
        let Some(chunk) = self.chunks.pop_front() else { return };
        self.bytes -= chunk.bytes.len();
        self.dropped += chunk.bytes.len() as u64;
        for reader in self.readers.iter_mut().filter(|it| it.next == self.first) {
            let lost = (chunk.bytes.len() - std::mem::take(&mut reader.skip)) as u64;
            reader.missed = Some(match reader.missed {
                None => (lost, chunk.first, chunk.last),
                Some((bytes, first, last)) if first > last => (bytes + lost, first, last),
                Some((bytes, first, _)) => (bytes + lost, first, chunk.last),
            });
            reader.next += 1;
        }
        self.first += 1;
    }
}

#[cfg(test)]
mod tests;
