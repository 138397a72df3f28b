//! Live output and input of a process. Neither asks the actor for what flows: output comes on a connection of its own to the shim, so that a reader who
//! takes slowly delays no verb. Survives nothing: whoever reads attaches again, with as much of the past as it wants.

use std::path::PathBuf;

use bosun_types::shim::{OutputFrame, Request};
use bosun_types::stdio::{
    AttachRecord, AttachRequest, LogRecord, LogRequest, Overflow, STDIN_WRITE_BYTES_MAX, Stdio,
};
use bosun_types::{Error, ExecId, Result, Timestamp};
use tokio::sync::mpsc;

use super::{TaskHandle, TaskMessage, WAIT_DEADLINE, record};
use crate::core::Shared;
use crate::operation;
use crate::ports::Attached;

/// Live output of a process.
pub struct AttachStream {
    /// How many bytes the process had written before the first record.
    pub position: u64,
    /// They end when the process has ended and everything was taken; an error is the last item.
    pub records: mpsc::Receiver<Result<AttachRecord>>,
}

impl TaskHandle {
    /// Reads the output of init or an exec from now on, after what is kept of it. FailedPrecondition: it is not made yet, or its output goes nowhere.
    /// ResourceExhausted: it has too many readers.
    pub async fn attach(&self, exec: Option<ExecId>, request: AttachRequest) -> Result<AttachStream> {
        let stdio = match &exec {
            None => self.info().await?.stdio,
            Some(exec) => self.exec_info(exec).await?.stdio,
        };
        let Some(record) = record(&self.core, &self.namespace, &self.container)? else {
            return Err(Error::not_found(format!("container {} has no task", self.container)));
        };
        let attached = operation::ask(&operation::ATTACH, || {
            self.core.host.attach(&record.nonce, exec.clone(), request)
        })
        .await;
        let Attached { position, frames } =
            attached.map_err(|error| error.context(format!("task {}", self.container)))?;
        let (sender, records) = mpsc::channel(1);
        let log = SpillLog::new(&self.core, request.overflow, &stdio);
        tokio::spawn(translate(frames, log, sender));
        Ok(AttachStream { position, records })
    }

    /// Writes to the standard input of init or an exec; answers when the process's pipe has taken all of it, however long that takes. FailedPrecondition:
    /// clients do not write it, or it is closed.
    pub async fn write_stdin(&self, exec: Option<ExecId>, bytes: Vec<u8>) -> Result<()> {
        if bytes.len() > STDIN_WRITE_BYTES_MAX {
            let message = format!("{} bytes for standard input at once", bytes.len());
            return Err(Error::invalid_argument(message)
                .with_hint(format!("write at most {STDIN_WRITE_BYTES_MAX} bytes at a time")));
        }
        let request = Request::WriteStdin { exec, bytes };
        self.ask(|reply| TaskMessage::Pass(request, reply), WAIT_DEADLINE).await?.map(drop)
    }
}

/// Makes records of frames; what was missed is read from the log, where there is one.
async fn translate(
    mut frames: mpsc::Receiver<Result<OutputFrame>>,
    mut log: Option<SpillLog>,
    records: mpsc::Sender<Result<AttachRecord>>,
) {
    loop {
        let frame = tokio::select! {
            () = records.closed() => return,
            frame = frames.recv() => frame,
        };
        let sent = match frame {
            None | Some(Ok(OutputFrame::End)) => return,
            Some(Err(error)) => records.send(Err(error)).await.is_ok(),
            Some(Ok(OutputFrame::Bytes { stream, bytes })) => {
                records.send(Ok(AttachRecord::Output { stream, bytes })).await.is_ok()
            }
            Some(Ok(OutputFrame::Missed { bytes, first, last })) => {
                let found = match &mut log {
                    Some(log) if first <= last => log.give(bytes, first, last, &records).await,
                    _ => 0,
                };
                let gone = bytes.saturating_sub(found);
                gone == 0 || records.send(Ok(AttachRecord::Missed(gone))).await.is_ok()
            }
        };
        if !sent {
            return;
        }
    }
}

/// Where a reader that falls behind finds what it missed. It is read once from end to end, for the gaps come in the order of time.
struct SpillLog {
    core: Shared,
    path: PathBuf,
    reading: Option<mpsc::Receiver<Result<LogRecord>>>,
    /// Time of the last record that was read, and how many records of that time were.
    place: (Timestamp, usize),
    /// Read, and later than the last gap.
    ahead: Option<LogRecord>,
}

impl SpillLog {
    fn new(core: &Shared, overflow: Overflow, stdio: &Stdio) -> Option<Self> {
        let log = stdio.log.as_ref().filter(|_| overflow == Overflow::Spill)?;
        let path = PathBuf::from(&log.path);
        Some(Self { core: core.clone(), path, reading: None, place: (Timestamp(0), 0), ahead: None })
    }

    /// Gives the log's records of this time; how many bytes they were. The shim stamps log and live output alike, and never twice the same.
    async fn give(
        &mut self,
        bytes: u64,
        first: Timestamp,
        last: Timestamp,
        records: &mpsc::Sender<Result<AttachRecord>>,
    ) -> u64 {
        let mut found = 0;
        if self.place.0 < first {
            self.place = (first, 0);
        }
        while found < bytes
            && let Some(line) = self.next().await
        {
            if line.at > last {
                self.ahead = Some(line);
                break;
            }
            if line.at < first {
                continue;
            }
            found += line.bytes.len() as u64;
            let record = AttachRecord::Output { stream: line.stream, bytes: line.bytes };
            if records.send(Ok(record)).await.is_err() {
                break;
            }
        }
        found
    }

    /// The next record; `None` when there is none now.
    async fn next(&mut self) -> Option<LogRecord> {
        if let Some(line) = self.ahead.take() {
            return Some(line);
        }
        if let Some(line) = Self::receive(&mut self.reading, &mut self.place).await {
            return Some(line);
        }
        // That was the end when it was opened: what was written since is behind the place.
        let (since, mut known) = self.place;
        let request = LogRequest { since: Some(since), ..LogRequest::default() };
        let done = Box::pin(std::future::ready(()));
        self.reading = Some(self.core.host.logs(self.path.clone(), request, done));
        let mut place = (since, 0);
        loop {
            let line = Self::receive(&mut self.reading, &mut place).await?;
            if line.at > since || known == 0 {
                self.place = place;
                return Some(line);
            }
            known -= 1;
        }
    }

    async fn receive(
        reading: &mut Option<mpsc::Receiver<Result<LogRecord>>>,
        place: &mut (Timestamp, usize),
    ) -> Option<LogRecord> {
        match reading.as_mut()?.recv().await {
            Some(Ok(line)) => {
                *place = if line.at == place.0 { (line.at, place.1 + 1) } else { (line.at, 1) };
                Some(line)
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a log that live output was spilled to cannot be read");
                *reading = None;
                None
            }
            None => {
                *reading = None;
                None
            }
        }
    }
}
