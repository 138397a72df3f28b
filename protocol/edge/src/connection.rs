//! One peer: who it is, what it may do, and what it holds. Every call passes through here: access, budget, audit, span, panic fence.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::future::Future;
use std::hash::BuildHasher as _;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;

use bosun_actors::audit::{AuditEntry, AuditHandle, Caller};
use bosun_actors::call::{CallsHandle, within};
use bosun_protocol::convert::read_parsed;
use bosun_types::access::{Access, Reach};
use bosun_types::call::{CallId, CallRecord};
use bosun_types::{CallKey, Error, NamespaceName};
use futures::FutureExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::options::EdgeLimits;
use crate::policy::{Effect, effect, same_again};

tokio::task_local! {
    /// What a call has learnt of its subject while it runs.
    static ABOUT: RefCell<Option<String>>;
}

/// Says what the audited call under way is about, where only its request knows: the id of something new.
pub(crate) fn about(subject: impl Display) {
    // Outside of an audited call nobody asks.
    let _ = ABOUT.try_with(|about| *about.borrow_mut() = Some(subject.to_string()));
}

/// Who connected, through which socket, and what that lets it do.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// As the kernel says.
    pub(crate) caller: Caller,
    /// `Some`: this namespace alone.
    pub(crate) namespace: Option<NamespaceName>,
    pub(crate) access: Access,
}

impl Peer {
    /// As the peer may know it.
    pub(crate) fn reach(&self) -> Reach {
        let Caller { uid, pid, .. } = self.caller;
        Reach { namespace: self.namespace.clone(), access: self.access, uid, pid }
    }

    /// The only refusal that rests on who asks.
    fn refuse_change(&self, method: &str) -> Option<Error> {
        (self.access == Access::ReadOnly).then(|| {
            Error::permission_denied(format!("{method}: this socket is read-only"))
                .with_hint("use the daemon's socket, or have one made without --read-only")
        })
    }
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
    audit: AuditHandle,
    /// `None`: keys mean nothing.
    keyed: Option<CallsHandle>,
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

/// A caller that waits for an answer; one that leaves, by a cancelled call, a deadline or a lost connection, is told in the log with what becomes of its call.
struct Asked {
    connection: u64,
    method: &'static str,
    then: &'static str,
    waits: bool,
}

impl Asked {
    const fn by(connection: u64, method: &'static str, then: &'static str) -> Self {
        Self { connection, method, then, waits: true }
    }

    async fn until<T>(mut self, answer: impl Future<Output = T>) -> T {
        let answer = answer.await;
        self.waits = false;
        answer
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.waits {
            tracing::debug!(
                connection = self.connection,
                method = self.method,
                "left by its caller: {}",
                self.then
            );
        }
    }
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
    pub(crate) fn new(
        number: u64,
        peer: Peer,
        audit: AuditHandle,
        keyed: Option<CallsHandle>,
        limits: EdgeLimits,
        gauges: Arc<Gauges>,
    ) -> Rc<Self> {
        Rc::new(Self {
            number,
            peer,
            audit,
            keyed,
            limits,
            gauges,
            calls: Cell::new(0),
            waits: Cell::new(0),
            capabilities: Cell::new(0),
            bulk_bytes: Cell::new(0),
        })
    }

    /// Who it is.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// See [`Held::call`].
    async fn call<T: 'static>(
        self: &Rc<Self>,
        number: u64,
        method: &'static str,
        subject: &str,
        work: impl Future<Output = Result<T, Fault>> + 'static,
    ) -> Result<Result<T, Error>, capnp::Error> {
        self.refuse_while_draining()?;
        let permit = take(&self.calls, 1, self.limits.calls_in_flight, "calls in flight")?;
        let entry = match self.admit(method, subject) {
            Ok(entry) => entry,
            Err(error) => return Ok(Err(error)),
        };
        let this = Rc::clone(self);
        // The permit's count goes back when the work ends, not when the caller leaves.
        std::mem::forget(permit);
        let mut work = Box::pin(async move {
            let _permit = Permit { counter: &this.calls, amount: 1 };
            let _running = Running::begin(&this.gauges);
            match entry {
                None => this.fenced(number, method, work).await,
                Some(entry) => this.audited(number, method, entry, work).await,
            }
        });
        // As far as it goes at once, so that calls that came in order reach their actors in order.
        match std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            Poll::Ready(outcome) => Ok(outcome),
            Poll::Pending => Asked::by(self.number, method, "its work goes on")
                .until(tokio::task::spawn_local(work))
                .await
                .map_err(|_| capnp::Error::disconnected("the daemon is shutting down".to_owned())),
        }
    }

    /// See [`Held::wait`].
    async fn wait<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Error>, capnp::Error> {
        debug_assert_ne!(effect(method), Effect::Changes, "{method} waits: it is read-only or feeds");
        self.refuse_while_draining()?;
        let _permit = take(&self.waits, 1, self.limits.waits_in_flight, "waits in flight")?;
        if let (Effect::Feeds | Effect::Changes, Some(error)) =
            (effect(method), self.peer.refuse_change(method))
        {
            return Ok(Err(error));
        }
        Ok(Asked::by(self.number, method, "it ends").until(self.fenced(next_call(), method, work)).await)
    }

    /// Whether the peer may, and the audit log's entry for what changes something. A refusal for want of access is recorded as well.
    fn admit(&self, method: &str, subject: &str) -> Result<Option<AuditEntry>, Error> {
        let effect = effect(method);
        if effect == Effect::Reads {
            return Ok(None);
        }
        let refused = self.peer.refuse_change(method);
        if effect == Effect::Feeds && refused.is_none() {
            return Ok(None);
        }
        let entry = self.audit.begin(&self.peer.caller, method, subject)?;
        match refused {
            None => Ok(Some(entry)),
            Some(error) => {
                entry.end::<()>(&Err(error.clone()));
                Err(error)
            }
        }
    }

    /// A call whose entry is ended with it.
    async fn audited<T>(
        &self,
        number: u64,
        method: &'static str,
        mut entry: AuditEntry,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Error> {
        ABOUT
            .scope(RefCell::new(None), async {
                let outcome = self.fenced(number, method, work).await;
                if let Some(subject) = ABOUT.with(RefCell::take) {
                    entry.about(&subject);
                }
                entry.end(&outcome);
                outcome
            })
            .await
    }

    fn bulk(&self, bytes: usize) -> Result<Permit<'_>, capnp::Error> {
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
        number: u64,
        method: &'static str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Error> {
        let span = tracing::info_span!(
            "call",
            id = %format_args!("{number:016x}"),
            method,
            connection = self.number,
            uid = self.peer.caller.uid,
            pid = self.peer.caller.pid
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

/// Hexadecimal digits of a call's number.
const NUMBER_DIGITS: usize = 16;

/// What a client calls a call is its number, so that it is one in the client's log too: the first digits of a key that is one number.
fn number_of(key: &CallKey) -> Option<u64> {
    key.as_str().get(..NUMBER_DIGITS).and_then(|digits| u64::from_str_radix(digits, 16).ok())
}

/// Numbers calls: unlike those of an earlier life of the daemon, so that one number in old and new logs is one call.
fn next_call() -> u64 {
    static FIRST: LazyLock<u64> =
        LazyLock::new(|| std::hash::RandomState::new().hash_one(std::process::id()));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    FIRST.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

/// What a repetition is told of a call that answers nothing.
pub(crate) async fn nothing(_: CallRecord) -> Result<(), Error> {
    Ok(())
}

/// A capability that this connection holds, and what it is about; counted while it lives.
pub(crate) struct Held {
    connection: Rc<Connection>,
    /// `<namespace>/<container>/<exec>`, as far as the capability reaches down; empty for the daemon.
    subject: String,
    /// Calls through it have this idempotency key.
    key: Option<Key>,
}

/// An idempotency key, and whether the call was made before.
#[derive(Debug, Clone)]
struct Key {
    key: CallKey,
    again: bool,
}

impl Held {
    /// The bootstrap capability.
    pub(crate) fn first(connection: &Rc<Connection>) -> Result<Self, capnp::Error> {
        let permit = take(&connection.capabilities, 1, connection.limits.capabilities, "capabilities held")?;
        std::mem::forget(permit);
        Ok(Self { connection: Rc::clone(connection), subject: String::new(), key: None })
    }

    /// Counts one more, got from `parent`; an exception over the limit, so that it reaches whoever pipelined on it.
    pub(crate) fn new(parent: &Self) -> Result<Self, capnp::Error> {
        let mut held = Self::first(&parent.connection)?;
        held.subject.clone_from(&parent.subject);
        held.key.clone_from(&parent.key);
        Ok(held)
    }

    /// The call was made before, and its answer was lost.
    pub(crate) fn is_again(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.again)
    }

    /// One more, the same for calls with that key.
    pub(crate) fn keyed(
        &self,
        key: capnp::Result<capnp::text::Reader<'_>>,
        again: bool,
    ) -> Result<Result<Self, Error>, capnp::Error> {
        let mut held = Self::new(self)?;
        Ok(read_parsed(key).map(|key| {
            held.key = Some(Key { key, again });
            held
        }))
    }

    /// It is of one thing below what its parent is of.
    #[must_use]
    pub(crate) fn about(mut self, part: impl Display) -> Self {
        use std::fmt::Write as _;
        let separator = if self.subject.is_empty() { "" } else { "/" };
        // A String takes whatever is written.
        let _ = write!(self.subject, "{separator}{part}");
        self
    }

    /// Runs a call that does work. It is finished even if the caller leaves: a handle's future is never dropped half way.
    /// One that was made before, by its key, waits for recovery, which may be finishing or taking back what the first began.
    /// The outer error is an RPC exception: overload, or the daemon stops.
    pub(crate) async fn call<T: 'static>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Fault>> + 'static,
    ) -> Result<Result<T, Error>, capnp::Error> {
        debug_assert!(
            effect(method) != Effect::Changes || same_again(method).is_some() || self.id_of(method).is_none(),
            "{method}: a change is done once for each key, or listed as the same when repeated"
        );
        self.run(method, work).await
    }

    async fn run<T: 'static>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Fault>> + 'static,
    ) -> Result<Result<T, Error>, capnp::Error> {
        let repeated = self.connection.keyed.clone().filter(|_| self.is_again());
        // Boxed here, or each layer around it would have it on the stack once more.
        let work = Box::pin(work);
        let settled = async move {
            if let Some(calls) = repeated {
                calls.recovered().await;
            }
            work.await
        };
        let number = self.key.as_ref().and_then(|key| number_of(&key.key)).unwrap_or_else(next_call);
        self.connection.call(number, method, &self.subject, settled).await
    }

    /// As [`Self::call`] for what changes something, done once for each key: a repetition is answered by `known`, out of what is remembered of the first. The
    /// first commit of `work` that logs no intent is the one that does it; whatever it commits before that is not of the call (`bosun_actors::call`).
    pub(crate) async fn once<T, K>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Fault>> + 'static,
        known: impl FnOnce(CallRecord) -> K + 'static,
    ) -> Result<Result<T, Error>, capnp::Error>
    where
        T: 'static,
        K: Future<Output = Result<T, Error>> + 'static,
    {
        let (Some(id), Some(calls)) = (self.id_of(method), self.connection.keyed.clone()) else {
            return self.run(method, work).await;
        };
        let (work, known) = (Box::pin(work), Box::new(known));
        let turned = async move {
            let _turn = calls.turn(&id).await;
            match calls.done(&id)? {
                Some(record) => Ok(Box::pin(known(record)).await?),
                None => {
                    let done = within(Some(id.clone()), work).await?;
                    calls.unanswered(&id)?;
                    Ok(done)
                }
            }
        };
        self.run(method, turned).await
    }

    /// The call, if it has a key that means something here.
    fn id_of(&self, method: &str) -> Option<CallId> {
        self.connection.keyed.as_ref()?;
        let Key { key, .. } = self.key.clone()?;
        Some(CallId { key, method: method.to_owned(), subject: self.subject.clone() })
    }

    /// As [`Self::wait`] for what feeds a process: done once for each key, as its shim remembers.
    pub(crate) async fn feed<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Error>, capnp::Error> {
        debug_assert_eq!(effect(method), Effect::Feeds, "{method}");
        let (id, calls) = (self.id_of(method), self.connection.keyed.clone());
        let fed = async move {
            let done = within(id.clone(), work).await?;
            if let (Some(id), Some(calls)) = (id, calls) {
                calls.unanswered(&id)?;
            }
            Ok(done)
        };
        self.connection.wait(method, fed).await
    }

    /// Runs a call that only waits: for an exit, for the next event. It ends when the caller leaves, and a drain does not
    /// wait for it.
    pub(crate) async fn wait<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Error>, capnp::Error> {
        self.connection.wait(method, work).await
    }

    /// Takes room for bulk bytes; given back on drop.
    pub(crate) fn bulk(&self, bytes: usize) -> Result<Permit<'_>, capnp::Error> {
        self.connection.bulk(bytes)
    }

    /// Whose it is.
    pub(crate) fn peer(&self) -> &Peer {
        self.connection.peer()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = &self.connection.capabilities;
        held.set(held.get() - 1);
    }
}

#[cfg(test)]
mod tests;
