//! One peer: who it is, and what it holds. Every call passes through here: budget, span, panic fence.

use std::cell::Cell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bosun_types::Error;
use futures::FutureExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::options::EdgeLimits;

/// Who connected, as the kernel says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) pid: i32,
}

/// What all connections share.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    calls: AtomicUsize,
    connections: AtomicUsize,
    /// Told whenever a call ends while the edge drains.
    pub(crate) idle: Notify,
    /// New calls are refused from here on.
    pub(crate) draining: CancellationToken,
    /// Everything ends.
    pub(crate) stopped: CancellationToken,
}

impl Gauges {
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

/// Counts one connection while it lives.
#[derive(Debug)]
pub(crate) struct ConnectionCount(Arc<Gauges>);

impl ConnectionCount {
    /// `None` over the limit.
    pub(crate) fn take(gauges: &Arc<Gauges>, limit: usize) -> Option<Self> {
        let before = gauges.connections.fetch_add(1, Ordering::AcqRel);
        let count = Self(Arc::clone(gauges));
        (before < limit).then_some(count)
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why a call gives no value: a domain error for the `error` field.
pub(crate) struct Fault(pub(crate) Error);

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<capnp::Error> for Fault {
    fn from(error: capnp::Error) -> Self {
        Self(bosun_protocol::convert::malformed(&error))
    }
}

/// One connection.
pub(crate) struct Connection {
    number: u64,
    peer: Peer,
    limits: EdgeLimits,
    gauges: Arc<Gauges>,
    calls: Cell<usize>,
    waits: Cell<usize>,
    capabilities: Cell<usize>,
    bulk_bytes: Cell<usize>,
}

/// Takes from a counter, gives back on drop.
pub(crate) struct Permit<'a> {
    counter: &'a Cell<usize>,
    amount: usize,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.counter.set(self.counter.get() - self.amount);
    }
}

fn take<'a>(
    counter: &'a Cell<usize>,
    amount: usize,
    limit: usize,
    what: &str,
) -> Result<Permit<'a>, capnp::Error> {
    let after = counter.get() + amount;
    if after > limit {
        return Err(capnp::Error::overloaded(format!("{what}: this connection's limit is {limit}")));
    }
    counter.set(after);
    Ok(Permit { counter, amount })
}

/// Counts a call of all connections together, for the drain.
struct Running<'a>(&'a Gauges);

impl<'a> Running<'a> {
    fn begin(gauges: &'a Gauges) -> Self {
        gauges.calls.fetch_add(1, Ordering::AcqRel);
        Self(gauges)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
        if self.0.draining.is_cancelled() {
            self.0.idle.notify_waiters();
        }
    }
}

impl Connection {
    pub(crate) fn new(number: u64, peer: Peer, limits: EdgeLimits, gauges: Arc<Gauges>) -> Rc<Self> {
        Rc::new(Self {
            number,
            peer,
            limits,
            gauges,
            calls: Cell::new(0),
            waits: Cell::new(0),
            capabilities: Cell::new(0),
            bulk_bytes: Cell::new(0),
        })
    }

    /// Runs a call that does work. It is finished even if the caller leaves: a handle's future is never dropped half way.
    /// The outer error is an RPC exception: overload, or the daemon stops.
    pub(crate) async fn call<T: 'static>(
        self: &Rc<Self>,
        method: &'static str,
        work: impl Future<Output = Result<T, Fault>> + 'static,
    ) -> Result<Result<T, Error>, capnp::Error> {
        self.refuse_while_draining()?;
        let permit = take(&self.calls, 1, self.limits.calls_in_flight, "calls in flight")?;
        let this = Rc::clone(self);
        // The permit's count goes back when the work ends, not when the caller leaves.
        std::mem::forget(permit);
        let mut work = Box::pin(async move {
            let _permit = Permit { counter: &this.calls, amount: 1 };
            let _running = Running::begin(&this.gauges);
            this.fenced(method, work).await
        });
        // As far as it goes at once, so that calls that came in order reach their actors in order.
        match std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            Poll::Ready(outcome) => Ok(outcome),
            Poll::Pending => tokio::task::spawn_local(work)
                .await
                .map_err(|_| capnp::Error::disconnected("the daemon is shutting down".to_owned())),
        }
    }

    /// Runs a call that only waits: for an exit, for the next event. It ends when the caller leaves, and a drain does not
    /// wait for it.
    pub(crate) async fn wait<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Error>, capnp::Error> {
        self.refuse_while_draining()?;
        let _permit = take(&self.waits, 1, self.limits.waits_in_flight, "waits in flight")?;
        Ok(self.fenced(method, work).await)
    }

    /// Takes room for bulk bytes; given back on drop.
    pub(crate) fn bulk(&self, bytes: usize) -> Result<Permit<'_>, capnp::Error> {
        take(&self.bulk_bytes, bytes, self.limits.bulk_bytes_in_flight, "bulk bytes in flight")
    }

    fn refuse_while_draining(&self) -> Result<(), capnp::Error> {
        if self.gauges.draining.is_cancelled() {
            // To a client this is a connection to make again, on the next daemon.
            return Err(capnp::Error::disconnected("the daemon is shutting down".to_owned()));
        }
        Ok(())
    }

    /// A span around it, and a panic ends this call alone: unfenced it would end the whole connection.
    async fn fenced<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Error> {
        let span = tracing::info_span!(
            "call",
            method,
            connection = self.number,
            uid = self.peer.uid,
            pid = self.peer.pid
        );
        let begun = std::time::Instant::now();
        async {
            let outcome = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(outcome) => outcome.map_err(|Fault(error)| error),
                Err(panic) => {
                    let text = panic_text(panic.as_ref());
                    tracing::error!(panic = text, "call panicked");
                    Err(Error::internal(format!("{method}: the daemon has a bug: {text}"))
                        .with_hint("the daemon goes on; please report this"))
                }
            };
            let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            match &outcome {
                Ok(_) => tracing::debug!(micros, "done"),
                Err(error) => tracing::debug!(micros, %error, "refused"),
            }
            outcome
        }
        .instrument(span)
        .await
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

/// A capability that this connection holds; counted while it lives.
pub(crate) struct Held {
    connection: Rc<Connection>,
}

impl Held {
    /// Counts one more; an exception over the limit, so that it reaches whoever pipelined on it.
    pub(crate) fn new(connection: &Rc<Connection>) -> Result<Self, capnp::Error> {
        let permit = take(&connection.capabilities, 1, connection.limits.capabilities, "capabilities held")?;
        std::mem::forget(permit);
        Ok(Self { connection: Rc::clone(connection) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = &self.connection.capabilities;
        held.set(held.get() - 1);
    }
}

impl std::ops::Deref for Held {
    type Target = Rc<Connection>;

    fn deref(&self) -> &Rc<Connection> {
        &self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Rc<Connection> {
        let peer = Peer { uid: 0, pid: 1 };
        Connection::new(1, peer, EdgeLimits::default(), Arc::new(Gauges::default()))
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_call_alone() {
        let connection = connection();
        let work = async {
            if connection.number == 1 {
                panic!("a bug");
            }
            Ok(())
        };
        let outcome = connection.wait("test", work).await.expect("no exception");
        let error = outcome.expect_err("a panic");
        assert_eq!(error.class, bosun_types::ErrorClass::Internal);
        assert!(error.message.contains("a bug"), "{error}");
        assert_eq!(connection.waits.get(), 0, "counted back");
    }

    #[tokio::test]
    async fn work_goes_on_when_its_caller_leaves() {
        let connection = connection();
        let local = tokio::task::LocalSet::new();
        let gauges = Arc::clone(&connection.gauges);
        local
            .run_until(async {
                let (go, gone) = tokio::sync::oneshot::channel::<()>();
                let done = Rc::new(Cell::new(false));
                let mark = Rc::clone(&done);
                let call = connection.call("test", async move {
                    let _ = gone.await;
                    mark.set(true);
                    Ok(())
                });
                let left = tokio::time::timeout(std::time::Duration::from_millis(1), call).await;
                assert!(left.is_err());
                assert_eq!((gauges.calls(), connection.calls.get()), (1, 1));
                go.send(()).expect("the work goes on");
                while !done.get() {
                    tokio::task::yield_now().await;
                }
                tokio::task::yield_now().await;
                assert_eq!((gauges.calls(), connection.calls.get()), (0, 0));
            })
            .await;
    }

    #[tokio::test]
    async fn bulk_bytes_are_counted_and_given_back() {
        let connection = connection();
        let most = connection.limits.bulk_bytes_in_flight;
        let room = connection.bulk(most).expect("room");
        assert!(connection.bulk(1).is_err());
        drop(room);
        assert!(connection.bulk(1).is_ok());
    }
}
