//! Copies between the caller's streams and a FIFO set.

use std::path::Path;

use bosun_types::error::class_of_io;
use bosun_types::{Error, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fifo::Fifos;

/// Buffer of each copy, in bytes (IO-2).
const COPY_BYTES: usize = 32 << 10;

/// Running copies of one process's streams. Dropping it stops them and removes the FIFOs.
pub struct Pump {
    /// Our own ends, held until the shim has opened its own: without them the output copies would see an end at once, and
    /// input that ends early would be lost with the last one who holds its FIFO.
    keepers: Vec<pipe::Sender>,
    outputs: Vec<JoinHandle<std::io::Result<()>>>,
    input: Option<JoinHandle<()>>,
    input_ended: watch::Receiver<bool>,
    _fifos: Fifos,
}

impl Pump {
    /// Opens this side of the FIFOs and begins to copy. Call before the task is created.
    ///
    /// A stream that is `None` although its FIFO exists is read and thrown away.
    pub fn attach<I, O, E>(
        fifos: Fifos,
        stdin: Option<I>,
        stdout: Option<O>,
        stderr: Option<E>,
    ) -> Result<Self>
    where
        I: AsyncRead + Unpin + Send + 'static,
        O: AsyncWrite + Unpin + Send + 'static,
        E: AsyncWrite + Unpin + Send + 'static,
    {
        let ends = fifos.ends();
        let (mut keepers, mut outputs) = (Vec::new(), Vec::new());
        if ends.stdout {
            let receiver = open_output(&fifos.stdout(), &mut keepers)?;
            outputs.push(spawn_output(receiver, stdout));
        }
        if ends.stderr {
            let receiver = open_output(&fifos.stderr(), &mut keepers)?;
            outputs.push(spawn_output(receiver, stderr));
        }
        let (ended, input_ended) = watch::channel(!ends.stdin);
        let input = match stdin {
            Some(stdin) if ends.stdin => {
                let sender = open_input(&fifos.stdin())?;
                keepers.push(open_input(&fifos.stdin())?);
                Some(tokio::spawn(async move {
                    // The reader's end is the process's: it may leave at any time, which is no error here.
                    let _ = copy(stdin, sender).await;
                    ended.send_replace(true);
                }))
            }
            _ => {
                ended.send_replace(true);
                None
            }
        };
        Ok(Self { keepers, outputs, input, input_ended, _fifos: fifos })
    }

    /// Call when the process has started, or will never: from now on the end of its output is seen.
    pub fn started(&mut self) {
        self.keepers.clear();
    }

    /// Resolves when the caller's input has ended: time to close the process's standard input.
    pub async fn input_ended(&self) {
        let mut ended = self.input_ended.clone();
        // The sender goes only after it said so, or with the copy itself.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Resolves when the process's output has ended and every byte of it was written.
    pub async fn drained(mut self) -> Result<()> {
        self.keepers.clear();
        let mut outcome = Ok(());
        for output in std::mem::take(&mut self.outputs) {
            let copied = output.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            if let Err(error) = copied {
                outcome = Err(Error::new(class_of_io(&error), format!("cannot write the output: {error}")));
            }
        }
        outcome
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        for output in &self.outputs {
            output.abort();
        }
        if let Some(input) = &self.input {
            input.abort();
        }
    }
}

fn refuse(path: &Path, error: &std::io::Error) -> Error {
    Error::new(class_of_io(error), format!("cannot open {}: {error}", path.display()))
}

/// The reading end, and a writing end that keeps it from ending early.
fn open_output(path: &Path, keepers: &mut Vec<pipe::Sender>) -> Result<pipe::Receiver> {
    let receiver = pipe::OpenOptions::new().open_receiver(path).map_err(|error| refuse(path, &error))?;
    keepers.push(pipe::OpenOptions::new().open_sender(path).map_err(|error| refuse(path, &error))?);
    Ok(receiver)
}

/// The writing end. Opened for both ways, because a FIFO that nobody reads yet cannot be opened for writing alone.
fn open_input(path: &Path) -> Result<pipe::Sender> {
    pipe::OpenOptions::new().read_write(true).open_sender(path).map_err(|error| refuse(path, &error))
}

fn spawn_output<O>(receiver: pipe::Receiver, output: Option<O>) -> JoinHandle<std::io::Result<()>>
where
    O: AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        match output {
            Some(output) => copy(receiver, output).await,
            None => copy(receiver, tokio::io::sink()).await,
        }
    })
}

/// Copies to the end, flushing whatever there is: a terminal's reader waits for a prompt, not for a full buffer.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.flush().await;
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
    }
}
