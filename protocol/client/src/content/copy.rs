//! From a source into an ingest: waiting for its turn, going on where it was left, once more after a lost connection (CON-10, CON-23, CON-24).

use std::future::Future;
use std::io::SeekFrom;
use std::time::Duration;

use bosun_types::error::class_of_io;
use bosun_types::{Digest, Error, ErrorClass, Labels, Result};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, AsyncSeekExt as _};

use super::{Content, ContentWriter};

/// Read at a time, in bytes.
const COPY_BYTES: usize = 1 << 20;
/// First and longest pause before a locked ingest is tried again (CON-10).
const LOCKED_PAUSE: Duration = Duration::from_millis(16);
const LOCKED_PAUSE_MAX: Duration = Duration::from_millis(2048);
/// How often a write goes on after a lost connection without having got further.
const LOST_MAX: u32 = 3;

impl Content {
    /// As [`Content::writer`], and waits while another writer has the ingest open, with growing pauses, up to the call deadline (CON-10).
    ///
    /// # Errors
    /// The lock's Unavailable when the time is over, and those of [`Content::writer`].
    pub async fn open_writer(
        &self,
        reference: String,
        total: u64,
        expected: Option<Digest>,
    ) -> Result<ContentWriter> {
        let (begun, mut pause) = (std::time::Instant::now(), LOCKED_PAUSE);
        loop {
            match self.writer(reference.clone(), total, expected).await {
                Err(error) if error.class == ErrorClass::Unavailable => {
                    if begun.elapsed() + pause > self.driver.call_deadline() {
                        return Err(error);
                    }
                }
                outcome => return outcome,
            }
            self.driver.pause(pause).await?;
            pause = (pause * 2).min(LOCKED_PAUSE_MAX);
        }
    }

    /// Stores what the source gives from its beginning as one blob. It goes on where an earlier try ended, also when the daemon is restarted in the middle. A
    /// blob that is here already is success, without reading the source (CON-24).
    ///
    /// # Errors
    /// FailedPrecondition: other bytes than promised. Those of the source.
    pub async fn write_blob(
        &self,
        reference: String,
        mut source: impl AsyncRead + AsyncSeek + Unpin,
        size: u64,
        expected: Option<Digest>,
        labels: Labels,
    ) -> Result<()> {
        let (mut lost, mut furthest) = (0, 0);
        loop {
            let mut writer = match self.open_writer(reference.clone(), size, expected).await {
                Err(error) => return known_is_fine(Err(error)),
                Ok(writer) => writer,
            };
            if writer.offset() > furthest {
                (lost, furthest) = (0, writer.offset());
            }
            let outcome = match writer.copy_from_seekable(&mut source).await {
                Ok(()) => writer.commit(size, expected, labels.clone()).await.map(drop),
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.class == ErrorClass::Unavailable && lost < LOST_MAX => lost += 1,
                outcome => return known_is_fine(outcome),
            }
        }
    }
}

fn known_is_fine(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.class == ErrorClass::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

impl ContentWriter {
    /// Appends what the source gives. The source is at its beginning: what is written already is read and dropped (CON-23).
    pub async fn copy_from(&mut self, source: &mut (impl AsyncRead + Unpin)) -> Result<()> {
        let written = self.offset();
        let dropped = tokio::io::copy(&mut (&mut *source).take(written), &mut tokio::io::sink()).await;
        let dropped = dropped.map_err(|error| of_source(&error))?;
        if dropped < written {
            return Err(Error::out_of_range(format!(
                "the source ends at {dropped}, {written} bytes are written"
            )));
        }
        self.append(source).await
    }

    /// As [`Self::copy_from`], but skips.
    pub async fn copy_from_seekable(
        &mut self,
        source: &mut (impl AsyncRead + AsyncSeek + Unpin),
    ) -> Result<()> {
        source.seek(SeekFrom::Start(self.offset())).await.map_err(|error| of_source(&error))?;
        self.append(source).await
    }

    /// As [`Self::copy_from`], of a source that can be opened at an offset, such as a range of a download.
    pub async fn copy_from_offset<R, F>(&mut self, open: impl FnOnce(u64) -> F) -> Result<()>
    where
        R: AsyncRead + Unpin,
        F: Future<Output = std::io::Result<R>>,
    {
        let mut source = open(self.offset()).await.map_err(|error| of_source(&error))?;
        self.append(&mut source).await
    }

    async fn append(&mut self, source: &mut (impl AsyncRead + Unpin)) -> Result<()> {
        loop {
            let mut buffer = BytesMut::with_capacity(COPY_BYTES);
            while buffer.len() < COPY_BYTES {
                if source.read_buf(&mut buffer).await.map_err(|error| of_source(&error))? == 0 {
                    break;
                }
            }
            if buffer.is_empty() {
                return Ok(());
            }
            self.write(buffer.freeze()).await?;
        }
    }
}

fn of_source(error: &std::io::Error) -> Error {
    Error::new(class_of_io(error), format!("cannot read the source: {error}"))
}
