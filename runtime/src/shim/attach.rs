//! A connection that only reads a process's live output. Nothing is read ahead: who takes slowly makes the shim keep, not us.

use std::path::Path;
use std::time::Duration;

use bosun_types::shim::codec::encode_frame;
use bosun_types::shim::{FromShim, OutputFrame, Request, Response, ToShim};
use bosun_types::stdio::AttachRequest;
use bosun_types::{Error, ErrorClass, ExecId};
use tokio::io::AsyncWriteExt as _;

use super::connection::{Greeted, greet, read_frame};
use crate::error::{Context as _, Result};

/// The only request of the connection.
const REQUEST_ID: u64 = 1;

/// An attached reader; dropped, it is detached.
pub struct Attachment {
    connection: Greeted,
    position: u64,
}

impl Attachment {
    /// Attaches to init (`None`) or an exec of the task in `directory`.
    pub async fn open(
        directory: &Path,
        nonce: &str,
        exec: Option<ExecId>,
        request: AttachRequest,
        deadline: Duration,
    ) -> Result<Self> {
        match tokio::time::timeout(deadline, attach(directory, nonce, exec, request)).await {
            Ok(attached) => attached,
            Err(_) => {
                let message = format!("the shim of task {nonce} does not answer within {deadline:?}");
                Err(Error::new(ErrorClass::DeadlineExceeded, message).into())
            }
        }
    }

    /// How many bytes the process had written before what comes first.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next piece; waits for it. After [`OutputFrame::End`] nothing follows. Unavailable: the shim has gone.
    pub async fn next(&mut self) -> Result<OutputFrame> {
        loop {
            match read_frame(&mut self.connection.read).await {
                Ok(Some(FromShim::Output(frame))) => return Ok(frame),
                // Exits are told on every connection; the task hears of them on its own.
                Ok(Some(FromShim::Notice(_))) => {}
                Ok(Some(other)) => {
                    return Err(Error::internal(format!("an attached shim sent {other:?}")).into());
                }
                Ok(None) => return Err(Error::unavailable("the shim closed the connection").into()),
                Err(why) => return Err(Error::unavailable(why).into()),
            }
        }
    }
}

async fn attach(
    directory: &Path,
    nonce: &str,
    exec: Option<ExecId>,
    request: AttachRequest,
) -> Result<Attachment> {
    let mut connection = greet(directory, nonce).await?;
    let AttachRequest { from, overflow } = request;
    let request = Request::Attach { exec, from, overflow };
    let frame = encode_frame(&ToShim::Request { id: REQUEST_ID, request })?;
    connection.write.write_all(&frame).await.context(|| "ask the shim to attach".into())?;
    loop {
        match read_frame(&mut connection.read).await {
            Ok(Some(FromShim::Reply { result, .. })) => {
                return match result? {
                    Response::Attached { position } => Ok(Attachment { connection, position }),
                    other => Err(Error::internal(format!("the shim answered {other:?} to Attach")).into()),
                };
            }
            Ok(Some(FromShim::Notice(_))) => {}
            Ok(Some(other)) => return Err(Error::internal(format!("the shim answered {other:?}")).into()),
            Ok(None) => return Err(Error::unavailable("the shim closed the connection").into()),
            Err(why) => return Err(Error::unavailable(why).into()),
        }
    }
}
