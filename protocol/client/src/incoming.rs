//! A stream of things from the daemon, with a bounded buffer; and how one is fed from a cursor over lost connections.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bosun_types::{Error, ErrorClass, Result};
use tokio::sync::{mpsc, oneshot};

use crate::driver::{Connector, Driver, WAIT_PAUSE};
use crate::failure::Failure;
use crate::session::Session;

/// Items buffered between the private thread and the reader. Behind it the daemon is simply not asked for more.
const ITEMS_BUFFERED_MAX: usize = 256;

/// Items from the daemon, in order. An error is the last item. Dropping it ends the reading at the daemon too.
#[derive(Debug)]
pub struct Incoming<T> {
    receiver: mpsc::Receiver<Result<T>>,
}

impl<T> Incoming<T> {
    pub(crate) fn new(receiver: mpsc::Receiver<Result<T>>) -> Self {
        Self { receiver }
    }

    /// The next item; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<T>> {
        self.receiver.recv().await
    }
}

impl<T> futures::Stream for Incoming<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

/// Something that is read through a cursor, and can be taken up again where it was on a new connection.
pub(crate) trait Feed: Send + 'static {
    type Item: Send + 'static;
    type Cursor: 'static;

    /// Opens the cursor, behind what was read before.
    fn open(&mut self, session: &Session) -> impl Future<Output = Result<Self::Cursor, Failure>>;

    /// Asks for the next items, at least one; `true`: nothing will follow.
    fn next(
        &mut self,
        cursor: &Self::Cursor,
    ) -> impl Future<Output = Result<(Vec<Self::Item>, bool), Failure>>;
}

/// Opens the feed and returns once it is open; from then on nothing is missed.
pub(crate) async fn follow<F: Feed>(driver: &Driver, feed: F) -> Result<Incoming<F::Item>> {
    let (items, receiver) = mpsc::channel(ITEMS_BUFFERED_MAX);
    let (opened, is_open) = oneshot::channel();
    driver.spawn(move |connector| pump(connector, feed, opened, items))?;
    is_open.await.map_err(|_| Error::unavailable("the client's thread has ended"))??;
    Ok(Incoming::new(receiver))
}

async fn pump<F: Feed>(
    connector: Rc<Connector>,
    mut feed: F,
    opened: oneshot::Sender<Result<()>>,
    items: mpsc::Sender<Result<F::Item>>,
) {
    let mut opened = Some(opened);
    let mut lost: Option<Instant> = None;
    loop {
        let outcome = tokio::select! {
            () = items.closed() => return,
            outcome = pump_connection(&connector, &mut feed, &mut opened, &items) => outcome,
        };
        match (outcome, opened.take()) {
            (Ok(()), _) => return,
            // The first opening is the caller's to repeat; later ones are ours.
            (Err(failure), Some(opened)) => {
                let _ = opened.send(Err(failure.into_error()));
                return;
            }
            (Err(Failure::Lost(_)), None) => lost = Some(Instant::now()),
            // A daemon that has just come back finds again, one after the other, what it had before.
            (Err(Failure::Answer(error)), None)
                if error.class == ErrorClass::Unavailable
                    && lost.is_some_and(|at| at.elapsed() < connector.patience()) =>
            {
                tokio::time::sleep(WAIT_PAUSE).await;
            }
            (Err(Failure::Answer(error)), None) => {
                let _ = items.send(Err(error)).await;
                return;
            }
        }
    }
}

async fn pump_connection<F: Feed>(
    connector: &Rc<Connector>,
    feed: &mut F,
    opened: &mut Option<oneshot::Sender<Result<()>>>,
    items: &mpsc::Sender<Result<F::Item>>,
) -> Result<(), Failure> {
    let session = connector.session().await?;
    let outcome = async {
        let cursor = feed.open(&session).await?;
        if let Some(opened) = opened.take() {
            // The caller may have left; the loop around sees it.
            let _ = opened.send(Ok(()));
        }
        loop {
            let (batch, end) = feed.next(&cursor).await?;
            for item in batch {
                if items.send(Ok(item)).await.is_err() {
                    return Ok(());
                }
            }
            if end {
                return Ok(());
            }
        }
    }
    .await;
    if matches!(outcome, Err(Failure::Lost(_))) {
        connector.forget(&session);
    }
    outcome
}
