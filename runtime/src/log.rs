//! Reads the log files that shims write: CRI lines, rotated (`<path>.1` is older than `<path>`), while they are written.
//!
//! The files are taken as open descriptors and told apart by inode, so that a rotation between two looks neither repeats
//! nor skips a record. A follower waits for inotify, not for time. What a reader holds in memory is one chunk of a file
//! and one bounded channel, however long the log is.

mod files;
mod lines;
mod record;
mod watch;

use std::collections::VecDeque;
use std::path::PathBuf;

use bosun_types::Result;
use bosun_types::stdio::{LogRecord, LogRequest};
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use self::files::{newer_than, open_all};
use self::lines::{LineNumbers, LineReader};
use self::record::Parsed;
use self::watch::Watch;
use crate::error::RuntimeError;

/// Records that may wait for a reader that is slow; then reading waits.
const RECORDS_MAX: usize = 256;

/// Reads the log at `path` (the newest file). With `follow` until `done` resolves and everything was read; `done` must
/// resolve only after the last byte is in the file, as the end of a process does. A log that is not there yet is empty.
/// An error is the last item. Needs a tokio runtime.
pub fn read(
    path: PathBuf,
    request: LogRequest,
    done: BoxFuture<'static, ()>,
) -> mpsc::Receiver<Result<LogRecord>> {
    let (sender, receiver) = mpsc::channel(RECORDS_MAX);
    tokio::spawn(async move {
        let mut output = Output { sender, request, skip_before: 0, lines: LineNumbers::default() };
        if let Err(Stop::Failed(error)) = run(path, &mut output, done).await {
            // If nobody reads any more, nobody needs to know.
            let _ = output.sender.send(Err(error.into())).await;
        }
    });
    receiver
}

/// Why reading ends early.
enum Stop {
    /// The reader has gone.
    Left,
    /// Something is wrong.
    Failed(RuntimeError),
}

impl From<RuntimeError> for Stop {
    fn from(error: RuntimeError) -> Self {
        Self::Failed(error)
    }
}

async fn run(path: PathBuf, output: &mut Output, mut done: BoxFuture<'static, ()>) -> Result<(), Stop> {
    // The watch begins before the first look: what comes between is an event.
    let mut watch = output.request.follow.then(|| Watch::new(&path));
    let mut ended = watch.is_none();
    let mut readers: VecDeque<LineReader> = open_all(&path).await?.into_iter().map(LineReader::new).collect();
    skip_to_tail(&mut readers, output).await?;
    loop {
        // All but the newest are complete.
        while readers.len() > 1 {
            if let Some(mut older) = readers.pop_front() {
                drain(&mut older, output).await?;
            }
        }
        if let Some(newest) = readers.front_mut() {
            drain(newest, output).await?;
        }
        let Some(watch) = &mut watch else { return Ok(()) };
        let current = readers.front().map(LineReader::file);
        let newer = newer_than(&path, current).await?;
        if !newer.is_empty() {
            // Between the last read and the rotation more may have been written; the loop reads that first.
            readers.extend(newer.into_iter().map(LineReader::new));
            continue;
        }
        if ended {
            return Ok(());
        }
        tokio::select! {
            () = &mut done => ended = true,
            () = watch.changed() => {}
            () = output.sender.closed() => return Err(Stop::Left),
        }
    }
}

/// Where records go, and which.
struct Output {
    sender: mpsc::Sender<Result<LogRecord>>,
    request: LogRequest,
    /// Lines with a lower number are left out (`tail_lines`).
    skip_before: u64,
    lines: LineNumbers,
}

impl Output {
    fn is_wanted(&self, record: &LogRecord) -> bool {
        self.request.since.is_none_or(|since| record.at >= since)
    }

    async fn give(&mut self, Parsed { record, whole }: Parsed) -> Result<(), Stop> {
        if !self.is_wanted(&record) || self.lines.number_of(record.stream, whole) < self.skip_before {
            return Ok(());
        }
        self.sender.send(Ok(record)).await.map_err(|_| Stop::Left)
    }
}

async fn drain(reader: &mut LineReader, output: &mut Output) -> Result<(), Stop> {
    loop {
        while let Some(parsed) = reader.next_record() {
            output.give(parsed).await?;
        }
        if !reader.fill().await? {
            return Ok(());
        }
    }
}

/// Finds where the last lines begin, from the newest file back; older files than needed are not even read.
async fn skip_to_tail(readers: &mut VecDeque<LineReader>, output: &mut Output) -> Result<(), Stop> {
    let Some(wanted) = output.request.tail_lines else { return Ok(()) };
    let mut found = 0;
    for index in (0..readers.len()).rev() {
        // Rotation is between whole lines, so each file counts for itself.
        found += count(LineReader::new(readers[index].file().clone()), output).await?;
        if found >= wanted {
            readers.drain(..index);
            output.skip_before = found - wanted;
            return Ok(());
        }
    }
    Ok(())
}

async fn count(mut reader: LineReader, output: &Output) -> Result<u64, Stop> {
    let mut lines = LineNumbers::default();
    loop {
        while let Some(Parsed { record, whole }) = reader.next_record() {
            if output.is_wanted(&record) {
                lines.number_of(record.stream, whole);
            }
        }
        if !reader.fill().await? {
            return Ok(lines.count());
        }
        if output.sender.is_closed() {
            return Err(Stop::Left);
        }
    }
}

async fn on_worker<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(bosun_types::Error::internal(format!("reading a log: {error}")).into()),
    }
}

#[cfg(test)]
mod tests;
