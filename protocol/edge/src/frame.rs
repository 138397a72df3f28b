//! Watches the bytes of a connection for message frames, before the RPC layer acts on them: a peer that claims more than it
//! may send is cut off before anything is allocated for it, one that begins a message and stops is cut off in time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Most segments in one message; the reference implementation has the same limit.
const SEGMENTS_MAX: u32 = 512;

/// Limits of one connection's incoming messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameLimits {
    pub(crate) message_bytes_max: u64,
    pub(crate) handshake: Duration,
    pub(crate) stall: Duration,
}

/// Where the byte stream stands. The frame: segment count less one, the size of each segment in words, all 32-bit little
/// endian, padded to a word; then the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the segment count.
    Count { word: u32, bytes: u8 },
    /// In the sizes: those left, the total so far, bytes of padding behind them.
    Sizes { left: u32, total: u64, padding: u8, word: u32, bytes: u8 },
    /// In the padding or the segments.
    Body { left: u64 },
}

const START: Place = Place::Count { word: 0, bytes: 0 };

/// Counts through frames.
#[derive(Debug)]
pub(crate) struct Frames {
    place: Place,
    whole: u64,
    message_bytes_max: u64,
}

impl Frames {
    pub(crate) const fn new(message_bytes_max: u64) -> Self {
        Self { place: START, whole: 0, message_bytes_max }
    }

    /// Between two messages.
    pub(crate) fn is_idle(&self) -> bool {
        self.place == START
    }

    /// Whole messages so far.
    pub(crate) const fn whole(&self) -> u64 {
        self.whole
    }

    /// Takes the next bytes; an error is a peer that does not speak this protocol or claims too much.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if let Place::Body { left } = self.place {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[taken..];
                self.enter_body(left - taken as u64);
                continue;
            }
            let (byte, rest) = (bytes[0], &bytes[1..]);
            bytes = rest;
            self.header_byte(byte)?;
        }
        Ok(())
    }

    fn header_byte(&mut self, byte: u8) -> io::Result<()> {
        match self.place {
            Place::Count { word, bytes } => {
                let word = word | u32::from(byte) << (8 * u32::from(bytes));
                if bytes < 3 {
                    self.place = Place::Count { word, bytes: bytes + 1 };
                    return Ok(());
                }
                let segments = word.checked_add(1).filter(|segments| *segments <= SEGMENTS_MAX);
                let segments = segments
                    .ok_or_else(|| refuse(format!("a message claims {} segments", u64::from(word) + 1)))?;
                let padding = if segments.is_multiple_of(2) { 4 } else { 0 };
                self.place = Place::Sizes { left: segments, total: 0, padding, word: 0, bytes: 0 };
            }
            Place::Sizes { left, total, padding, word, bytes } => {
                let word = word | u32::from(byte) << (8 * u32::from(bytes));
                if bytes < 3 {
                    self.place = Place::Sizes { left, total, padding, word, bytes: bytes + 1 };
                    return Ok(());
                }
                let total = total + u64::from(word) * 8;
                if total > self.message_bytes_max {
                    let max = self.message_bytes_max;
                    return Err(refuse(format!("a message claims {total} bytes, at most {max} are allowed")));
                }
                if left > 1 {
                    self.place = Place::Sizes { left: left - 1, total, padding, word: 0, bytes: 0 };
                } else {
                    self.enter_body(total + u64::from(padding));
                }
            }
            Place::Body { .. } => {}
        }
        Ok(())
    }

    fn enter_body(&mut self, left: u64) {
        if left == 0 {
            self.place = START;
            self.whole += 1;
        } else {
            self.place = Place::Body { left };
        }
    }
}

fn refuse(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A reader that ends with an error when the peer breaks the frame rules.
pub(crate) struct Framed<R> {
    inner: R,
    frames: Frames,
    limits: FrameLimits,
    progress: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<R> Framed<R> {
    pub(crate) fn new(inner: R, limits: FrameLimits) -> Self {
        let timer = Box::pin(tokio::time::sleep(limits.handshake));
        Self { inner, frames: Frames::new(limits.message_bytes_max), limits, progress: Instant::now(), timer }
    }

    /// How long the peer may stay silent now; `None`: as long as it likes.
    fn patience(&self) -> Option<Duration> {
        if self.frames.whole() == 0 {
            Some(self.limits.handshake)
        } else if self.frames.is_idle() {
            None
        } else {
            Some(self.limits.stall)
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Framed<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(outcome) = Pin::new(&mut self.inner).poll_read(context, buffer) {
            outcome?;
            let this = &mut *self;
            this.frames.advance(&buffer.filled()[before..])?;
            // A peer must not stretch its first message by a byte at a time.
            if this.frames.whole() > 0 {
                this.progress = Instant::now();
            }
            return Poll::Ready(Ok(()));
        }
        let Some(patience) = self.patience() else { return Poll::Pending };
        let deadline = self.progress + patience;
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        ready!(self.timer.as_mut().poll(context));
        let why = if self.frames.whole() == 0 { "no whole first message" } else { "a message stands still" };
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, format!("{why} after {patience:?}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(segments: &[usize]) -> Vec<u8> {
        let mut bytes = u32::try_from(segments.len() - 1).expect("few").to_le_bytes().to_vec();
        for words in segments {
            bytes.extend(u32::try_from(*words).expect("small").to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.resize(bytes.len() + segments.iter().sum::<usize>() * 8, 7);
        bytes
    }

    #[test]
    fn frames_are_followed_however_they_are_cut() {
        let stream: Vec<u8> =
            [&[1][..], &[0], &[2, 3], &[1, 0, 4], &[9, 9, 9, 9]].iter().flat_map(|s| message(s)).collect();
        for piece in [1, 2, 3, 7, 8, 64, stream.len()] {
            let mut frames = Frames::new(1 << 20);
            for part in stream.chunks(piece) {
                frames.advance(part).expect("well formed");
            }
            assert!(frames.is_idle(), "pieces of {piece}");
            assert_eq!(frames.whole(), 5, "pieces of {piece}");
        }
    }

    #[test]
    fn claims_are_refused_before_their_bytes_come() {
        let sixty_mebibytes = [0u32.to_le_bytes(), (60u32 << 17).to_le_bytes()].concat();
        for bytes in [&sixty_mebibytes[..], b"GET / HTTP/1.1\r\n", &[0xff; 8], &1000u32.to_le_bytes()] {
            assert!(Frames::new(4 << 20).advance(bytes).is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_first_message_that_never_comes_ends_the_connection() {
        let (mine, theirs) = tokio::io::duplex(64);
        let limits = FrameLimits {
            message_bytes_max: 4 << 20,
            handshake: Duration::from_millis(20),
            stall: Duration::from_secs(30),
        };
        let mut framed = Framed::new(theirs, limits);
        let mut buffer = [0; 8];
        let read = tokio::io::AsyncReadExt::read(&mut framed, &mut buffer).await;
        assert_eq!(read.expect_err("times out").kind(), io::ErrorKind::TimedOut);
        drop(mine);
    }
}
